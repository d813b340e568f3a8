"""The streaming buffer: pictures decoded once, shared by all workers, cut into batches."""

from clapp.system.moved import moved_names

__getattr__ = moved_names(__name__)
