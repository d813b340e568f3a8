"""From trials to a decision: records, front, hypervolume, picking rules."""
