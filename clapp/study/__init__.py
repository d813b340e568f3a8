"""Studies: Optuna is the engine, its storage the only coordination between processes."""
