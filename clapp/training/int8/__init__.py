"""Networks in int8."""
