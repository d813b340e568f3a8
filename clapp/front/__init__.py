"""From trials to a decision: records, front, hypervolume, picking rules."""

from clapp.system.moved import moved_names

__getattr__ = moved_names(__name__)
