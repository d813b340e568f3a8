"""When two configurations train the same network the same way."""

import json
from collections.abc import Iterable
from hashlib import sha256
from importlib import import_module
from typing import Any

from clapp.config.model import ModelConfig
from clapp.config.schema import Config

_REPEATED = "a study trains each configuration once; `clapp repeat` trains what it finds again"
_NAMED = "only `clapp train` and `clapp repeat` use it"
_FOLLOWED = "only `clapp train` uses it"
_FIXED = "the validation set is read once and never changes, so it has no buffer"
_PLACE = "it says where a network is trained, not how"
NO_EFFECT = {
    "num_runs": _REPEATED,
    "num_parallel_runs": _REPEATED,
    "experiment_name": _NAMED,
    "train.output_dir": _NAMED,
    "train.output_log_interval": _FOLLOWED,
    "valid_data.min_buffer": _FIXED,
    "valid_data.max_buffer": _FIXED,
    "valid_data.buffer_delay": _FIXED,
    "valid_data.shuffle_buffer": "the validation set is the first pictures, in their order",
}
"""Keys that have no effect on the trials of a study, with the reason."""
ELSEWHERE = {
    "train.device": _PLACE,
    "train.num_workers": _PLACE,
    "train_data.token": "it is a secret, and gives access to the same pictures",
    "valid_data.token": "it is a secret, and gives access to the same pictures",
}
"""Keys that decide where or with whose rights a network is trained, not what it becomes."""
AFTERWARDS = "test_data"
"""The section of a configuration that no training reads: it may change while a study runs."""
DEFAULT_FAMILY = "filternet"
NEUTRAL = {"schedule": "cosine", "weight_average": None, "clip_gradient": None, "reparam": "none"}
"""Keys that older versions did not have, with the value that behaves as those versions did."""
_SEEDS = ("train.seed", "train.batch_seed")


def identity(config: Config) -> str:
    """A hash that is equal exactly for configurations that train the same network the same way.

    Seeds do not count: the same network from other seeds is a repetition.
    """
    return _hash(essence(config))


def identities(config: Config, models: Iterable[ModelConfig]) -> list[str]:
    """The `identity` of a configuration with each of these models in place of its own."""
    document = essence(config)
    return [_hash(document | {"model": _essence_of(model)}) for model in models]


def _hash(document: dict[str, Any]) -> str:
    return sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def essence(config: Config) -> dict[str, Any]:
    """The part of a configuration that decides about `identity`, as JSON."""
    document = config.model_dump(mode="json") | {"model": _essence_of(config.model)}
    del document[AFTERWARDS]
    for key in (*NO_EFFECT, *ELSEWHERE, *_SEEDS):
        *sections, last = key.split(".")
        place = document
        for section in sections:
            place = place[section]
        place.pop(last, None)
    for key, value in NEUTRAL.items():
        if document["train"][key] == value:
            del document["train"][key]  # so that hashes of older studies stay valid
    # The losses import the configuration.
    canonical_loss = import_module("clapp.training.losses").canonical_loss
    document["train"]["loss_type"] = canonical_loss(document["train"]["loss_type"])
    if document["parameter"] is None:
        del document["parameter"]  # as before filters could be adjusted
    for section in ("train_data", "valid_data"):
        document[section]["target_filter"] = _canonical(document[section]["target_filter"])
    return document


def _essence_of(model: ModelConfig) -> dict[str, Any]:
    document = model.canonical().model_dump(mode="json")
    if document["family"] == DEFAULT_FAMILY:
        del document["family"]  # so that hashes of older studies stay valid
    return document


def _canonical(spec: Any) -> Any:
    """The shortest way to write a filter; the library is imported unless it is a plain name."""
    if spec is None or isinstance(spec, str):
        return spec
    from clapp.filters.library import canonical

    return canonical(spec)
