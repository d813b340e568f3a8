"""What is kept of a study, and where."""

from clapp.system.moved import moved_names

__getattr__ = moved_names(__name__)
