"""Published results: finished studies as small folders, whose models `clapp.load` finds by name."""
