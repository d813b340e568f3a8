"""A study before its workers start: created, found again, extended, set aside."""
