"""The torch modules of the families."""
