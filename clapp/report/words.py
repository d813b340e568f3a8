"""Numbers and results in words."""

from collections.abc import Sequence

from clapp.front.objectives import amount, loss_text
from clapp.front.objectives import short as short
from clapp.front.outcomes import Candidate
from clapp.report.data import StudyData


def flops(value: float) -> str:
    """8.03M FLOPs, 1.2G FLOPs."""
    return amount("flops", value)


def duration(seconds: float) -> str:
    """42 s, 2 min 13 s, 3 h 20 min, 2 d 4 h."""
    total = round(seconds)
    for big, small, size in (("d", "h", 86400), ("h", "min", 3600), ("min", "s", 60)):
        if total >= size:
            rest = (total % size) // {"h": 3600, "min": 60, "s": 1}[small]
            return f"{total // size} {big}" + (f" {rest} {small}" if rest else "")
    return f"{seconds:.3g} s" if seconds < 10 else f"{total} s"


def plural(number: int, noun: str) -> str:
    """1 trial, 2,000 trials."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def joined(words: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def headline(data: StudyData) -> str:
    """The result of a study in one line."""
    if not data.front:
        return "No trial has finished yet"
    smallest, reference = data.picks[0].model, data.reference
    if reference is None:
        return f"{plural(smallest.params, 'parameter')} at a loss of {loss_text(smallest.loss)}"
    if smallest.params < reference.params:
        return f"{smallest.params:,} parameters do what {reference.params:,} did"
    return f"Nothing smaller does what the reference does with {reference.params:,} parameters yet"


def lead(data: StudyData) -> str:
    """The result of a study in a few sentences."""
    if not data.front:
        return "The report shows what became of the trials; run the study on, and make it again."
    chosen, reference = data.picks[0].model, data.reference
    text = (
        f"Trial {chosen.trial} stands in for {data.filter} with "
        f"{plural(chosen.params, 'parameter')} and {flops(chosen.flops)} a picture; "
        f"its validation loss is {loss_text(chosen.loss)}."
    )
    if reference is None or reference.trial == chosen.trial:
        return text
    return (
        f"{text} The hand-tuned reference, trained in the same study, takes "
        f"{plural(reference.params, 'parameter')} and {flops(reference.flops)} for a loss of "
        f"{loss_text(reference.loss)}: trial {chosen.trial} has {compared(chosen, reference)}."
    )


def compared(one: Candidate, reference: Candidate) -> str:
    """The differences between two models as factors; "" if they are equal."""
    factors = [
        _factor(one.params, reference.params, "{} fewer parameters", "{} more parameters"),
        _factor(one.flops, reference.flops, "{} fewer FLOPs", "{} more FLOPs"),
        _factor(one.loss, reference.loss, "a loss {} lower", "a loss {} higher"),
    ]
    return joined([text for text in factors if text])


def _factor(ours: float, theirs: float, less: str, more: str) -> str:
    if min(ours, theirs) <= 0 or ours == theirs:
        return ""
    ratio = max(ours / theirs, theirs / ours)
    share = round(100 * abs(ours / theirs - 1))
    return (less if ours < theirs else more).format(
        f"{ratio:,.0f} times"
        if ratio >= 10
        else f"{ratio:.2g} times"
        if ratio >= 2
        else f"{share} %"
    )


def outcomes(data: StudyData) -> str:
    """The number of trials by outcome: "8 trials trained to the end and 2 failed"."""
    words = {
        "complete": "trained to the end",
        "pruned": "stopped early",
        "skipped": "skipped before training",
        "failed": "failed",
        "running": "under way",
    }
    found = [(n, words[name]) for name, n in data.counts.items() if n]
    first = [f"{plural(n, 'trial')} {word}" for n, word in found[:1]]
    return joined(first + [f"{n:,} {word}" for n, word in found[1:]])
