"""The steps of the Dockerfiles, run as they are in folders of their own, and what they install.

A build's steps run in an environment that sees the packages of this one, so that pip finds most
versions of constraints.txt there. Those for an administrator are not run: apt-get, useradd.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.test_containers import FILES, ROOT, stages

CPU, GPU = FILES
ADMINISTRATOR = ("apt-get", "useradd")


def steps(path: Path, word: str) -> list[str]:
    return [rest for name, rest in stages(path)[0] if name == word]


def moved(text: str, folder: Path) -> str:
    """A step with its folders below `folder`."""
    return re.sub(r"(?<![\w.])/(opt|build|results|tmp)\b", rf"{folder}/\1", text)


def see_packages(environment: Path) -> None:
    """Let an environment import what is installed in that of the tests."""
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "tests.pth").write_text(sysconfig.get_path("purelib"))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder after the steps of the CPU's build, and the environment of its last stage."""
    folder = tmp_path_factory.mktemp("image")
    work = folder / "build"
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    clean["PATH"] = f"{Path(sys.executable).parent}:{clean['PATH']}"
    for name, rest in stages(CPU)[0]:
        if name == "WORKDIR":
            Path(moved(rest, folder)).mkdir()
        elif name == "COPY":
            *sources, target = rest.split()
            for source in sources:
                copy(ROOT / source, work / target / ("" if target != source else "."))
        elif name == "RUN":
            command = moved(rest, folder).replace("pip install", "pip install --no-build-isolation")
            subprocess.run(command, shell=True, check=True, cwd=work, env=clean, timeout=600)
            see_packages(folder / "opt" / "clapp")
    for name in ("results", "tmp"):
        (folder / name).mkdir()
    settings = " ".join(rest for name, rest in stages(CPU)[-1] if name == "ENV")
    values = dict(part.split("=", 1) for part in moved(settings, folder).split())
    values["PATH"] = values["PATH"].replace("$PATH", os.environ["PATH"])
    return folder, clean | values


def copy(source: Path, target: Path) -> None:
    """As COPY does: the content of a folder, or a file into one."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def run(image: tuple[Path, dict[str, str]], *words: str) -> str:
    folder, environment = image
    command = [moved(word, folder) for word in words]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_was_built_is_what_runs(image: tuple[Path, dict[str, str]]) -> None:
    where = run(image, "python", "-c", "import clapp; print(clapp.__file__)")
    assert where.startswith(str(image[0] / "opt" / "clapp"))
    command = json.loads(dict(stages(CPU)[-1])["CMD"])
    assert "--study" in run(image, *command)
    assert "sobel_3" in run(image, "clapp", "spaces") + run(image, "clapp", "filters")


def test_the_health_check_passes(image: tuple[Path, dict[str, str]]) -> None:
    check = dict(stages(CPU)[-1])["HEALTHCHECK"]
    found = run(image, *json.loads(check[check.index("[") :]))
    assert "results" in found


def test_the_server_of_the_compose_file_can_be_started(image: tuple[Path, dict[str, str]]) -> None:
    assert "MODEL" in run(image, "clapp", "serve", "--help")
    run(image, "python", "-c", "import clapp.inference.serve.server, psycopg, boto3, grpc")


def test_both_images_are_built_alike() -> None:
    cpu, gpu = (steps(path, "RUN") for path in (CPU, GPU))
    assert gpu[: len(cpu)] == cpu
    assert ["torch.version.cuda" in step for step in gpu[len(cpu) :]] == [True]
    assert steps(CPU, "COPY") == steps(GPU, "COPY")
    last = [[rest for name, rest in stages(path)[-1] if name == "RUN"] for path in FILES]
    assert last[0] == last[1]
    assert all(step.startswith(ADMINISTRATOR) for step in last[0])
    packages = re.findall(r"\blib\w[\w.-]*", last[0][0].split("recommends")[1].split("&&")[0])
    installed = (ROOT / ".ci" / "run").read_text()
    assert packages
    assert all(package in installed for package in packages)
