"""The terminal display of a running study."""
