"""Networks quantised to int8."""
