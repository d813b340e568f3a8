"""The list of modules in docs/architecture.md, and what holds the house together."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
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


def imports(name: str, path: Path, modules: set[str]) -> set[str]:
    """The modules of the package that a file imports, inside functions too.

    Imports for type checkers alone do not count.
    """

    def statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import | ast.ImportFrom):
                yield child
            yield from statements(child)

    found = set()
    for one in statements(ast.parse(path.read_text())):
        if isinstance(one, ast.Import):
            found |= {alias.name for alias in one.names}
        else:
            assert one.level == 0, f"{path}: a relative import"
            parts = {f"{one.module}.{alias.name}" for alias in one.names}
            found |= (parts & modules) or {one.module}
    return (found & modules) - {name}


def circles(root: Path, package: str) -> list[str] | None:
    """A circle of modules that import each other, or None."""
    files = {}
    for path in (root / package).rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = {name: imports(name, path, set(files)) for name, path in files.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_no_modules_import_each_other_even_inside_functions() -> None:
    assert circles(ROOT, "clapp") is None


@pytest.mark.parametrize("line", ["import toy.a", "from toy import a", "from toy.a import b"])
def test_a_circle_through_a_function_is_found(tmp_path: Path, line: str) -> None:
    toy = tmp_path / "toy"
    toy.mkdir()
    (toy / "__init__.py").touch()
    (toy / "a.py").write_text("from toy import b\n")
    (toy / "b.py").write_text(f"def later():\n    {line}\n")
    found = circles(tmp_path, "toy")
    assert found is not None
    assert set(found) == {"toy.a", "toy.b"}
    (toy / "b.py").write_text(f"if TYPE_CHECKING:\n    {line}\n")
    assert circles(tmp_path, "toy") is None
