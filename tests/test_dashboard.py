import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from PIL import Image

from clapp.dashboard import serve
from clapp.errors import UserError
from clapp.study.storage import default_url, open_storage

# set_metric_names is experimental in Optuna.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

START = """
import sys
from pathlib import Path
from clapp.dashboard import serve
serve("edges", Path(sys.argv[1]), None, int(sys.argv[2]))
"""


@pytest.fixture
def results(tmp_path):
    """A results folder with a study of one trial, which has a picture."""
    folder = tmp_path / "edges"
    folder.mkdir()
    study = optuna.create_study(
        study_name="edges",
        storage=open_storage(default_url(folder)),
        directions=["minimize"] * 2,
    )
    study.set_metric_names(["loss", "params"])
    (folder / "artifacts").mkdir()
    trial = study.ask()
    Image.new("RGB", (30, 20), "red").save(tmp_path / "preview.png")
    upload_artifact(
        artifact_store=FileSystemArtifactStore(str(folder / "artifacts")),
        file_path=str(tmp_path / "preview.png"),
        study_or_trial=trial,
    )
    study.tell(trial, [0.01, 59])
    return tmp_path


@pytest.fixture
def address(results):
    """The address that a dashboard in a process of its own prints, its wished port being taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-c", START, str(results), str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
        )
        try:
            line = process.stdout.readline()
            found = re.fullmatch(
                r"edges: (http://127\.0\.0\.1:(\d+)/dashboard/studies/\d+) .*\n", line
            )
            assert found, line + process.stderr.read()
            assert int(found[2]) != port
            yield found[1]
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0
    assert out == ""
    assert "Traceback" not in err
    assert f"port {port} is not available" in err


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert answer.status == 200
        return answer.read()


def test_page_trials_and_pictures_are_served(address, results):
    root, study_id = re.fullmatch(r"(http://.*)/dashboard/studies/(\d+)", address).groups()
    assert b"<html" in get(address)
    assert [s["study_name"] for s in json.loads(get(f"{root}/api/studies"))["study_summaries"]] == [
        "edges"
    ]
    detail = json.loads(get(f"{root}/api/studies/{study_id}"))
    assert detail["objective_names"] == ["loss", "params"]
    (trial,) = detail["trials"]
    assert trial["values"] == [0.01, 59]
    (artifact,) = trial["artifacts"]
    picture = get(f"{root}/artifacts/{study_id}/{trial['trial_id']}/{artifact['artifact_id']}")
    assert picture == (results / "preview.png").read_bytes()


def test_no_such_study(results):
    with pytest.raises(UserError, match="no study named 'corners'"):
        serve("corners", results)


def test_no_such_interface(results):
    with pytest.raises(UserError, match=r"192\.0\.2\.1:0: cannot be listened on"):
        serve("edges", results, port=0, host="192.0.2.1")
