"""`clapp repeat`: one configuration trained from several seeds, and what they have in common."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from clapp.commands.experiments.crew import train_all
from clapp.commands.experiments.runs import Outcome, Run, outcome_in
from clapp.commands.experiments.targets import Target
from clapp.config import Config, identity
from clapp.errors import UserError
from clapp.front.repeats import Repeats, store_repeats
from clapp.study.storage.heritage import Ancestor
from clapp.system.files import dump_json, write_text
from clapp.system.intervals import log_interval

if TYPE_CHECKING:
    from clapp.commands.experiments.runs import Train

GROUP = "group.json"
SUMMARY = "repeats.json"
LOGS = "logs"


@dataclass(frozen=True)
class Group:
    """The trainings of one configuration from several seeds, in one folder.

    Attributes:
        name: what to call it.
        ancestor: whose weights each training starts from; None: they are drawn from its seed.
    """

    name: str
    folder: Path
    config: Config
    ancestor: Ancestor | None = None
    plugins: Sequence[str] = ()

    def run(self, seed: int) -> Run:
        """The training from a seed."""
        config = self.config.with_train(seed=seed).model_dump()
        ancestor = self.ancestor.document() if self.ancestor is not None else None
        return Run(str(self._place(seed)), config, ancestor, self.plugins)

    def outcomes(self, seeds: Sequence[int]) -> list[Outcome]:
        """The finished trainings of these seeds, in their order."""
        return [outcome_in(self._place(seed), seed) for seed in seeds if self.run(seed).is_finished]

    def _place(self, seed: int) -> Path:
        return self.folder / f"seed-{seed:05d}"

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the folder for the time of the block, so that no other process adds to it.

        Raises:
            UserError: it cannot be written, is in use, or holds something else.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written: {error.strerror}") from error
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                self._claim()
                yield
        except Timeout as error:
            raise UserError(f"{self.folder}: another process is training into it now") from error

    def _claim(self) -> None:
        """See that what is in the folder is of this configuration, and say so in it."""
        mine = {
            "name": self.name,
            "configuration": identity(self.config),
            "batch_seed": self.config.train.batch_seed,
            "inherited": self.ancestor is not None,
        }
        file = self.folder / GROUP
        if file.is_file():
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise UserError(f"{file}: cannot be read: {error}") from error
            if not isinstance(found, dict) or {**found, "name": self.name} != mine:
                raise UserError(
                    f"{self.folder}: holds trainings of another configuration; choose another "
                    "folder with --out, or another --name"
                )
            return
        if any(path.name != ".lock" for path in self.folder.iterdir()):
            raise UserError(f"{self.folder}: is there already and holds no repetitions")
        write_text(file, dump_json(mine) + "\n")


def group_of(target: Target, folder: Path | None = None, *, scratch: bool = False) -> Group:
    """The repetitions of a target.

    Args:
        folder: where they are written; None: in the target's home.
        scratch: do not start from the weights of its ancestor.
    """
    otherwise = "-from-scratch" if scratch and target.ancestor is not None else ""
    place = folder or target.home / f"{target.slug}{otherwise}"
    ancestor = None if scratch else target.ancestor
    return Group(target.name, place, target.config, ancestor, target.plugins)


def repeat_group(
    group: Group, seeds: Sequence[int], processes: int | None, train: "Train | None" = None
) -> list[Outcome]:
    """Train what is not finished yet, and return what all came to.

    Args:
        processes: how many train at once; None: as many as are useful.

    Raises:
        UserError, ClappError: see `train_runs` and `Group.opened`.
    """
    with group.opened():
        runs = [group.run(seed) for seed in seeds]
        train_all(runs, group.config, processes, group.folder / LOGS, train, group.name)
        outcomes = group.outcomes(seeds)
        write_text(group.folder / SUMMARY, dump_json(summary(group, outcomes)) + "\n")
        return outcomes


def repeats_from(outcomes: Sequence[Outcome], trial: int, inherited: bool) -> Repeats:
    """The repetitions of a trial as its study stores them."""
    return Repeats(
        trial,
        [one.seed for one in outcomes],
        [one.loss for one in outcomes],
        [round(one.seconds, 3) for one in outcomes],
        inherited,
    )


def store_in_study(target: Target, group: Group, outcomes: Sequence[Outcome]) -> None:
    """Write the repetitions of a trial into its study; nothing where the target is none."""
    if target.trial is not None:
        study, number = target.trial
        store_repeats(study, repeats_from(outcomes, number, group.ancestor is not None))


def summary(group: Group, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What `clapp repeat --json` prints of one configuration."""
    found = repeats_from(outcomes, 0, group.ancestor is not None).document()
    del found["stopped"]
    seconds = log_interval([max(one.seconds, 1e-9) for one in outcomes])
    return {
        "path": str(group.folder),
        "name": group.name,
        "inherited": group.ancestor is not None,
        **found,
        "seconds": {
            "mean": seconds.mean,
            "interval": [seconds.low, seconds.high] if seconds.size > 1 else None,
        },
        "runs": [one.document() for one in outcomes],
    }
