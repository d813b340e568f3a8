"""What a report gathers and says; test_report_page.py looks at it in a browser."""

import json
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import plotly.graph_objects as go
import pytest
from forked import clapp
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from PIL import Image
from synthetic import REFERENCE_LOSS, made_up_study

from clapp.errors import UserError
from clapp.front.repeats import Repeats as StoredRepeats
from clapp.front.repeats import store_repeats
from clapp.report import pictures as report_pictures
from clapp.report import words
from clapp.report.classical import classical
from clapp.report.data import Repeats, StudyData, gather
from clapp.report.facts import provenance, text
from clapp.report.figures.compare import compare
from clapp.report.figures.search import worker_rows
from clapp.report.figures.style import SCALE
from clapp.report.importances import random_trials
from clapp.report.page import Source, render, write_report
from clapp.report.pictures import BUDGET, Pictures, gather_pictures
from clapp.report.sections import Section, section
from clapp.study.plan.existing import load_existing
from clapp.study.storage.storage import default_url, open_storage

# set_metric_names is experimental in Optuna.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

NOWHERE = Path("/nonexistent")
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


@pytest.fixture(scope="module")
def made_up() -> StudyData:
    return gather(made_up_study(120), NOWHERE)


def new_study(*trials: FrozenTrial, names: tuple[str, ...] = ("loss", "params", "flops")):
    study = optuna.create_study(study_name="edges", directions=["minimize"] * len(names))
    study.set_metric_names(list(names))
    study.add_trials(trials)
    return study


def complete(loss: float, params: int, flops: int, **facts: object) -> FrozenTrial:
    known = {"config": {}, "loss": loss, "params": params, "flops": flops}
    return create_trial(values=[loss, params, flops], user_attrs={**known, **facts})


def section_of(data: StudyData) -> Section:
    return section("s1", data, Pictures({}, [], [], []))


def draw(data: StudyData) -> dict[str, go.Figure]:
    """Every figure of a study, checked by plotly, which refuses what it does not know."""
    return {figure.key: drawn(figure) for figure in section_of(data).figures()}


def drawn(figure) -> go.Figure:
    document = json.dumps(figure.document())
    assert "NaN" not in document
    return go.Figure(json.loads(re.sub(r'"var\(--\w+\)"', '"#123456"', document)))


def page(study: optuna.Study, folder: Path = NOWHERE) -> str:
    return render([Source(study, folder, study.study_name)])


# What is gathered


def test_trials_are_told_apart_by_what_became_of_them():
    over = complete(0.001, 1001, 1000)
    study = new_study(
        complete(0.02, 100, 5000, baseline="reference"),
        complete(0.01, 50, 4000),
        over,
        create_trial(state=TrialState.PRUNED, user_attrs={"skipped": "duplicate"}),
        create_trial(state=TrialState.PRUNED, user_attrs={"loss": 0.5}),
        create_trial(state=TrialState.FAIL, user_attrs={"failed": "nan after 3 iterations"}),
        create_trial(state=TrialState.FAIL, user_attrs={"failed": "interrupted: by the user"}),
        create_trial(state=TrialState.RUNNING),
        create_trial(state=TrialState.WAITING),
    )
    study.set_user_attr("definition", {"limits": {"params": 1000}})
    assert [trial.outcome for trial in gather(study, NOWHERE).trials] == [
        "trained",
        "on the front",
        "over a limit",
        "skipped",
        "stopped early",
        "failed",
        "interrupted",
        "running",
    ]


def test_a_real_study_with_its_curves_and_what_was_chosen(small_study):
    study = load_existing("small", small_study)
    data = gather(study, small_study / "small")
    document = json.loads((small_study / "small" / "front.json").read_text())
    assert [c.trial for c in data.front] == [row["trial"] for row in document["front"]]
    assert data.filter == "sobel_3"
    assert data.trained == 4
    first = data.trials[0]
    assert first.name == "trial 0 (reference)"
    assert [point.step for point in first.curve] == [10, 20, 30, 40]
    assert first.curve[-1].l2 == pytest.approx(first.loss, rel=0.01)
    assert first.choices["train.learning_rate"] == 0.005  # the default, which the space has too
    searched = {"model.capacity", "model.activation", "train.learning_rate"}
    assert all(set(trial.choices) == searched for trial in data.trials[1:])
    assert data.history[-1].trials == 4
    assert set(data.space) == searched


