"""Initial weights of a network from those of a similar, trained one."""
