"""Optimisers: Adam, Levenberg-Marquardt."""
