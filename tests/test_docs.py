"""The documentation: no warning, links that lead somewhere, commands that exist, all names."""

import inspect
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import typer
from commandlines import COMMANDS, ours, parse

import clapp
from clapp.commands.setup.schemas import configuration_keys, study_keys
from clapp.export.writers import FORMATS
from clapp.filters.base import FILTERS
from clapp.front.objectives import OBJECTIVES
from clapp.front.pick.rules import rules
from clapp.images.source import SOURCES
from clapp.models.activations import ACTIVATIONS
from clapp.models.families import FAMILIES
from clapp.models.targets.profile import known_targets
from clapp.study.plan.plan import make_plan
from clapp.study.pruning.pruners import PRUNERS
from clapp.study.sampling.samplers import SAMPLERS
from clapp.training.losses import LOSSES
from clapp.training.optimisers.registry import OPTIMISERS
from clapp.training.schedule import SCHEDULES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *(path for path in sorted(DOCS.rglob("*.md")) if path.parent.name != "reference"),
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
]
REGISTRIES: list[Any] = [
    FORMATS, OBJECTIVES, SOURCES, ACTIVATIONS, FAMILIES, PRUNERS, SAMPLERS, LOSSES, OPTIMISERS,
    SCHEDULES, known_targets(), [example for example, _ in rules()],
]  # fmt: skip


class Page(HTMLParser):
    """The places and the links of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.links: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key == "id" and value:
                self.places.add(value)
            if key in ("href", "src") and value:
                self.links.append(value)


def broken(site: Path) -> list[str]:
    """Links within a site that lead nowhere."""
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    found = []
    for path, page in pages.items():
        for link in page.links:
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            known = pages[target].places if target in pages else None
            if not target.exists() or (url.fragment and known and url.fragment not in known):
                found.append(f"{path.name}: {link}")
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it: a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(DOCS), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def reference(name: str) -> str:
    return (DOCS / "reference" / f"{name}.md").read_text()


def test_every_link_of_the_site_leads_somewhere(site: Path, tmp_path: Path) -> None:
    assert broken(site) == []
    (tmp_path / "a.html").write_text('<a href="b.html">b</a><a href="#c">c</a><p id="d">')
    assert broken(tmp_path) == ["a.html: b.html", "a.html: #c"]


def test_every_page_is_reached_from_the_first_one(site: Path) -> None:
    first = Page(site / "index.html").links
    for path in DOCS.rglob("*.md"):
        page = path.relative_to(DOCS).with_suffix(".html").as_posix()
        assert page == "index.html" or page in first, page


def test_the_search_page_of_the_site_is_no_page_of_ours(site: Path) -> None:
    assert "searchtools.js" in (site / "search.html").read_text()
    assert not (DOCS / "search.md").exists()


def test_the_reference_has_every_key_and_name(site: Path) -> None:
    text = reference("configuration")
    assert [key for key in configuration_keys() if f"`{key}`" not in text] == []
    text = reference("study")
    assert [key for key in study_keys() if f"`{key}`" not in text] == []
    for folder in ("studies", "search_spaces"):
        names = [path.stem for path in (ROOT / folder).glob("*.yaml")]
        assert [name for name in names if f"| `{name}` |" not in text] == []
    text = reference("registries")
    assert [name for names in REGISTRIES for name in names if f"`{name}`" not in text] == []
    text = reference("filters")
    for name, one in FILTERS.items():
        assert f"\n## {name}\n" in text
        assert all(f"`{parameter}`" in text for parameter in one.parameters), name


def test_the_reference_has_every_command_and_option(site: Path) -> None:
    text = reference("commands")
    parts = re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    sections = {name: part.replace("\\", "") for name, part in parts}
    waiting = [(name, typer.main.get_command(one)) for name, one in COMMANDS.items()]
    seen = 0
    while waiting:
        name, command = waiting.pop()
        waiting += [
            (f"{name} {verb}", one) for verb, one in getattr(command, "commands", {}).items()
        ]
        for parameter in command.params:
            for word in parameter.opts if parameter.param_type_name == "option" else ():
                assert f"`{word}`" in sections[name], f"{name} {word}"
                seen += 1
        assert inspect.cleandoc(command.help or "").split(".")[0].split("`")[0] in sections[name]
    assert seen > 100


def test_the_reference_has_every_public_name(site: Path) -> None:
    places = Page(site / "reference" / "python.html").places
    public = [name for name in clapp.__all__ if not name.startswith("_")]
    assert [name for name in public if f"clapp.{name}" not in places] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_between_files_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path = link.partition("#")[0]
        generated = "reference/" in path
        assert "://" in link or generated or not path or (page.parent / path).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_in_a_page_exist(page: Path) -> None:
    for language, block in re.findall(r"^ *```(\w*)\n(.*?)^ *```", page.read_text(), re.M | re.S):
        if language in ("", "bash", "console"):
            for words in ours(block.replace("python optimize.py", "clapp-optimize")):
                if "VERB" not in words:
                    parse(words)


def test_the_files_of_the_guide_on_spaces_are_a_study(tmp_path: Path) -> None:
    text = (DOCS / "howto" / "space.md").read_text()
    space, baselines = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "mine.yaml").write_text(f"filter: box\nsearch_space: mine_space\n{baselines}")
    (tmp_path / "mine_space.yaml").write_text(space)
    plan = make_plan(str(tmp_path / "mine.yaml"))
    assert plan.baseline("magnitude")["model.activation"] == "square"
    assert len(plan.space.parameters) == 5
