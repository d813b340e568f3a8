"""CLAPP-Bench: recorded learning curves for comparing searches in seconds instead of hours."""
