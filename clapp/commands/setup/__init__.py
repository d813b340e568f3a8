"""Verbs for the time before the first search: write a study, schemas, check the machine."""
