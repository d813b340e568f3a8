"""Steps before the workers of a study start: create, open, extend or set aside the study."""
