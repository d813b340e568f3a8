"""A folder with a study, and `optimize.py` run there as a person would."""

import subprocess
import sys
from pathlib import Path

from forked import clapp
from optuna.trial import FrozenTrial

from clapp.study.plan.existing import load_existing
from clapp.study.plan.plan import make_plan
from clapp.training.trainer import train

ROOT = Path(__file__).parents[1]


class Desk:
    """A folder with a study `mine`, and the command that runs it."""

    def __init__(self, folder: Path, study: str) -> None:
        self.folder = folder
        self.results = folder / "results"
        self.study = self.results / "mine"
        self.rewrite(study)

    def rewrite(self, study: str) -> None:
        (self.folder / "mine.yaml").write_text(study)

    def start(self, *options: str) -> "subprocess.Popen[str]":
        """Start it in a new process."""
        return subprocess.Popen(
            [sys.executable, str(ROOT / "optimize.py"), "--study", "mine.yaml", *options],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # a process group of its own, as from a terminal
        )

    def run(self, *options: str, limit: int | None = None) -> tuple[int, str]:
        """Run it to its end: its exit code and output; `limit`: bytes that its files may have."""
        words = ("optimize.py", "--study", "mine.yaml", *options)
        done = clapp(*words, cwd=self.folder, limit=limit, together=True)
        return done.returncode, done.stdout

    def trials(self) -> list[FrozenTrial]:
        return load_existing("mine", self.results).get_trials(deepcopy=False)


def compile_first(study: Path) -> None:
    """Train once here, so that the session's cache holds the convolutions a study needs."""
    train(make_plan(str(study)).config({}, seed=0, device=None))


def children(pid: int) -> list[int]:
    """The processes that `pid` started and that live."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""
