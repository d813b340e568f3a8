"""What experiments show: plots as a page and as pictures, tables."""
