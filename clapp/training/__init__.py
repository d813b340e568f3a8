"""One training: a configuration in, a trained network out."""

from clapp.system.moved import moved_names

__getattr__ = moved_names(__name__)