def test_curves_in_the_storage_are_thinned_out():
    long = [[step, step / 10, 1 / step] for step in range(1, 1001)]
    data = gather(new_study(complete(0.1, 1, 1, curve=long)), NOWHERE)
    steps = [point.step for point in data.trials[0].curve]
    assert steps[0] == 1
    assert steps[-1] == 1000
    assert len(steps) <= 61


def test_repeats_are_equal_trials_or_stored_by_clapp_repeat():
    study = new_study(
        complete(0.01, 9, 9, key="a"),
        complete(0.03, 9, 9, key="a"),
        complete(0.5, 8, 8, key="b"),
        complete(0.2, 7, 7, key="c"),
    )
    store_repeats(study, StoredRepeats(2, [0], [0.5], [1.0]))
    store_repeats(study, StoredRepeats(3, [0, 1, 2, 3], [0.1, 0.2, None, 0.4], [1.0] * 4))
    data = gather(study, NOWHERE)
    assert data.repeats == [Repeats(0, [0.01, 0.03]), Repeats(3, [0.1, 0.2, 0.4])]
    first, second = (one.interval for one in data.repeats)
    assert (first.mean, second.mean) == pytest.approx((0.0003**0.5, 0.2))
    bars = next(draw(data)["front-params"].select_traces({"name": "repeats"}))
    assert bars.y == pytest.approx((first.mean, second.mean), rel=1e-4)
    assert bars.error_y.array[1] == pytest.approx(second.high - second.mean, rel=1e-4)
    assert bars.error_y.array[0] == pytest.approx(99 * first.mean, rel=1e-4)  # cut off
    assert "loss repeated" in dict(section_of(data).trials()["3"]["facts"])


def test_importances_find_what_the_loss_depends_on():
    decides = FloatDistribution(0, 1)
    trials = [
        create_trial(
            values=[x, 1, 1],
            params={"decides": x, "not": (7 * x) % 1},
            distributions={"decides": decides, "not": decides},
            user_attrs={"config": {}, "loss": x, "params": 1, "flops": 1},
        )
        for x in ((0.618 * number) % 1 for number in range(60))
    ]
    study = new_study(*trials)
    study.set_user_attr("definition", {"sampler": "random", "config": {}})
    found = gather(study, NOWHERE).importances
    assert found.ranked() == ["decides", "not"]
    assert found.shares["loss"]["decides"] > 0.8
    assert found.note.startswith("No importances for parameters, FLOPs")


def test_importances_of_an_objective_add_up(made_up):
    shares = made_up.importances.shares
    assert list(shares) == ["loss", "params", "flops"]
    for found in shares.values():
        assert sum(found.values()) == pytest.approx(1)


def test_costs_are_decided_by_the_network_alone(made_up):
    for name in ("params", "flops"):
        shares = made_up.importances.shares[name]
        assert {key.partition(".")[0] for key in shares} == {"model"}
        assert shares["model.capacity"] > 0.1
    assert "model.downsample" not in made_up.importances.shares["params"]
    assert made_up.importances.shares["flops"]["model.downsample"] > 0.01


def test_a_loss_has_importances_from_random_trials_only():
    few = gather(made_up_study(10), NOWHERE).importances
    assert list(few.shares) == ["params", "flops"]
    assert few.note.startswith("No importances for loss: they need at least 15 trained trials")
    study = made_up_study(60)
    every = random_trials(study, "evolution")
    assert len(random_trials(study, "tpe")) < len(every) <= 59  # the reference was not drawn
    assert max(trial.number for trial in random_trials(study, "tpe")) <= 20
    assert random_trials(study, "of a plug-in") == []
    child = new_study(complete(0.1, 9, 9, parent=0))
    assert random_trials(child, "evolution") == []


def test_the_seed_to_do_it_again_is_that_of_the_study():
    study = new_study(complete(0.1, 9, 9, provenance={"seed": 123456, "host": "here"}))
    study.set_user_attr("definition", {"seed": 7, "sampler": "random", "config": {}})
    facts = dict(provenance(gather(study, NOWHERE)))
    assert (facts["seed"], facts["host"]) == ("7", "here")


def test_nothing_is_written_as_python_writes_it():
    assert text({"kernel": [[1, None]], "root": True}) == "kernel: [[1, null]], root: true"


def test_a_study_has_the_same_hypervolume_alone_and_beside_others():
    study = made_up_study(30)
    alone = gather(study, NOWHERE)
    beside = gather(study, NOWHERE, worst={name: 10 * v for name, v in alone.worst.items()})
    assert beside.history == alone.history
    assert beside.shared[-1].hypervolume > alone.shared[-1].hypervolume
    assert alone.shared == alone.history


