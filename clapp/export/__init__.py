"""Export of trained models to files that other programs can run."""

from clapp.system.moved import moved_names

__getattr__ = moved_names(__name__)
