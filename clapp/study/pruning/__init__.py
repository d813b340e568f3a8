"""What need not be trained to its end, and every other decision about a trial."""
