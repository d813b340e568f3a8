"""Targets: the operators that chips and runtimes are known not to support, one data file each."""
