"""When two configurations train the same network the same way."""

import json
from hashlib import sha256

from clapp.config.schema import Config


def identity(config: Config) -> str:
    """A hash that is equal exactly for configurations that train the same network the same way."""
    document = config.model_dump(mode="json") | {
        "model": config.model.canonical().model_dump(mode="json")
    }
    for name in ("num_runs", "num_parallel_runs", "experiment_name"):
        del document[name]
    for name in (
        "seed",
        "batch_seed",
        "device",
        "num_workers",
        "output_dir",
        "output_log_interval",
    ):
        del document["train"][name]
    for section in ("train_data", "valid_data"):
        del document[section]["token"]
    return sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]
