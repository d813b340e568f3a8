"""The networks: what they are, what they cost, and what their first weights are."""