def test_colours_of_models_are_seen_on_white_and_on_the_dark_page():
    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for _, colour in SCALE:
        light, dark = luminance(colour) + 0.05, luminance("#14171b") + 0.05
        assert 1.05 / light >= 3  # WCAG 2.2, 1.4.11: what is needed to understand a figure
        assert light / dark >= 3


def test_picks_are_the_smallest_as_good_the_knee_and_the_lowest_loss(made_up):
    as_good, knee, lowest = made_up.picks
    better = [c for c in made_up.front if c.loss <= REFERENCE_LOSS]
    assert as_good.model.params == min(c.params for c in better)
    assert as_good.rule == "loss<=0.02"
    assert knee.rule == "knee"
    assert lowest.model.loss == min(c.loss for c in made_up.candidates)


# Words


@pytest.mark.parametrize(
    ("trials", "text"),
    [
        ([], "No trial has finished yet"),
        ([(0.01, 412, 9)], "412 parameters at a loss of 0.01 (20.0 dB)"),
        (
            [(0.02, 2505, 99, "reference"), (0.019, 412, 9), (0.05, 7, 1)],
            "412 parameters do what 2,505 did",
        ),
        (
            [(0.02, 2505, 99, "reference"), (0.03, 412, 9)],
            "Nothing smaller does what the reference does with 2,505 parameters yet",
        ),
    ],
)
def test_headline(trials, text):
    made = [complete(*t[:3], **({"baseline": t[3]} if len(t) > 3 else {})) for t in trials]
    assert words.headline(gather(new_study(*made), NOWHERE)) == text


def test_lead_compares_with_the_reference():
    reference = complete(0.02, 2400, 4_000_000, baseline="reference")
    data = gather(new_study(reference, complete(0.018, 100, 1_000_000)), NOWHERE)
    assert words.lead(data) == (
        "Trial 1 stands in for sobel_3 with 100 parameters and 1M FLOPs a picture; its validation "
        "loss is 0.018 (17.4 dB). The hand-tuned reference, trained in the same study, takes 2,400 "
        "parameters and 4M FLOPs for a loss of 0.02 (17.0 dB): trial 1 has 24 times fewer "
        "parameters, 4 times fewer FLOPs and a loss 10 % lower."
    )


def test_numbers_in_words():
    assert [words.short(v) for v in (0.004734, 0.0000123, 1.2e-7, 2505.4, 0)] == [
        "0.004734",
        "0.0000123",
        "1.2e-07",
        "2505",
        "0",
    ]
    assert [words.duration(v) for v in (0.52, 42, 133, 12000, 187200, 3600)] == [
        "0.52 s",
        "42 s",
        "2 min 13 s",
        "3 h 20 min",
        "2 d 4 h",
        "1 h",
    ]
    assert words.joined(["a", "b", "c"]) == "a, b and c"
    assert words.joined(["a"]) == "a"
    assert words.plural(1, "trial") == "1 trial"


def test_the_classical_filter_costs_its_kernels():
    assert classical("sobel_3").flops == 2 * 30 * 224**2
    assert classical({"kernel": [[1, 0, -1]]}).flops == 2 * (3 + 3) * 224**2
    assert classical("sobel_canny_5").flops is None
    assert classical("my_module:my_filter").flops is None


# Figures


def test_every_figure_is_one_that_plotly_draws(made_up):
    figures = draw(made_up)
    assert list(figures)[:9] == [
        "front-params",
        "front-flops",
        "front-space",
        "hypervolume",
        "curves",
        "timeline",
        "importances",
        "parallel",
        "slice-0",
    ]
    assert sum(key.startswith("slice-") for key in figures) == len(made_up.space) > 18
    front = next(figures["front-params"].select_traces({"name": "front"}))
    assert list(front.customdata) == [c.trial for c in made_up.front]
    assert list(front.y) == pytest.approx([c.loss for c in made_up.front], rel=1e-5)
    classic = next(figures["front-flops"].select_traces({"name": "classical filter"}))
    assert (classic.x, classic.y) == ((2 * 30 * 224**2,), (0,))
    bars = figures["timeline"].data
    assert sum(len(trace.y) for trace in bars) == 120
    assert {trace.name.split(" (")[0] for trace in bars} == {
        "on the front",
        "trained",
        "stopped early",
        "skipped",
        "failed",
    }


