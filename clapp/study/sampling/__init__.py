"""Samplers: which configuration to try next."""
