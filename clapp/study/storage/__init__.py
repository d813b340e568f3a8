"""What is kept of a study, and where."""
