"""Convolutions of few channels on a processor, compiled, for training."""
