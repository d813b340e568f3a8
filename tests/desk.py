"""A folder with a study, and `optimize.py` run there as a person would."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from resource import RLIMIT_FSIZE, setrlimit

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

    def start(self, *options: str, limit: int | None = None) -> "subprocess.Popen[str]":
        """Start it; `limit`: bytes that each file it writes may have."""
        return subprocess.Popen(
            [sys.executable, str(ROOT / "optimize.py"), "--study", "mine.yaml", *options],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # a process group of its own, as from a terminal
            preexec_fn=limit and partial(setrlimit, RLIMIT_FSIZE, (limit, limit)),
        )

    def run(self, *options: str, limit: int | None = None) -> tuple[int, str]:
        process = self.start(*options, limit=limit)
        output, _ = process.communicate(timeout=180)
        return process.returncode, output

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
