"""A study while it runs: the driver, its workers, their trials."""
