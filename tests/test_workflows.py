"""The workflows: actions pinned, commands that exist, sound shell, no more rights than needed."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from commandlines import ours, parse

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
TARGETS = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
CHARGES = {"tests", "docs", "images", "release", "nightly", "train", "deploy"}


def read(path: Path) -> dict[str, Any]:
    workflow: dict[str, Any] = yaml.safe_load(path.read_text())
    return workflow


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


def scripts(path: Path) -> list[str]:
    return [step["run"] for step in steps(path) if "run" in step]


def plain(script: str) -> str:
    """A script with words in place of variables, and programs without their folder."""
    script = re.sub(r'"?\$\{?TIMEOUT\}?"?', "30m", script)
    script = re.sub(r'"?\$\{?\w+\}?((?:/[\w.-]+)*)"?', r"word\1", script)
    return re.sub(r"[\w./-]*/(clapp(?:-optimize)?)\b", r"\1", script)


def test_every_charge_has_a_workflow() -> None:
    assert {path.stem for path in WORKFLOWS} == CHARGES


def test_actions_are_pinned_by_commit_and_say_their_tag() -> None:
    pins: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for line in path.read_text().splitlines():
            if "uses:" not in line:
                continue
            match = re.search(r"uses: ([\w.-]+/[\w./-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)$", line)
            assert match is not None, f"{path.name}: {line}"
            pins.setdefault(match[1], set()).add(f"{match[2]} {match[3]}")
    assert all(len(found) == 1 for found in pins.values()), pins
    assert len(pins) > 5


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_job_has_no_rights_it_does_not_ask_for_and_an_end(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        assert set(job["permissions"].values()) <= {"read", "write"}, name
        assert job["timeout-minutes"] <= 300
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_commands_of_a_workflow_exist(path: Path) -> None:
    for script in scripts(path):
        for words in ours(plain(script)):
            parse(words)
        for target in re.findall(r"\bmake (\w+)", script):
            assert target in TARGETS
        for name in re.findall(r"(?:\bbash |\.\./)(\.?[\w./-]+)", script):
            assert (ROOT / name).exists(), name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_the_shell_of_a_workflow_has_no_traps(path: Path) -> None:
    for script in scripts(path):
        assert "${{" not in script, "an expression in a script is an injection; use env"
        done = subprocess.run(
            [SHELLCHECK, "--shell=bash", "-"], input=script, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


def test_a_trap_would_be_seen() -> None:
    with pytest.raises(Exception, match="No such option"):
        parse(next(ours(plain('"$WORK/bin/clapp-optimize" --studdy "$STUDY"'))))


def test_images_go_where_a_variable_says() -> None:
    (job,) = read(ROOT / ".github" / "workflows" / "images.yaml")["jobs"].values()
    files = [one["file"] for one in job["strategy"]["matrix"]["include"]]
    assert sorted(files) == sorted(
        path.relative_to(ROOT).as_posix() for path in (ROOT / "deploy").glob("Dockerfile*")
    )
    for step in job["steps"]:
        given = step.get("with", {})
        assert str(given.get("registry", "${{")).startswith("${{")
        assert str(given.get("tags", "${{ vars.")).startswith("${{ vars.")


def test_what_is_deployed_is_in_the_manifests() -> None:
    text = "\n".join(scripts(ROOT / ".github" / "workflows" / "deploy.yaml"))
    manifests = ROOT / "deploy" / "kubernetes" / "serve"
    there = {
        f"{one['kind'].lower()}/{one['metadata']['name']}"
        for path in manifests.glob("*.yaml")
        for one in yaml.safe_load_all(path.read_text())
        if "metadata" in one
    }
    named = set(re.findall(r"\b(?:job|deployment)[/ ][\w-]+", text))
    assert len(named) == 3
    assert {name.replace(" ", "/") for name in named} <= there
    kustomization = yaml.safe_load((manifests / "kustomization.yaml").read_text())
    assert [one["name"] for one in kustomization["images"]] == ["clapp"]


def test_the_release_builds_what_it_publishes_and_holds_no_token() -> None:
    workflow = read(ROOT / ".github" / "workflows" / "release.yaml")
    publish = workflow["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["environment"] == "release"
    assert publish["needs"] == "build"
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yaml").read_text()
