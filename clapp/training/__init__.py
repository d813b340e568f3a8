"""One training: a configuration in, a trained network out."""
