"""The networks: their families, their costs, and their initial weights."""
