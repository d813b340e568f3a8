"""The content of one study for the template: texts, tables, figures and pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any, NamedTuple

from clapp.errors import ConfigError
from clapp.front.objectives import amount, decibels, loss_text, objective
from clapp.front.outcomes import Candidate, beats
from clapp.models.words import in_words
from clapp.report import facts, words
from clapp.report.classical import classical
from clapp.report.data import Pick, StudyData
from clapp.report.figures import decisions, fronts, search, space
from clapp.report.figures.style import Figure
from clapp.report.pictures import Picture, Pictures
from clapp.report.trials import Trial
from clapp.system.intervals import Interval
from clapp.system.strict_yaml import dump_yaml


class Tile(NamedTuple):
    """A number at the top of the page."""

    name: str
    value: str
    note: str


class PickRow(NamedTuple):
    """A row of the table of picks: the reason in short, and the `command` that exports the
    model."""

    why: list[str]
    words: str
    model: Candidate
    against: str
    command: str


class FrontRow(NamedTuple):
    """A row of the table of the front."""

    model: Candidate
    others: list[str]
    remark: str
    repeats: str
    words: str


class Trusted(NamedTuple):
    """How far a model's loss can be trusted, as cells of a table."""

    interval: str
    test: str
    test_interval: str
    ratio: str


class Shown(NamedTuple):
    """A preview in the gallery."""

    trial: int
    picture: Picture
    alt: str
    text: str


@dataclass(frozen=True)
class Section:
    """The content of one study; ids of its HTML elements begin with `key`."""

    key: str
    data: StudyData
    headline: str
    lead: str
    tiles: list[Tile]
    picks: list[PickRow]
    front: list[FrontRow]
    others: list[str]
    pairs: list[Figure]
    space: list[Figure]
    search: list[Figure]
    decisions: list[Figure]
    slices: list[Figure]
    pictures: Pictures
    gallery: list[Shown]
    ledger: list[tuple[str, str]]
    reasons: list[tuple[str, int]]
    outcomes: str
    provenance: list[tuple[str, str]]
    definition: str
    configurations: list[tuple[str, str]]
    trusted: dict[int, Trusted]
    trust: list[str]

    def figures(self) -> list[Figure]:
        """All figures, in the order of the page."""
        return [*self.pairs, *self.space, *self.search, *self.decisions, *self.slices]

    def trials(self) -> dict[str, Any]:
        """Trial -> the card that the page shows when the mouse is over its point."""
        picks: dict[int, list[str]] = {}
        for pick in self.data.picks:
            picks.setdefault(pick.model.trial, []).append(pick.why)
        repeats = {one.trial: _repeats(one.interval) for one in self.data.repeats}
        return {
            str(trial.number): _card(
                trial, picks.get(trial.number, []), repeats.get(trial.number, "")
            )
            for trial in self.data.trials
        }


def section(key: str, data: StudyData, pictures: Pictures, where: str = "") -> Section:
    """Prepare the section of a study.

    Args:
        where: the options by which commands find the study; see `clapp.study.plan.existing`.
    """
    others = [name for name in data.objectives if name not in ("loss", "params", "flops")]
    return Section(
        key=key,
        data=data,
        headline=words.headline(data),
        lead=words.lead(data),
        tiles=_tiles(data),
        picks=_pick_rows(data, where),
        front=[_front_row(data, model, others) for model in data.front],
        others=[objective(name).heading for name in others],
        pairs=fronts.pairs(
            data, classical(data.config["train_data.target_filter"], data.config["parameter"])
        ),
        space=space.space(data),
        search=[
            *search.hypervolume(data),
            *search.curves(data),
            *search.timeline(data),
            *search.ledger(data),
        ],
        decisions=[*decisions.importance(data), *decisions.parallel(data)],
        slices=decisions.slices(data),
        pictures=pictures,
        gallery=[_shown(c, pictures) for c in data.front if c.trial in pictures.previews],
        ledger=facts.ledger(data.ledger),
        reasons=facts.reasons(data),
        outcomes=words.outcomes(data),
        provenance=facts.provenance(data),
        definition=dump_yaml(data.definition) if data.definition else "",
        configurations=facts.configurations(data),
        trusted=_trusted(data),
        trust=_trust(data),
    )


def _trusted(data: StudyData) -> dict[int, Trusted]:
    """The cells of each model of the front."""
    models = data.tested.models if data.tested is not None else {}
    found = {}
    for one in data.front:
        both, own = models.get(one.trial), one.spread.bounds if one.spread is not None else ""
        if both is not None:
            valid, test = both
            ratio = f"{both.ratio:.2f}"
            found[one.trial] = Trusted(valid.bounds, loss_text(test.mean), test.bounds, ratio)
        else:
            found[one.trial] = Trusted(own, "", "", "")
    return found