def test_workers_that_follow_each_other_share_a_row(made_up):
    assert set(worker_rows(made_up.trials).values()) == {f"machine {n}" for n in (1, 2, 3, 4)}
    first, *others = [t for t in made_up.trials if t.worker == "machine-7-0-abcdef"]
    moved = [replace(trial, worker="machine-9-0-fedcba") for trial in others]
    rows = worker_rows([first, *moved])
    assert rows == {"machine-7-0-abcdef": "machine 1", "machine-9-0-fedcba": "machine 1"}


def test_the_ledger_is_shown_as_it_is(tmp_path):
    ledger = {
        "seconds": {"training": 60.0, "idle": 30.0, "keeping": 0.0},
        "stopped": 3,
        "saved_seconds": 75.0,
        "outcomes": {"to the end": 90.0},
        "audit": {"share": 0.125, "interval": [0.01, 0.5]},
    }
    (tmp_path / "ledger.json").write_text(json.dumps(ledger))
    data = gather(made_up_study(5), tmp_path)
    assert [trace.name for trace in draw(data)["ledger"].data] == ["training 67 %", "idle 33 %"]
    assert section_of(data).ledger == [
        ("trials stopped early", "3"),
        ("training saved by stopping early", "1 min 15 s"),
        ("time in trials trained to the end", "1 min 30 s"),
        ("check: share", "12.5 %"),
        ("check: interval", "1 % to 50 %"),
    ]
    (tmp_path / "ledger.json").write_text("{broken")
    assert section_of(gather(made_up_study(5), tmp_path)).ledger == []


def test_several_studies_are_compared_from_one_worst_point():
    studies = [gather(made_up_study(30), NOWHERE), gather(made_up_study(9), NOWHERE, "short")]
    figures = {figure.key: drawn(figure) for figure in compare(studies)}
    assert list(figures) == ["all-params", "all-flops", "all-volume-trials", "all-volume-time"]
    fronts = [t for t in figures["all-params"].data if not t.name.endswith("reference")]
    assert [t.name for t in fronts] == ["sobel3", "short"]
    assert [len(t.x) for t in fronts] == [len(data.front) for data in studies]
    assert {study for study, _ in fronts[1].customdata} == {"s2"}
    text = render(
        [Source(made_up_study(n), Path(f"/{n}"), "same name") for n in (12, 9)],
    )
    assert "2 studies side by side" in text
    assert '<a href="#s1">/12</a>' in text


# Whatever is missing


@pytest.mark.parametrize("number", [0, 1, 2])
def test_hardly_any_trial(number):
    study = made_up_study(number)
    figures = draw(gather(study, NOWHERE))
    assert ("front-params" in figures) == (number > 0)
    assert ("hypervolume" in figures) == (number > 1)
    assert words.headline(gather(study, NOWHERE)) in page(study)


def test_two_objectives_five_objectives_and_no_reference():
    two = gather(made_up_study(40, objectives=("loss", "latency"), reference=False), NOWHERE)
    assert two.reference is None
    assert [pick.rule for pick in two.picks] == ["knee", "min-loss"]
    assert list(two.importances.shares) == ["loss", "latency"]
    five = ("loss", "params", "flops", "latency", "memory")
    study = made_up_study(40, objectives=five)
    text = page(study)
    assert "latency (ms)" in text
    assert "memory (bytes)" in text
    assert draw(gather(study, NOWHERE))


def test_only_failures():
    study = new_study(
        create_trial(state=TrialState.FAIL, user_attrs={"failed": f"ValueError: {EVIL}"}),
        create_trial(state=TrialState.RUNNING),
        create_trial(state=TrialState.PRUNED, user_attrs={"skipped": "duplicate"}),
    )
    text = page(study)
    assert "No trial has finished yet" in text
    assert "ValueError: &lt;img src=x" in text


def test_names_are_no_html():
    study = made_up_study(30)
    study.set_user_attr("definition", {**study.user_attrs["definition"], "description": EVIL})
    study.add_trial(complete(1e-6, 3, 99, baseline=EVIL, worker=f"{EVIL}-1-0-a"))
    text = render([Source(study, NOWHERE, EVIL)])
    assert EVIL not in text
    assert text.count("&lt;img src=x onerror=alert(1)&gt;") > 4
    assert EVIL not in json.dumps(draw(gather(study, NOWHERE))["timeline"].to_dict())


def test_a_page_needs_nothing_else_and_is_small(small_study, tmp_path):
    report = write_report(["small"], small_study, out=tmp_path / "new" / "page.html")
    text = report.path.read_text()
    assert report.studies == ["small"]
    assert report.bytes == len(text.encode()) < 3_000_000
    links = re.findall(r'\b(?:src|href)="([^"]{0,20})', text)
    assert links
    assert all(link.startswith(("data:image/webp;", "#")) for link in links)
    assert "default-src 'none'" in text
    assert [p.name for p in report.path.parent.iterdir()] == ["page.html"]


