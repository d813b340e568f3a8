"""The manifests and scripts under deploy/, against the published schemas and as far as they run."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

DEPLOY = Path(__file__).parents[1] / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
SCRIPTS = [*sorted((DEPLOY / "slurm").glob("*.sbatch")), DEPLOY.parent / ".ci" / "run"]


def documents() -> list[dict[str, Any]]:
    texts = [path.read_text() for path in MANIFESTS if path.stem != "kustomization"]
    return [document for text in texts for document in yaml.safe_load_all(text)]


def find(value: Any, key: str) -> list[Any]:
    """Every value of a key, however deep."""
    if isinstance(value, list):
        return [found for item in value for found in find(item, key)]
    if not isinstance(value, dict):
        return []
    here = [value[key]] if key in value else []
    return here + [found for item in value.values() for found in find(item, key)]


def kind(name: str) -> list[dict[str, Any]]:
    return [document for document in documents() if document["kind"] == name]


@pytest.mark.parametrize("document", documents(), ids=lambda document: document["kind"])
def test_a_manifest_keeps_the_schema(document: dict[str, Any]) -> None:
    newest = version("kubernetes-validate").rpartition(".")[0]
    kubernetes_validate.validate(document, newest, strict=True)


def test_a_mistake_would_be_seen() -> None:
    (job,) = kind("Job")
    job["spec"]["paralelism"] = 8
    with pytest.raises(kubernetes_validate.ValidationError, match="paralelism"):
        kubernetes_validate.validate(job, "1.30", strict=True)


def test_the_kustomization_names_every_manifest() -> None:
    path = DEPLOY / "kubernetes" / "kustomization.yaml"
    named = yaml.safe_load(path.read_text())["resources"]
    assert sorted([*named, path.name]) == [manifest.name for manifest in MANIFESTS]


def test_names_in_the_manifests_agree() -> None:
    everything = documents()
    (claim,) = [document["metadata"]["name"] for document in kind("PersistentVolumeClaim")]
    assert set(find(everything, "claimName")) == {claim}
    (service,) = kind("Service")
    (stateful,) = kind("StatefulSet")
    assert stateful["spec"]["serviceName"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == stateful["spec"]["template"]["metadata"]["labels"]
    secrets = find(everything, "secretKeyRef")
    assert len(secrets) == 3
    assert all(secret == {"name": "clapp-postgres", "key": "password"} for secret in secrets)
    commands = [command for command in find(everything, "command") if "clapp" in command[0]]
    urls = [option for command in commands for option in command if "://" in option]
    assert urls == [f"--storage=postgresql+psycopg://clapp@{service['metadata']['name']}/clapp"] * 2


def test_nothing_is_reachable_from_outside_and_no_secret_is_in_a_file() -> None:
    assert kind("Secret") == kind("Ingress") == []
    assert [s["spec"].get("type", "ClusterIP") for s in kind("Service")] == ["ClusterIP"]
    assert find(documents(), "hostPort") == find(documents(), "hostNetwork") == []


def test_the_workers_options_exist() -> None:
    (job,) = kind("Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    known = {option.split("=")[0] for option in container["command"][1:]}
    help_text = subprocess.run(
        [sys.executable, "-m", "clapp.commands.optimize", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200"},
    ).stdout
    assert known == {option for option in known if option in help_text}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_sound(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
