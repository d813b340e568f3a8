"""Helpers that are independent of pictures, networks and studies: files, processes, registries."""
