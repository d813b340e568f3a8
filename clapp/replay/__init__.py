"""CLAPP-Bench: recorded learning curves, on which ways of searching can be compared in seconds."""
