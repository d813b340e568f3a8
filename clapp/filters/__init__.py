"""The classical filters: a registry, kernels, functions of users, and batches on a device."""

from clapp.system.moved import moved_names

__getattr__ = moved_names(__name__)
