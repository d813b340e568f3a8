"""Targets: what chips and runtimes are known not to run, one data file each."""
