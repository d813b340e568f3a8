"""Old import paths still work, warn, and cost nothing before they are used."""

import subprocess
import sys
from importlib import import_module

import pytest

from clapp.system.moved import MODULES, NAMES

USED = {
    "clapp.infer": "read_picture filter_picture",
    "clapp.optimize": "main app",
    "clapp.model": "build_model FilterNet",
    "clapp.trialfiles": "save_config save_weights load",
    "clapp.study.trials": "INTERRUPTED trained killed",
    "clapp.costs": "cost latency SIDE",
    "clapp.files": "parse_yaml atomic_path",
    "clapp.training": "train TrainResult Trainer",
    "clapp.filters": "apply_filter known_filters",
    "clapp.study.storage": "open_storage redact",
    "clapp.front": "front_of Candidate",
}
"""Names from before the move, some of several new homes."""


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    for old in MODULES:
        monkeypatch.delitem(sys.modules, f"clapp.{old}", raising=False)


@pytest.mark.parametrize("old", USED)
def test_what_scripts_import_is_there(old: str) -> None:
    for name in USED[old].split():
        scope: dict[str, object] = {}
        with pytest.warns(DeprecationWarning, match=r"has moved: import") as caught:
            exec(f"from {old} import {name} as it", scope)
        if old.removeprefix("clapp.") in MODULES:
            del sys.modules[old]  # the next one is warned of again
        assert {warning.filename for warning in caught} == {"<string>"}
        it = scope["it"]
        assert callable(it) or isinstance(it, (str, int))
        assert getattr(it, "__module__", "clapp").startswith("clapp") or name == "app"


@pytest.mark.filterwarnings("ignore:clapp.trackers has moved:DeprecationWarning")
@pytest.mark.parametrize("old", MODULES)
def test_an_old_module_offers_all_that_its_new_homes_define(old: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"^clapp\.{old} has moved: import from clapp\."):
        module = import_module(f"clapp.{old}")
    homes = [import_module(f"clapp.{home}") for home in MODULES[old].split()]
    for home in homes:
        defined = [
            n for n, v in vars(home).items() if getattr(v, "__module__", "") == home.__name__
        ]
        for name in defined:
            first = next(getattr(one, name) for one in homes if hasattr(one, name))
            assert getattr(module, name) is first
            assert name.startswith("_") or name in dir(module)


@pytest.mark.parametrize("package", NAMES)
def test_a_package_offers_what_the_module_of_its_name_held(package: str) -> None:
    module = import_module(f"clapp.{package}")
    for home, names in NAMES[package].items():
        for name in names.split():
            new = import_module(f"clapp.{package}.{home}")
            with pytest.warns(
                DeprecationWarning, match=rf"{name} has moved: .* from {new.__name__}"
            ):
                assert getattr(module, name) is getattr(new, name)


def test_a_module_of_an_old_package() -> None:
    with pytest.warns(DeprecationWarning, match="trackers"):
        old = import_module("clapp.trackers.event_files").EventFiles
    assert old is import_module("clapp.training.trackers.event_files").EventFiles


def test_what_never_was_is_still_missing() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"clapp\.nonsense"):
        import_module("clapp.nonsense")
    with pytest.warns(DeprecationWarning, match="infer"), pytest.raises(ImportError):
        exec("from clapp.infer import nonsense")
    for package in NAMES:
        with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
            import_module(f"clapp.{package}").nonsense  # noqa: B018


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "import clapp, clapp.infer, clapp.training, clapp.front, clapp.model\n"
        "sys.exit(bool({'torch', 'optuna', 'cv2', 'clapp.inference'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
