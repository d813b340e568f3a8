"""Trainings repeated from several seeds and compared: `clapp repeat` and `clapp ablate`."""
