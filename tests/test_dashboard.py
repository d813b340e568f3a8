"""The dashboard of a study in a process of its own, looked at with a real browser."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from browser import Browser

from clapp.config import Config
from clapp.errors import UserError
from clapp.models.build import build_model
from clapp.models.costs import cost
from clapp.study.dashboard.artifacts import open_artifacts
from clapp.study.dashboard.overview import Overview
from clapp.study.dashboard.server import serve
from clapp.study.dashboard.trial_files import TrialFiles
from clapp.study.plan import definition
from clapp.study.plan.plan import make_plan
from clapp.study.preparing import prepare
from clapp.study.running.job import Job
from clapp.study.running.stop import Stop
from clapp.study.running.worker import run
from clapp.study.storage.storage import default_url, open_storage
from clapp.training.trainer import Point, Progress, TrainResult

# set_metric_names is experimental in Optuna.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

STUDY = """
description: Edges of photographs
search_space: {model.capacity: {type: int, low: 1, high: 6}}
config:
  valid_data: {resize_base: 64, crop_size: 48, num_images: 3}
limits: {loss: 0.02, params: 5000}
budget: {trials: 4}
"""
LOSSES = {8: 0.004, 1: 0.01, 2: 0.002, 3: 0.03}
"""By channels: the reference, two of the front, and one over the limit."""
OVER_LIMIT = 3


def untrained(config: Config, report: Any, _weights: Any = None) -> TrainResult:
    """In place of a training: fresh weights and a made-up loss."""
    torch.manual_seed(config.train.seed)
    model = build_model(config.model).eval()
    loss = LOSSES[config.model.capacity]
    curve = [Point(100 * n, n, 0.1, loss * (4 - n), loss, 0.01) for n in (1, 2, 3)]
    for point in curve:
        report(Progress(point.step, 0, point.seconds, 0.1, point.l2, point.l2, model))
    return TrainResult(model, loss, loss, "iterations", 300, 2400, 3.0, {}, curve, "cpu", "adam", 1)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a study of four trials."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "edges.yaml").write_text(STUDY)
    plan = make_plan(str(folder / "edges.yaml"))
    place = folder / "results" / "edges"
    prepare.make_folder(place)
    study = prepare.create_study(plan, open_storage(default_url(place)), place / definition.LOCKS)
    for capacity in (1, 2, 3):
        study.enqueue_trial({"model.capacity": capacity})
    job = Job("edges", plan.document(), default_url(place), str(place), None, None, None, 0, "")
    assert run(job, lambda *_, **__: None, Stop(), untrained) == "the budget is spent"
    optuna.logging.set_verbosity(optuna.logging.INFO)
    return folder / "results"


class Server:
    """`clapp dashboard edges`, its wished port being taken."""

    def __init__(self, results: Path, *options: str, **environment: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.wished = taken.getsockname()[1]
            command = [sys.executable, "-m", "clapp", "dashboard", "edges", *options]
            self.process = subprocess.Popen(
                [*command, "--results", str(results), "--port", str(self.wished)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "", **environment},
            )
            line = self.process.stdout.readline()
        found = re.fullmatch(r"edges: (http://127\.0\.0\.1:(\d+))(/\S+) \(Ctrl-C ends it\)\n", line)
        assert found, line + self.process.stderr.read()
        self.hint = self.process.stdout.readline()
        self.root, self.port, self.page = found[1], int(found[2]), found[1] + found[3]

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.root + path, timeout=60) as answer:
            assert answer.status == 200
            return answer.read()

    def detail(self) -> dict[str, Any]:
        return json.loads(self.get(f"/api/studies/{self.page.rpartition('/')[2]}"))

    def stop(self) -> tuple[int, str, str]:
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture(scope="module")
def server(results: Path) -> Iterator[Server]:
    started = Server(results)
    try:
        yield started
        code, out, err = started.stop()
    finally:
        started.process.kill()
        started.process.communicate()
    assert code == 0, err
    here = f"ssh -L {started.port}:127.0.0.1:{started.port} {socket.gethostname()}"
    assert started.hint == f"from another machine: {here}, then open the same address there\n"
    assert out == ""
    assert started.port != started.wished
    assert err == f"port {started.wished} is not available; taking a free one\ndashboard stopped\n"


def test_the_study_page_shows_graphs(server: Server, browser: Browser) -> None:
    browser.open(server.page, 1400, 2600)
    drawn = "[...document.querySelectorAll('[id^=\"user-defined-plot:\"] .gtitle')]"
    browser.wait_for(f"{drawn}.length == 3")
    assert set(browser.run(f"return {drawn}.map(title => title.textContent)")) == {
        "Front: the lowest loss for its size",
        "Hypervolume: how far the front has come",
        "Learning curves of the front",
    }
    points = "document.querySelectorAll('[id=\"user-defined-plot:front\"] .points path').length"
    assert browser.run(f"return {points}") == 3
    # Its own plot of trials over time has a colour for those over a limit.
    browser.wait_for("document.body.textContent.includes('Infeasible')")
    assert browser.errors() == []


def test_the_trial_page_shows_pictures_words_and_files(server: Server, browser: Browser) -> None:
    browser.open(f"{server.page}/trials?numbers=2", 1400, 2600)
    loaded = "[...document.images].filter(i => i.naturalWidth > 0).map(i => i.alt)"
    browser.wait_for(f"{loaded}.includes('preview.png') && {loaded}.includes('curve.svg')")
    text = browser.run("return document.body.textContent")
    assert "4 blocks of 2 channels, 3x3, GELU, normalised before the convolution" in text
    assert "model.safetensors" in text
    cells = browser.run("return [...document.querySelectorAll('td')].map(c => c.textContent)")
    params, flops = cost({"capacity": 2})
    assert cells == ["0.002 (27.0 dB)", f"{params:,}", f"{flops:,}", "300", "3.0 s", "iterations"]
    assert browser.errors() == []


def test_the_study_note_links_to_the_best(server: Server, browser: Browser) -> None:
    browser.open(f"{server.page}/note", 1400, 1200)
    links = "[...document.querySelectorAll('td a')]"
    browser.wait_for(f"{links}.length == 3")
    assert browser.run("return document.querySelector('h1').textContent") == "edges"
    browser.run(f"{links}[1].click()")
    browser.wait_for("document.body.textContent.includes('Trial 2 (trial_id=2)')")
    assert browser.errors() == []


def test_the_dashboard_knows_objectives_and_limits(server: Server) -> None:
    detail = server.detail()
    assert detail["objective_names"] == ["loss", "params", "flops"]
    assert all(trial["state"] == "Complete" for trial in detail["trials"])
    over = {t["number"] for t in detail["trials"] if any(v > 0 for v in t["constraints"])}
    assert over == {OVER_LIMIT}


def test_files_are_made_when_somebody_looks(server: Server, results: Path) -> None:
    folder = results / "edges" / "trials" / "00003"
    assert not (folder / "model.onnx").exists()
    for name in ("preview.png", "curve.svg", "model.safetensors", "model.onnx"):
        served = server.get(f"/clapp/trials/3/{name}")
        assert served == (folder / name).read_bytes()

    import onnxruntime

    session = onnxruntime.InferenceSession(served)
    assert [one.name for one in session.get_inputs()] == ["image"]


@pytest.mark.parametrize(
    "path",
    ["/clapp/trials/3/config.yaml", "/clapp/trials/3/..%2f..%2fstudy.journal", "/clapp/trials/x/"],
)
def test_no_other_files_are_served(server: Server, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        server.get(f"/clapp/trials/{path}")


def test_a_trial_without_files_here_is_named(tmp_path: Path) -> None:
    study = optuna.create_study()
    files = TrialFiles(study, tmp_path, open_artifacts(None, tmp_path))
    assert files.addresses(0) == {}
    with pytest.raises(UserError, match="trial 0: its files are on the machine that trained it"):
        files.read(0, "preview.png")


def test_it_opens_a_browser_when_asked(results: Path, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o755)
    server = Server(results, "--open", BROWSER=f"{browser} %s")
    try:
        deadline = time.monotonic() + 60
        while not opened.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert opened.read_text() == server.page
        assert server.stop()[0] == 0
    finally:
        server.process.kill()
        server.process.communicate()


def test_an_unreadable_overview_is_no_reason_not_to_serve() -> None:
    study = optuna.create_study()  # without names of its objectives: not made by CLAPP
    Overview(study).refresh()
    assert study._storage.get_study_system_attrs(study._study_id) == {}


def test_no_such_study(results: Path) -> None:
    with pytest.raises(UserError, match="no study named 'corners'"):
        serve("corners", results)


def test_no_such_interface(results: Path) -> None:
    with pytest.raises(UserError, match=r"192\.0\.2\.1:0: cannot be listened on"):
        serve("edges", results, port=0, host="192.0.2.1")
