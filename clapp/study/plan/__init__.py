"""Study files and search spaces, and their validation."""

from clapp.system.moved import moved_names

__getattr__ = moved_names(__name__)
