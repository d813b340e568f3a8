"""A trained model applied to pictures, and compared with the filter."""
