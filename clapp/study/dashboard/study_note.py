"""The note of a study in the dashboard: its aim, its state, and models to look at."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

from clapp.config import defaults, flatten
from clapp.filters.learned.settings import ranged_name
from clapp.front.objectives import objective
from clapp.front.outcomes import Candidate, beats, settled
from clapp.front.pick.choose import Finished, pick
from clapp.models.words import in_words
from clapp.study.dashboard.trial_note import markdown_table

MARK = "*CLAPP keeps the text above up to date; what you write below this line stays.*"


@dataclass(frozen=True)
class Standing:
    """A study at one moment.

    Attributes:
        id: the study's number in the dashboard's addresses.
        definition: the resolved study file; empty if CLAPP did not make the study.
        hypervolume: None before the first trained trial.
        where: the options by which commands find the study, see `clapp.study.plan.existing`.
    """

    name: str
    id: int
    definition: Mapping[str, Any]
    objectives: Sequence[str]
    counts: Mapping[str, int]
    candidates: Sequence[Candidate]
    front: Sequence[Candidate]
    reference: Candidate | None
    hypervolume: float | None
    where: str = ""


def merged(standing: Standing, old: str) -> str | None:
    """The new note of a study whose note is `old`, or None if that must not change.

    Text below the mark was written by a person and is kept; so is a note without the mark.
    """
    _, mark, theirs = old.partition(MARK)
    if old.strip() and not mark:
        return None
    new = f"{_text(standing)}\n---\n\n{MARK}{theirs}"
    return None if new == old else new


def _text(standing: Standing) -> str:
    definition = standing.definition
    parts = [f"# {standing.name}", definition.get("description", ""), _aim(standing)]
    parts.append(markdown_table(("", ""), _facts(standing)))
    if standing.front:
        parts += ["## Worth a look", _picks(standing), _next(standing)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _aim(standing: Standing) -> str:
    config = {**flatten(defaults()), **flatten(standing.definition.get("config", {}))}
    spec = config["train_data.target_filter"]
    named = not isinstance(spec, Mapping) or "name" in spec
    target = f"`{ranged_name(spec, config['parameter'])}`" if named else "its own kernel"
    wanted = ", ".join(_meaning(name) for name in standing.objectives)
    return f"Networks that stand in for the filter {target}; as small as possible: {wanted}."


def _facts(standing: Standing) -> Iterable[tuple[str, str]]:
    definition, reference = standing.definition, standing.reference
    limits = {k: v for k, v in (definition.get("limits") or {}).items() if v is not None}
    if limits:
        known = ((objective(name), value) for name, value in limits.items())
        yield "limits", ", ".join(f"{o.label} at most {o.format(value)}" for o, value in known)
    if "search_space" in definition:
        keys = ", ".join(f"`{key}`" for key in definition["search_space"])
        yield f"searched: {len(definition['search_space'])} keys", keys
    yield "trials", ", ".join(f"{n} {word}" for word, n in standing.counts.items() if n) or "none"
    if standing.hypervolume is not None:
        size = len(standing.front)
        yield "front", f"{size} model{'s' * (size != 1)}, hypervolume {standing.hypervolume:.3f}"
    if reference is not None:
        beaten = sum(beats(one, reference) for one in standing.front)
        yield "reference", f"{reference.figures()}; beaten by {beaten} of the front"


def _meaning(name: str) -> str:
    entry = objective(name)
    return entry.meaning or entry.title


def _picks(standing: Standing) -> str:
    found = Finished.of(standing.candidates, [*standing.front[0].values])
    rows = []
    for rule in _rules(standing):
        one = pick(rule, found)
        link = f"[{one.trial}](/dashboard/studies/{standing.id}/trials?numbers={one.trial})"
        rows.append((f"`{rule}`", link, *one.cells().values(), in_words(one.config)))
    columns = [objective(name).heading for name in found.front[0].shown()]
    return markdown_table(("`--pick`", "trial", *columns, "network"), rows)


def _rules(standing: Standing) -> Iterable[str]:
    yield from ("knee", "min-loss")
    if standing.reference is not None:
        # As good as the reference; rounded up, for then some model of the front always is.
        yield f"loss<={settled(standing.reference).loss * 1.001:.4g}"


def _next(standing: Standing) -> str:
    name, trial = standing.name, standing.front[0].trial
    return (
        f"`clapp export {quote(name)} --pick knee{standing.where}` writes a model as weights, ONNX "
        f"file and model card; "
        f"`--pick trial={trial}` takes that trial. "
        "Each trial has its pictures and files on its page."
    )
