"""Reading pictures over a network."""
