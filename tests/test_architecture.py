"""The list of modules in docs/architecture.md, and what holds the house together."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def listed() -> set[str]:
    folder, found = "", set()
    for line in (ROOT / "docs" / "architecture.md").read_text().splitlines():
        if line.startswith("## "):
            folder = line[3:]
        elif match := re.match(r"- `(\w+\.py)`: \S", line):
            found.add(f"{folder}/{match.group(1)}")
    return found


def test_every_module_is_listed() -> None:
    there = {
        str(path.relative_to(ROOT))
        for top in ("clapp", "benchmarks")
        for path in (ROOT / top).rglob("*.py")
    }
    assert listed() == there


def test_folders_fit_on_a_screen() -> None:
    names = {p.name for p in (ROOT / "clapp").iterdir() if not p.name.startswith(("_", "."))}
    assert len(names - {"py.typed"}) <= 15, names
    for folder in {path.parent for path in (ROOT / "clapp").rglob("*.py")}:
        modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= 12, folder


@pytest.mark.parametrize("package", ["plan.plan", "sampling.evolution", "pruning.decide"])
def test_a_study_is_read_without_torch(package: str) -> None:
    code = f"import sys, clapp.study.{package}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150
