"""The networks of the families, as modules of torch."""
