"""CLAPP-Bench: recorded learning curves, to compare searches in seconds instead of hours."""
