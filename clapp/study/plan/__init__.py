"""A study as written: files, search spaces, and their validation."""
