"""The storage of a study: trials, weights, files, locks."""

from clapp.system.moved import moved_names

__getattr__ = moved_names(__name__)
