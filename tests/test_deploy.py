"""The manifests and scripts under deploy/, against the published schemas and as far as they run."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from clapp.config import load_config
from clapp.inference.serve.limits import limits
from tests.test_containers import parse

DEPLOY = Path(__file__).parents[1] / "deploy"
FOLDERS = [DEPLOY / "kubernetes", *sorted((DEPLOY / "kubernetes").glob("*/"))]
CONFIG = DEPLOY / "kubernetes" / "train" / "config.yaml"
MANIFESTS = [path for folder in FOLDERS for path in sorted(folder.glob("*.yaml")) if path != CONFIG]
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


def named(kind_: str, name: str) -> dict[str, Any]:
    (found,) = [document for document in kind(kind_) if document["metadata"]["name"] == name]
    return found


def kind(name: str) -> list[dict[str, Any]]:
    return [document for document in documents() if document["kind"] == name]


def shown(document: dict[str, Any]) -> str:
    return f"{document['kind']} {document['metadata']['name']}"


@pytest.mark.parametrize("document", documents(), ids=shown)
def test_a_manifest_keeps_the_schema(document: dict[str, Any]) -> None:
    newest = version("kubernetes-validate").rpartition(".")[0]
    kubernetes_validate.validate(document, newest, strict=True)


def test_a_mistake_would_be_seen() -> None:
    job = named("Job", "clapp-workers")
    job["spec"]["paralelism"] = 8
    with pytest.raises(kubernetes_validate.ValidationError, match="paralelism"):
        kubernetes_validate.validate(job, "1.30", strict=True)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_kustomization_names_every_manifest(folder: Path) -> None:
    path = folder / "kustomization.yaml"
    document = yaml.safe_load(path.read_text())
    found = [manifest.name for manifest in MANIFESTS if manifest.parent == folder]
    assert sorted([*document["resources"], path.name]) == found
    for maps in document.get("configMapGenerator", []):
        assert all((folder / name).is_file() for name in maps["files"])


def test_names_in_the_manifests_agree() -> None:
    everything = documents()
    (claim,) = [document["metadata"]["name"] for document in kind("PersistentVolumeClaim")]
    assert set(find(everything, "claimName")) == {claim}
    service, stateful = named("Service", "clapp-postgres"), *kind("StatefulSet")
    assert stateful["spec"]["serviceName"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == stateful["spec"]["template"]["metadata"]["labels"]
    secrets = find(everything, "secretKeyRef")
    assert len(secrets) == 4
    assert all(secret == {"name": "clapp-postgres", "key": "password"} for secret in secrets)
    urls = [option for command in commands().values() for option in command if "://" in option]
    assert urls == [f"--storage=postgresql+psycopg://clapp@{service['metadata']['name']}/clapp"] * 3
    images = {image for image in find(everything, "image") if image.startswith("clapp")}
    for folder in FOLDERS:
        chosen = yaml.safe_load((folder / "kustomization.yaml").read_text())["images"]
        assert {image["name"] for image in chosen} == images


def test_nothing_is_reachable_from_outside_and_no_secret_is_in_a_file() -> None:
    assert kind("Secret") == kind("Ingress") == []
    assert {s["spec"].get("type", "ClusterIP") for s in kind("Service")} == {"ClusterIP"}
    assert find(documents(), "hostPort") == find(documents(), "hostNetwork") == []


@pytest.mark.parametrize("pod", [find(d, "template") for d in documents() if find(d, "template")])
def test_a_pod_has_no_rights(pod: list[dict[str, Any]]) -> None:
    spec = pod[0]["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["automountServiceAccountToken"] is False
    for container in spec["containers"]:
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert set(container["resources"]) == {"requests", "limits"}


def commands() -> dict[str, list[str]]:
    """Our commands, by the names of their containers."""
    containers = [container for found in find(documents(), "containers") for container in found]
    return {c["name"]: c["command"] for c in containers if c["image"] == "clapp"}


@pytest.mark.parametrize("name", ["workers", "dashboard", "export", "serve", "train"])
def test_a_command_and_its_options_exist(name: str) -> None:
    parse(commands()[name])


def test_every_command_is_looked_at() -> None:
    assert sorted(commands()) == ["dashboard", "export", "serve", "train", "workers"]
    with pytest.raises(Exception, match="No such option"):
        parse([*commands()["serve"], "--hosts=0.0.0.0"])


def test_the_server_is_found_watched_and_serves_what_is_exported() -> None:
    """Probes, policies and scaling all mean the Deployment, and its addresses exist."""
    deployment = named("Deployment", "clapp-serve")
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    labels = pod["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert "replicas" not in deployment["spec"]  # the autoscaler's
    service = named("Service", "clapp-serve")["spec"]
    (port,) = container["ports"]
    assert service["selector"] == labels
    assert service["ports"][0]["targetPort"] == port["name"]
    assert f"--port={port['containerPort']}" in container["command"]
    policy = named("NetworkPolicy", "clapp-serve")["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    assert policy["ingress"][0]["ports"][0]["port"] == port["name"]
    assert policy["egress"] == []
    scaled = named("HorizontalPodAutoscaler", "clapp-serve")["spec"]["scaleTargetRef"]
    assert (scaled["kind"], scaled["name"]) == ("Deployment", deployment["metadata"]["name"])
    budget = named("PodDisruptionBudget", "clapp-serve")["spec"]
    assert budget["selector"]["matchLabels"] == labels
    probes = [container[f"{when}Probe"]["httpGet"] for when in ("startup", "readiness", "liveness")]
    assert [probe["path"] for probe in probes] == ["/health", "/ready", "/health"]
    assert {probe["port"] for probe in probes} == {port["name"]}
    allowed = limits()
    most = allowed.seconds + 2 * allowed.transfer
    most += container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["spec"]["terminationGracePeriodSeconds"] > most
    study, rule = commands()["export"][2], commands()["export"][3].removeprefix("--pick=")
    assert container["command"][2] == f"{study}=/results/{study}/export/{rule}"


def test_only_those_who_need_it_reach_the_database() -> None:
    policy = named("NetworkPolicy", "clapp-postgres")["spec"]
    stateful = named("StatefulSet", "clapp-postgres")
    assert (
        policy["podSelector"]["matchLabels"] == stateful["spec"]["template"]["metadata"]["labels"]
    )
    (chosen,) = policy["ingress"][0]["from"][0]["podSelector"]["matchExpressions"]
    templates = [template for template in find(documents(), "template") if template["spec"]]
    asks = [t["metadata"]["labels"]["app"] for t in templates if "clapp@clapp-postgres" in str(t)]
    assert sorted(chosen["values"]) == sorted(asks)


def test_the_training_of_the_example_is_valid() -> None:
    config = load_config(CONFIG)
    assert config.target_filter == "sobel_3"
    mounted = commands()["train"][2].removeprefix("--config=")
    assert Path(mounted).name == CONFIG.name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_sound(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
