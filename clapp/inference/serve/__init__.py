"""Models behind HTTP: `clapp serve`."""
