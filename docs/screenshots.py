"""Takes the pictures of the README anew: `make screenshots`, once results/sobel3 has trials.

Goes on with the study until its next trial is in training, records what the display shows on a wide
terminal, and interrupts it, which loses nothing. Rich writes that and the front as SVG.
"""

import io
import re
import signal
import sys
from pathlib import Path

from rich.console import Console, RenderableType

from clapp.front.outcomes import front_of, reference_of
from clapp.front.tables import front_table
from clapp.study.display.live import PlainView
from clapp.study.display.screen import Screen
from clapp.study.display.snapshot import Snapshot
from clapp.study.plan.existing import load_existing
from clapp.study.plan.plan import make_plan
from clapp.study.running.driver import Options, run_study

IMAGES = Path(__file__).parent / "images"


class Camera(PlainView):
    """Plain lines, and a picture of what the display would show."""

    def update(self, snapshot: Snapshot) -> None:
        """Take the picture when all workers train."""
        super().update(snapshot)
        if snapshot.workers and all("validation L2" in worker for worker in snapshot.workers):
            screen = Screen(snapshot.study)
            screen.show(snapshot)
            save(screen, "live.svg", f"python optimize.py --study {snapshot.study}", 140, 36)
            signal.raise_signal(signal.SIGINT)


def save(content: RenderableType, name: str, title: str, width: int, height: int) -> None:
    """Write `content` as it looks on a terminal of that size."""
    console = Console(
        record=True,
        file=io.StringIO(),
        width=width,
        height=height,
        force_terminal=True,
        color_system="standard",
        highlight=False,
    )
    console.print(content)
    # Rich names a font on somebody's server; the reader's own does.
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title=title), flags=re.DOTALL)
    (IMAGES / name).write_text(drawn, encoding="utf-8")


def main(study: str, results: Path) -> None:
    """Record a study."""
    run_study(make_plan(study), Options(results, workers=1), Camera())
    loaded = load_existing(study, results)
    table = front_table(front_of(loaded), reference_of(loaded))
    save(table, "front.svg", f"clapp front {study}", 64, 30)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
