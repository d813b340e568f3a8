"""Trained models on validation and test pictures: measured once, and kept beside the study.

The test pictures are opened here and nowhere else. What was measured is read on another machine,
where the pictures or the code of the filter may be missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clapp.config import (
    Config,
    HeldBackConfig,
    Layer,
    ValidConfig,
    defaults,
    load_config,
    merge,
    validate,
)
from clapp.errors import ClappError, one_line
from clapp.filters.base import as_unit
from clapp.filters.learned.settings import grid, on_grid, said_of
from clapp.front.optimism import Both, read_measured, read_tested, write_measured
from clapp.images.source import Picture
from clapp.inference.metrics import Edges, Metrics, edges, mean, mean_edges
from clapp.inference.metrics import measure as compare
from clapp.models.build import Network
from clapp.pool.eviction import digest
from clapp.pool.validation import origins, validation_set
from clapp.system.progress import tell
from clapp.training.folder import load_trained
from clapp.training.losses import Spread, spread
from clapp.training.preview import predict
from clapp.training.provenance import source


class Tested(NamedTuple):
    """Losses of models on both sets, by trial, and in words which are missing and why."""

    models: dict[int, Both]
    notes: list[str]


@dataclass(frozen=True)
class Measured:
    """What is known of one model's fidelity.

    Attributes:
        images: pictures to compare files on, uint8 (N, S, S, 3): validation pictures, or packaged
            ones where those are missing.
        metrics: means over the validation pictures; None: they cannot be had here, as `note` says.
        edges: where the targets are binary.
        both: the loss on both sets, now or as measured before; None: never measured.
        at: the metrics at each value of the settings, such as "sigma=0.5".
    """

    images: Picture
    metrics: Metrics | None = None
    edges: Edges | None = None
    both: Both | None = None
    note: str = ""
    at: Mapping[str, Metrics] = field(default_factory=dict)


def measured(folder: Path, number: int, model: Network, config: Config) -> Measured:
    """Measure one trial on validation and test pictures, and keep its losses in `folder`.

    Where pictures, or the code of the filter, are not on this machine, what was measured before
    stands in.
    """
    tell(f"running trial {number} on validation and test pictures")
    try:
        images, targets = validation_set(config.valid_data, config.target_filter, config.parameter)
        pairs = list(zip(predict(model, images), as_unit(targets), strict=True))
        found = [compare(*pair) for pair in pairs]
        points = len(grid(config.settings))
        valid = spread([one.l2 for one in found], origins(config.valid_data, points))
    except ClappError as error:
        packaged = load_config()
        images, _ = validation_set(packaged.valid_data, packaged.target_filter)
        images = on_grid(images, config.settings) if config.settings else images
        note = f"not measured here: {one_line(error)}"
        return Measured(images, both=read_tested(folder).get(number), note=note)
    binary = mean_edges([edges(*pair) for pair in pairs])
    try:
        both: Both | None = Both(valid, losses_on(model, config, config.test_set))
        assert both is not None
        stored = read_measured(folder)
        stored[number] = _sets(config), both
        write_measured(folder, stored)
        note = ""
    except ClappError as error:
        both = read_tested(folder).get(number)
        note = f"not measured on test pictures here: {one_line(error)}"
    at: dict[str, list[Metrics]] = {}
    for image, one in zip(images, found, strict=True) if config.settings else ():
        at.setdefault(said_of(image, config.settings), []).append(one)
    each = {said: mean(some) for said, some in at.items()}
    return Measured(images, mean(found), binary, both, note, each)


def test_data_of(definition: Mapping[str, Any]) -> HeldBackConfig | None:
    """The test set that a study says, from its definition; None: it says none.

    Raises:
        ConfigError: it cannot be used as written.
    """
    said = definition.get("config", {}).get("test_data")
    if not said:
        return None
    values = merge(defaults()["test_data"], said)
    return validate(HeldBackConfig, values, [Layer("study: config.test_data", said)])


def with_test_data(config: Config, test_data: HeldBackConfig | None) -> Config:
    """A configuration with the test set of its study as it is now; None: with its own."""
    return config if test_data is None else config.model_copy(update={"test_data": test_data})


def measure(model: Network, config: Config) -> Both:
    """The loss of a model on the validation and the test pictures of its configuration.

    Raises:
        UserError: pictures cannot be had, or the code of the filter is not here.
    """
    valid = losses_on(model, config, config.valid_data)
    return Both(valid, losses_on(model, config, config.test_set))


def losses_on(model: Network, config: Config, data: ValidConfig) -> Spread:
    """The loss of a model on one set of pictures.

    Raises:
        UserError: see `measure`.
    """
    images, targets = validation_set(data, config.target_filter, config.parameter)
    wanted = as_unit(targets)
    found = []
    for number in range(len(images)):  # one by one: a set may be large
        output = predict(model, images[number : number + 1])[0].astype(np.float64)
        found.append(float(np.mean((output - wanted[number]) ** 2)))
    return spread(found, origins(data, len(grid(config.settings))))


def measure_trials(
    folder: Path, places: Mapping[int, Path], test_data: HeldBackConfig | None
) -> Tested:
    """The losses of trained trials on both sets, as far as they can be had.

    What `folder` holds of an earlier measurement is not measured again while the sets are the
    same, and is all there is where the pictures or the filter are missing.

    Args:
        folder: the results of the study.
        places: trial -> the folder of its model.
        test_data: the test set of the study as it is now; None: that of each trial.
    """
    stored = read_measured(folder)
    models, reasons, fresh = {}, {}, False
    for number, place in places.items():
        known = stored.get(number)
        try:
            model, config = load_trained(place)
            config = with_test_data(config, test_data)
            sets = _sets(config)
            if known is None or known[0] != sets:
                tell(f"measuring trial {number} on validation and test pictures")
                known, fresh = (sets, measure(model, config)), True
                stored[number] = known
        except ClappError as error:
            reasons[number] = one_line(error)
        if known is not None:
            models[number] = known[1]
    if fresh:
        write_measured(folder, stored)
    return Tested(models, _notes(models, reasons))


def _sets(config: Config) -> str:
    """A digest of both sets and the filter: equal where the same was measured.

    Raises:
        UserError: pictures cannot be had.
    """
    sets = (config.valid_data, config.test_set)
    sizes = [[one.resize_base, one.crop_size, one.num_images] for one in sets]
    sources = [source(one) for one in sets]
    known = {"sources": sources, "sizes": sizes, "filter": config.target_filter}
    return digest(known | ({"parameter": config.parameter} if config.parameter else {}))


def _notes(models: Mapping[int, Both], reasons: Mapping[int, str]) -> list[str]:
    """Each reason once, with what it means for the numbers."""
    notes = []
    for reason in dict.fromkeys(reasons.values()):
        numbers = [number for number, given in reasons.items() if given == reason]
        before = [number for number in numbers if number in models]
        none = [number for number in numbers if number not in models]
        if before:
            notes.append(f"{_named(before)}: as measured before, since here {reason}")
        if none:
            notes.append(f"{_named(none)}: not measured on test pictures: {reason}")
    return notes


def _named(numbers: Sequence[int]) -> str:
    if len(numbers) > 3:
        return f"{len(numbers)} trials"
    return f"trial{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
