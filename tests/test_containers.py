"""The Dockerfiles and the compose file: every path, command and option in them exists."""

import fnmatch
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from clapp.commands import app, optimize
from clapp.inference.serve import server as serve
from clapp.study.dashboard import server
from clapp.study.plan.files import find_study

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
FILES = sorted(DEPLOY.glob("Dockerfile*"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMMANDS = {"clapp": app.app, "clapp-optimize": optimize.app}
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name in SERVICES if name != "postgres"]


def instructions(path: Path) -> list[tuple[str, str]]:
    """The steps of a Dockerfile: the word and the rest of each, lines joined."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    steps = [line.partition(" ") for line in joined.split("\n") if line]
    return [(word, rest.strip()) for word, _, rest in steps]


def stages(path: Path) -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for step in instructions(path):
        if step[0] == "FROM":
            found.append([])
        found[-1].append(step)
    return found


def parse(words: list[str]) -> None:
    """Parse a command line of ours as it would be, without running it.

    Raises:
        click's errors: a command or option does not exist, or its value is not allowed.
    """
    assert words[0] in PROJECT["scripts"]
    command: Any = typer.main.get_command(COMMANDS[words[0]])
    rest = words[1:]
    if hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context(words[0], rest)


def plain(text: str) -> str:
    """A text of the compose file with the defaults of its variables."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_image_copies_what_is_there_and_pins_all_it_installs(path: Path) -> None:
    build, final = stages(path)
    copied = [name for word, rest in build if word == "COPY" for name in rest.split()[:-1]]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for name in copied:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in ignored, name
    needed = {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], "constraints.txt"}
    assert needed | {"clapp", "studies", "search_spaces", "schemas", "results/reference"} == set(
        copied
    )
    (install,) = [rest for word, rest in build if word == "RUN" and "pip install" in rest]
    words = shlex.split(install)
    assert words[words.index("-c") + 1] == "constraints.txt"
    extras = re.fullmatch(r"\.\[(.*)\]", words[-1])
    assert extras is not None
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])
    (taken,) = [rest.split() for word, rest in final if word == "COPY"]
    assert taken[0] == f"--from={build[0][1].split()[-1]}"
    assert f"python -m venv {taken[1]}" in [rest for word, rest in build if word == "RUN"]
    environment = " ".join(rest for word, rest in final if word == "ENV")
    assert taken[1] == taken[2]  # scripts of an environment hold its path
    assert f"PATH={taken[1]}/bin:" in environment
    assert (
        "NUMBA_CACHE_DIR=/tmp/" in environment
    )  # Numba fails where all of its folders are read-only


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_image_runs_without_rights_and_knows_whether_it_works(path: Path) -> None:
    final = stages(path)[-1]
    words = [word for word, _ in final]
    assert dict(final)["USER"] == "1000"
    assert "RUN" not in words[words.index("USER") :]
    parse([json.loads(dict(final)["CMD"])[0], "--study=sobel3"])
    check = dict(final)["HEALTHCHECK"]
    parse(json.loads(check[check.index("[") :]))
    assert json.loads(check[check.index("[") :])[1] == "doctor"


def test_a_wrong_option_would_be_seen() -> None:
    for words in (["clapp", "doctor", "--result=x"], ["clapp-optimize", "--study=a", "--worker=1"]):
        with pytest.raises(Exception, match="No such option"):
            parse(words)
    with pytest.raises(KeyError):
        parse(["clapp", "docter"])


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_built_from_a_file_and_runs_a_command_that_exist(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] if name != "export" else "restart" not in service
    context = (DEPLOY / service["build"]["context"]).resolve()
    assert context == ROOT
    assert context / service["build"]["dockerfile"] in FILES
    command = [plain(word) for word in service["command"]]
    parse(command)
    options = dict(word.split("=", 1) for word in command if word.startswith("--"))
    study = options.get("--study") or command[2].partition("=")[0]
    assert find_study(study).exists()
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    if name == "serve":
        return  # it needs no database
    database = SERVICES["postgres"]["environment"]
    user, base = database["POSTGRES_USER"], database["POSTGRES_DB"]
    assert options["--storage"] == f"postgresql+psycopg://{user}@postgres/{base}"


def test_the_dashboard_listens_where_its_container_needs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(server, "serve", lambda *words: given.extend(words))
    command = [plain(word) for word in SERVICES["dashboard"]["command"]]
    done = CliRunner().invoke(app.app, command[1:], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert given[:2] == ["sobel3", Path("/results")]
    assert given[3:5] == [8080, "0.0.0.0"]


def test_what_is_exported_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(serve, "serve", lambda *words: given.extend(words))
    command = [plain(word) for word in SERVICES["serve"]["command"]]
    done = CliRunner().invoke(app.app, command[1:], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    export = [plain(word) for word in SERVICES["export"]["command"]]
    study, rule = export[2], export[3].removeprefix("--pick=")
    assert given[0] == [f"{study}=/results/{study}/export/{rule}"]
    assert given[1:3] == ["0.0.0.0", 8000]
    longest = given[3].seconds + 2 * given[3].transfer
    assert int(SERVICES["serve"]["stop_grace_period"][:-1]) > longest
    assert SERVICES["serve"]["depends_on"] == {
        "export": {"condition": "service_completed_successfully"}
    }


@pytest.mark.parametrize("name", ["dashboard", "serve"])
def test_a_service_knows_whether_it_works(name: str) -> None:
    check = SERVICES[name]["healthcheck"]["test"]
    assert check[:3] == ["CMD", "python", "-c"]
    address = re.search(r"http://127\.0\.0\.1:(\d+)/", check[3])
    assert address is not None
    assert SERVICES[name]["ports"] == [f"127.0.0.1:{address[1]}:{address[1]}"]
    compile(check[3], "check", "exec")


def test_names_in_the_compose_file_agree() -> None:
    for service in SERVICES.values():
        for volume in service["volumes"]:
            assert volume.split(":")[0] in COMPOSE["volumes"]
        assert set(service.get("depends_on", {})) <= set(SERVICES)
    assert "healthcheck" in SERVICES["postgres"]  # the others wait for it
    assert all("/results" in v for name in OURS for v in SERVICES[name]["volumes"])
    images = {name: SERVICES[name]["image"] for name in OURS}
    assert images.pop("gpu") == "clapp-gpu"
    assert set(images.values()) == {"clapp"}


def test_only_this_machine_reaches_the_services_and_no_secret_is_in_the_file() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:8080:8080", "127.0.0.1:8000:8000"]
    secrets = [
        value
        for service in SERVICES.values()
        for key, value in service.get("environment", {}).items()
        if "PASSWORD" in key
    ]
    assert len(secrets) == len(SERVICES) - 1  # the server needs none
    assert all(value.startswith("${POSTGRES_PASSWORD:?") for value in secrets)


def test_the_context_of_a_build_leaves_out_what_is_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    for name in (".git", "results", ".venv", ".env"):
        assert not any(fnmatch.fnmatch(name, line[1:]) for line in lines if line.startswith("!"))
