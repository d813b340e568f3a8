"""What comes before the first search: a study to begin with, schemas, a check of the machine."""
