"""Pictures that come over a network."""
