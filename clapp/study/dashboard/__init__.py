"""Notes, graphs and files of a study for optuna-dashboard."""
