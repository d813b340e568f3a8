"""The report of one or several studies: a single, self-contained HTML file."""