def _trust(data: StudyData) -> list[str]:
    """How far the losses can be trusted, in sentences."""
    sentences = []
    spreads = [one.spread for one in data.front if one.spread is not None]
    if spreads:
        sentences.append(
            f"A validation loss is a mean over {spreads[0].counted}; the search chose by it."
        )
    tested = data.tested
    if tested is not None and tested.models:
        counted = next(iter(tested.models.values())).test.counted
        sentences.append(
            f"A test loss is a mean over {counted} that no training and no choice saw. Intervals "
            "are of 95 %, over pictures."
        )
    if tested is not None and tested.optimism is not None:
        said = tested.optimism.words()
        sentences.append(f"{said[:1].upper()}{said[1:]}.")
    sentences += [
        f"{pick.rule}: trial {pick.model.trial}, {pick.stability.words()}."
        for pick in data.picks
        if pick.stability is not None
    ]
    return [*sentences, *(f"{note}." for note in (tested.notes if tested is not None else []))]


def _card(trial: Trial, picks: Sequence[str], repeats: str) -> dict[str, Any]:
    known = []
    for name in ("loss", "params", "flops"):
        value = getattr(trial, name)
        if value is not None:
            known.append((objective(name).title, objective(name).cell(value)))
    if repeats:
        known.append(("loss repeated", repeats))
    if trial.start and trial.end:
        known.append(("took", words.duration((trial.end - trial.start).total_seconds())))
    if trial.reason:
        known.append(("reason", trial.reason))
    short = decisions.short_names([*trial.choices])
    return {
        "title": f"{trial.name}: {trial.outcome}",
        "notes": list(picks),
        "facts": known,
        "choices": [(short[key], facts.text(value)) for key, value in trial.choices.items()],
    }


def _repeats(found: Interval) -> str:
    ends = f"{words.short(found.low)} to {words.short(found.high)}"
    return f"{words.short(found.mean)} ({decibels(found.mean)}), {ends} with 95 %"


def _tiles(data: StudyData) -> list[Tile]:
    budget = data.definition.get("budget", {}).get("trials")
    tiles = [
        Tile(
            "trained",
            f"{data.trained:,}",
            f"of {words.plural(budget, 'trial')}" if budget else "trials",
        ),
        Tile("worked on", words.duration(data.elapsed), _rate(data)),
    ]
    if not data.front:
        return tiles
    best = min(data.front, key=lambda c: c.loss)
    beating = _beating(data)
    return [
        Tile("on the front", f"{len(data.front)}", beating or "no other beats them"),
        Tile("lowest loss", words.short(best.loss), _lowest(best)),
        *tiles,
        Tile("hypervolume", f"{data.history[-1].hypervolume:.2f}", "on log scales"),
    ]


def _lowest(best: Candidate) -> str:
    return f"{decibels(best.loss)}, {words.plural(best.params, 'parameter')}"


def _rate(data: StudyData) -> str:
    if not data.elapsed:
        return ""
    return f"{words.short(60 * data.trained / data.elapsed)} trials a minute"


def _beating(data: StudyData) -> str:
    if data.reference is None:
        return ""
    number = sum(beats(one, data.reference) for one in data.front)
    return f"{number} beat{'s' * (number == 1)} the reference in everything"


def _pick_rows(data: StudyData, where: str) -> list[PickRow]:
    """Rows of the picks; picks of the same model share a row. For `where` see `section`."""
    same: dict[int, list[Pick]] = {}
    for pick in data.picks:
        same.setdefault(pick.model.trial, []).append(pick)
    rows = []
    for picks in same.values():
        model, reference = picks[0].model, data.reference
        rule = picks[-1].rule  # prefer knee and min-loss, which come last and are easier to type
        quoted = f'"{rule}"' if "<" in rule else rule
        rows.append(
            PickRow(
                [pick.why for pick in picks],
                _in_words(model),
                model,
                words.compared(model, reference) if reference else "",
                f"clapp export {quote(data.name)} --pick {quoted}{where}",
            )
        )
    return rows


def _front_row(data: StudyData, model: Candidate, others: Sequence[str]) -> FrontRow:
    remarks = [pick.rule for pick in data.picks if pick.model.trial == model.trial]
    remarks = ["as the reference" if "<" in rule else rule for rule in remarks]
    if model.baseline is not None:
        remarks.append(model.baseline)
    repeats = next((r for r in data.repeats if r.trial == model.trial), None)
    return FrontRow(
        model,
        [objective(name).format(model.values[name]) for name in others],
        ", ".join(remarks),
        _repeats(repeats.interval) if repeats else "",
        _in_words(model),
    )


def _in_words(model: Candidate) -> str:
    """The configuration in words; "" if this version of CLAPP cannot read it."""
    try:
        return in_words(model.config)
    except ConfigError:
        return ""


def _shown(model: Candidate, pictures: Pictures) -> Shown:
    figures = f"{words.plural(model.params, 'parameter')}, {amount('loss', model.loss)}"
    return Shown(
        model.trial,
        pictures.previews[model.trial],
        f"Trial {model.trial}, {figures}: three validation pictures, what the filter makes of "
        "them, what the model makes of them, and the difference.",
        figures,
    )
