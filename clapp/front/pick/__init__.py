"""Picking rules: from a front to the one model to use, see `clapp.front.pick.rules`."""
