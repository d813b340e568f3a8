"""The report of one or several studies: a single HTML file that needs nothing else."""