def test_a_thousand_trials_take_seconds():
    study = made_up_study(1000)
    begun = time.process_time()
    text = page(study)
    assert time.process_time() - begun < 30
    assert len(text.encode()) < 6_000_000


# Pictures


@pytest.fixture
def copied(small_study, tmp_path) -> Path:
    shutil.copytree(small_study / "small", tmp_path / "small")
    return tmp_path / "small"


def test_broken_and_missing_pictures_are_counted(copied):
    data = gather(load_existing("small", copied.parent), copied)
    first, *others = [c.trial for c in data.front]
    (copied / "trials" / f"{first:05d}" / "preview.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    found = gather_pictures(copied, data.front, data.picks)
    assert found.missing == [first]
    assert list(found.previews) == others
    nowhere = gather_pictures(NOWHERE, data.front, data.picks)
    assert nowhere.previews == {}
    assert nowhere.worst == []


def test_a_truncated_picture_is_missing(copied):
    data = gather(load_existing("small", copied.parent), copied)
    preview = copied / "trials" / f"{data.front[0].trial:05d}" / "preview.png"
    preview.write_bytes(preview.read_bytes()[:3000])
    assert gather_pictures(copied, data.front, []).missing == [data.front[0].trial]


def test_worst_pictures_have_the_highest_losses(copied):
    data = gather(load_existing("small", copied.parent), copied)
    found = gather_pictures(copied, data.front, data.picks)
    by_trial = {c.trial: c for c in data.front}
    assert {worst.trial for worst in found.worst} == {
        pick.model.trial for pick in data.picks if pick.rule in ("knee", "min-loss")
    }
    for worst in found.worst:
        assert worst.number == 5
        assert len(worst.losses) == 3
        assert sorted(worst.losses, reverse=True) == worst.losses
        assert worst.losses[-1] >= worst.median
        mean = by_trial[worst.trial].loss
        assert sum(worst.losses) < 5 * mean < 3 * sum(worst.losses)
        assert worst.sheet.uri.startswith("data:image/webp;base64,")
    (copied / "trials" / f"{found.worst[0].trial:05d}" / "model.safetensors").write_bytes(b"")
    (note,) = gather_pictures(copied, data.front, data.picks[-2:-1]).notes
    assert note.startswith(f"Where trial {data.picks[-2].model.trial} fails most is not shown")


def test_many_pictures_share_a_budget(copied, monkeypatch):
    monkeypatch.setattr(report_pictures, "MOST", 8)
    source = Image.open(copied / "trials" / "00000" / "preview.png").convert("RGB")
    noise = np.random.default_rng(0).integers(0, 60, (source.height, source.width, 3), np.uint8)
    grainy = Image.fromarray(np.asarray(source) // 2 + noise)
    front = gather(made_up_study(200), NOWHERE).front
    for model in front:
        folder = copied / "trials" / f"{model.trial:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        grainy.save(folder / "preview.png")
    assert len(front) > 8
    budget = BUDGET // 100 * 8
    found = gather_pictures(copied, front, [], budget)
    assert len(found.previews) == 8
    assert front[0].trial in found.previews
    assert sum(len(picture.uri) for picture in found.previews.values()) < 2 * budget


# The command


def test_the_command_writes_and_says_so(small_study, copied):
    done = clapp("report", str(copied), "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["path"] == str(copied / "report.html")
    assert document["studies"] == ["small"]
    assert Path(document["path"]).stat().st_size == document["bytes"]
    assert done.stderr == ""


def test_a_folder_that_was_set_aside_still_has_its_study(copied):
    aside = copied.rename(copied.with_name("small.20260501-120000"))
    report = write_report([str(aside)], Path("results"))
    assert report.path == aside / "report.html"
    assert "small.20260501-120000" in report.path.read_text()


def test_mistakes_in_one_line(small_study, tmp_path):
    with pytest.raises(UserError, match="no study named 'corners'"):
        write_report(["corners"], small_study)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"page\.html: cannot be written"):
        write_report(["small"], small_study, out=tmp_path / "file" / "page.html")
    empty = tmp_path / "empty"
    empty.mkdir()
    open_storage(default_url(empty))
    with pytest.raises(UserError, match="one study is expected there, not 0"):
        write_report([str(empty)], small_study)
