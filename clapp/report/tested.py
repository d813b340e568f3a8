"""The test loss of a study's front: measured now, or as it was measured before."""

from pathlib import Path
from typing import TYPE_CHECKING

from clapp.front.optimism import Both, FrontTest, optimism, read_tested
from clapp.front.outcomes import front_of, reference_of
from clapp.study.plan.definition import DEFINITION
from clapp.study.storage.keep import trial_folder

if TYPE_CHECKING:
    from optuna import Study


def test_front(study: "Study", folder: Path) -> FrontTest:
    """Measure the front of a study, and its reference, on both sets.

    Args:
        folder: the results of the study.
    """
    from clapp.inference.heldout import measure_trials, test_data_of

    places = {number: trial_folder(folder, number) for number in _numbers(study)}
    test_data = test_data_of(study.user_attrs.get(DEFINITION, {}))
    found = measure_trials(folder, places, test_data)
    return _front_test(study, found.models, found.notes)


def known_front(study: "Study", folder: Path) -> FrontTest | None:
    """What was measured of the front before, without opening a picture; None: nothing."""
    known = read_tested(folder)
    models = {number: known[number] for number in _numbers(study) if number in known}
    return _front_test(study, models, []) if models else None


def _numbers(study: "Study") -> list[int]:
    """The trials of the front, and the reference."""
    found, reference = front_of(study), reference_of(study)
    return list(dict.fromkeys(c.trial for c in (*found, *([reference] if reference else []))))


def _front_test(study: "Study", models: dict[int, Both], notes: list[str]) -> FrontTest:
    reference = reference_of(study)
    front = [candidate.trial for candidate in front_of(study)]
    found = optimism(models, front, reference.trial if reference is not None else None)
    return FrontTest(models, found, notes)
