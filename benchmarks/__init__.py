"""Benchmarks: what CLAPP does beside other ways of doing the same."""
