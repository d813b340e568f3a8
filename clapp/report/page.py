"""The page of a report: find the studies, fill the template, write one file."""

import base64
import gzip
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from clapp import __version__
from clapp.errors import UserError
from clapp.front.hypervolume import worst_point
from clapp.front.objectives import loss_text
from clapp.front.outcomes import objectives
from clapp.report import facts, words
from clapp.report.data import StudyData, gather
from clapp.report.figures.compare import compare
from clapp.report.figures.style import Figure
from clapp.report.pictures import BUDGET, gather_pictures
from clapp.report.sections import Section, section
from clapp.report.tested import test_front
from clapp.study.plan.existing import load_existing, where
from clapp.study.storage.place import study_file
from clapp.study.storage.storage import default_url, open_storage
from clapp.system.files import dump_json, write_text

if TYPE_CHECKING:
    from optuna import Study

REPORT = "report.html"
_HERE = Path(__file__).parent


class Source(NamedTuple):
    """A study to report: its files, its label, and the options by which commands find it."""

    study: "Study"
    folder: Path
    label: str
    where: str = ""


class Report(NamedTuple):
    """A written report."""

    path: Path
    studies: list[str]
    bytes: int
    seconds: float

    def document(self) -> dict[str, Any]:
        """The JSON document of `clapp report --json`."""
        return {**self._asdict(), "path": str(self.path)}


def write_report(
    names: Sequence[str], results: Path, storage: str | None = None, out: Path | None = None
) -> Report:
    """Write one page about one or several studies.

    Args:
        names: of studies, or the results folders of studies, such as those of another machine.
        results: the folder that holds a folder for each study.
        storage: the URL of the storage of studies given by name; None: the files in their folders.
        out: the file to write; None: `report.html` in the study's results, or for several in
            `results`. A report that is there is replaced.

    Raises:
        UserError: no such study, a study that CLAPP did not make, or `out` cannot be written.
    """
    started = time.monotonic()
    sources = [_find(name, results, storage) for name in dict.fromkeys(names)]
    page = render(sources)
    if out is None:
        out = (sources[0].folder if len(sources) == 1 else results) / REPORT
    try:
        write_text(out, page)
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}") from error
    size = len(page.encode())
    seconds = round(time.monotonic() - started, 1)
    return Report(out, [source.label for source in sources], size, seconds)


def _find(name: str, results: Path, storage: str | None) -> Source:
    folder = Path(name)
    if study_file(folder) is not None:
        study, label = _only_study(folder), folder.resolve().name
        # A study that was set aside lies in a folder of another name.
        url = None if study.study_name == label else default_url(folder)
        return Source(study, folder, label, where(folder.parent, url))
    study = load_existing(name, results, storage)
    return Source(study, results / study.study_name, study.study_name, where(results, storage))


def _only_study(folder: Path) -> "Study":
    """The only study in a results folder, which was renamed if the study was set aside."""
    import optuna

    storage = open_storage(default_url(folder))
    names = optuna.get_all_study_names(storage)
    if len(names) != 1:
        raise UserError(f"{folder}: one study is expected there, not {len(names)}")
    return optuna.load_study(study_name=names[0], storage=storage)


def render(sources: Sequence[Source]) -> str:
    """The HTML of the page about `sources`."""
    labels = _labels(sources)
    worst = _common_worst([source.study for source in sources])
    sections = []
    for number, (source, label) in enumerate(zip(sources, labels, strict=True), start=1):
        tested = test_front(source.study, source.folder)
        data = gather(source.study, source.folder, label, worst, tested)
        pictures = gather_pictures(data.folder, data.front, data.picks, BUDGET // len(sources))
        sections.append(section(f"s{number}", data, pictures, source.where))
    together = compare([one.data for one in sections]) if len(sections) > 1 else []
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        loss=loss_text, flops=words.flops, duration=words.duration, text=facts.text
    )
    return environment.get_template("page.html").render(
        sections=sections,
        together=together,
        title=_title([one.data for one in sections]),
        version=__version__,
        made=datetime.now().strftime("%d %B %Y, %H:%M"),
        plotly=_packed(_plotly()),
        figures=_packed(dump_json(_documents(sections, together))),
        script=(_HERE / "page.js").read_text(encoding="utf-8"),
        style=(_HERE / "page.css").read_text(encoding="utf-8"),
    )


def _labels(sources: Sequence[Source]) -> list[str]:
    """Make labels unique."""
    names = [source.label for source in sources]
    return [
        name if names.count(name) == 1 else str(source.folder)
        for name, source in zip(names, sources, strict=True)
    ]


def _common_worst(studies: Sequence["Study"]) -> dict[str, float] | None:
    """A reference point for the hypervolumes of several studies, in the objectives they share."""
    if len(studies) == 1:
        return None
    points = [worst_point(study) for study in studies]
    shared = [name for name in objectives(studies[0]) if all(name in point for point in points)]
    return {name: max(point[name] for point in points) for name in shared}


def _title(studies: Sequence[StudyData]) -> str:
    return words.joined([data.label for data in studies])


def _documents(sections: Sequence[Section], together: Sequence[Figure]) -> dict[str, Any]:
    """The data of the page's script: every figure, and the card of every trial."""
    figures = {figure.key: figure.document() for figure in together}
    for one in sections:
        figures |= {f"{one.key}-{figure.key}": figure.document() for figure in one.figures()}
    return {"figures": figures, "trials": {one.key: one.trials() for one in sections}}


def _packed(text: str) -> str:
    """Compress text, which the page's script unpacks; plotly.js: 4.8 to 2.0 million bytes."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode("ascii")


def _plotly() -> str:
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    return str(get_plotlyjs())
