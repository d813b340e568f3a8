"""A network as C99: one header and one source that allocate nothing and need no runtime."""
