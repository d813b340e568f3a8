"""`clapp repeat --front`: every member of a front from several seeds, and who stays on it."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clapp.commands.experiments.crew import processes_for, train_runs
from clapp.commands.experiments.repeat import (
    LOGS,
    SUMMARY,
    Group,
    group_of,
    repeats_from,
    summary,
)
from clapp.commands.experiments.runs import Outcome, Run
from clapp.commands.experiments.targets import target_of_trial
from clapp.errors import UserError
from clapp.front.outcomes import Candidate, front_of, objectives
from clapp.front.repeats import Repeats, front_chances, store_repeats
from clapp.system.files import dump_json, write_text
from clapp.system.progress import tell

if TYPE_CHECKING:
    from optuna import Study

    from clapp.commands.experiments.runs import Train

LEAST = 4
"""Seeds before a member may be given up."""
BEATEN = 0.005
"""Chance to be on the front below which a member gets no more seeds.

Of two equally good members of one size, looked at after each of ten seeds, one is given up in 1.5 %
of the cases; with 0.02 it would be 7 %.
"""


@dataclass
class Member:
    """A member of the front while it is repeated.

    Attributes:
        outcomes: its finished trainings.
        asked: how many of the seeds were given to a process.
    """

    candidate: Candidate
    group: Group
    repeats: Repeats
    outcomes: Sequence[Outcome] = ()
    asked: int = 0

    @property
    def trial(self) -> int:
        """Its number in the study."""
        return self.candidate.trial


@dataclass
class Front:
    """The members of a front, of which the one with the fewest seeds is trained next."""

    members: list[Member]
    seeds: Sequence[int]
    names: Sequence[str]
    chances: dict[int, float] = field(default_factory=dict)

    def next(self) -> Run | None:
        """The next run; None: every member has its seeds, or was given up."""
        open_ = [m for m in self.members if m.asked < len(self.seeds) and not m.repeats.stopped]
        if not open_:
            return None
        member = min(open_, key=lambda one: one.asked)
        member.asked += 1
        return member.group.run(self.seeds[member.asked - 1])

    def take_in(self, run: Run) -> Member:
        """Note a finished run, and give up who is clearly beaten; returns whose run it was."""
        folder = Path(run.folder).parent
        member = next(one for one in self.members if one.group.folder == folder)
        member.outcomes = member.group.outcomes(self.seeds)
        inherited = member.group.ancestor is not None
        member.repeats = repeats_from(member.outcomes, member.trial, inherited)
        self._judge()
        return member

    def _judge(self) -> None:
        found = [replace(one.candidate, repeats=one.repeats) for one in self.members]
        self.chances = front_chances(found, self.names)
        for one in self.members:
            enough = len(one.repeats.finite) >= LEAST
            beaten = enough and self.chances[one.trial] < BEATEN
            left = len(one.repeats.seeds) < len(self.seeds)
            one.repeats = replace(one.repeats, stopped=beaten and left)


def repeat_front(
    study: "Study",
    results: Path,
    seeds: Sequence[int],
    processes: int | None,
    *,
    scratch: bool = False,
    train: "Train | None" = None,
) -> Front:
    """Repeat every member of a study's front; what it comes to is stored in the study.

    Args:
        results: the folder that holds a folder for each study.
        scratch: draw all first weights from the seeds, also where a trial inherited them.

    Raises:
        UserError: the front is empty; or see `train_runs`.
    """
    found = front_of(study)
    if not found:
        raise UserError(f"study {study.study_name} has no finished trial yet, so it has no front")
    members = []
    for candidate in found:
        group = group_of(target_of_trial(study, candidate.trial, results), scratch=scratch)
        members.append(Member(candidate, group, Repeats(candidate.trial)))
    front = Front(members, seeds, objectives(study))

    def done(run: Run) -> None:
        member = front.take_in(run)
        store_repeats(study, member.repeats)
        said = dump_json(summary(member.group, member.outcomes))
        write_text(member.group.folder / SUMMARY, said + "\n")
        trained = sum(len(one.repeats.seeds) for one in members)
        tell(f"{trained} of at most {len(members) * len(seeds)} trainings")

    with ExitStack() as stack:
        for member in members:
            stack.enter_context(member.group.opened())
        number = processes_for(members[0].group.config, processes, len(members) * len(seeds))
        train_runs(front.next, done, number, results / study.study_name / "repeats" / LOGS, train)
    for member in members:  # who was given up by what came later
        store_repeats(study, member.repeats)
    return front


def document_of(front: Front, study: str) -> dict[str, Any]:
    """What `clapp repeat --front --json` prints."""
    return {
        "study": study,
        "members": [
            {
                "trial": one.trial,
                "params": one.candidate.params,
                "flops": one.candidate.flops,
                "loss": one.candidate.loss,
                "repeats": {
                    **one.repeats.document(),
                    "on_front": front.chances.get(one.trial),
                    "inherited": one.repeats.inherited,
                },
            }
            for one in front.members
        ],
    }
