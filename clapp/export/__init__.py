"""A trained model as files for elsewhere."""
