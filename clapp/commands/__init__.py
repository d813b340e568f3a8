"""The command line: one short function for each verb."""
