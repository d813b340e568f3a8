"""A trained model as files for elsewhere."""

from clapp.system.moved import moved_names

__getattr__ = moved_names(__name__)
