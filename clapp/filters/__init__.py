"""The classical filters: registry, library, kernels, users' functions, and batches on a device."""

from clapp.system.moved import moved_names

__getattr__ = moved_names(__name__)
