"""Networks as C99: one header and one source file, without memory allocation or a runtime."""
