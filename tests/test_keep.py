"""What a trial leaves in its folder, and the pictures made of it when somebody looks."""

from pathlib import Path

import torch

import clapp
from clapp.config import Config, load_config
from clapp.models.build import build_model
from clapp.study.storage.keep import keep, trial_folder
from clapp.training.folder import (
    CONFIG,
    CURVE,
    CURVE_PICTURE,
    PREVIEW,
    RESULT,
    WEIGHTS,
    draw_pictures,
)
from clapp.training.trainer import Point, TrainResult

SMALL = load_config(
    {
        "model": {"capacity": 2},
        "valid_data": {"resize_base": 64, "crop_size": 48, "num_images": 3},
    }
)


def trained(config: Config) -> TrainResult:
    torch.manual_seed(0)
    curve = [Point(100 * n, n, 0.1, 0.05 / n, 0.05 / n, 0.01) for n in range(1, 13)]
    model = build_model(config.model).eval()
    return TrainResult(
        model, 0.0123, 0.01, "plateau", 1200, 9600, 3.21, {}, curve, "cpu", "adam", 1
    )


def test_a_trial_leaves_its_model_and_pictures_are_drawn_later(tmp_path: Path) -> None:
    keep(tmp_path, 7, SMALL, trained(SMALL))
    folder = trial_folder(tmp_path, 7)
    assert {path.name for path in folder.iterdir()} == {CONFIG, CURVE, RESULT, WEIGHTS}
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(clapp.load(folder)(image), trained(SMALL).model(image))
    assert [path.name for path in draw_pictures(folder)] == [PREVIEW, CURVE_PICTURE]
    before = (folder / PREVIEW).stat().st_mtime_ns
    draw_pictures(folder)
    assert (folder / PREVIEW).stat().st_mtime_ns == before


def test_a_curve_that_cannot_be_read_is_not_drawn(tmp_path: Path) -> None:
    keep(tmp_path, 0, SMALL, trained(SMALL))
    folder = trial_folder(tmp_path, 0)
    for content in ("[{", "{}", '[{"step": 1}]', '[{"step": 1, "l2": null}]'):
        (folder / CURVE).write_text(content)
        assert [path.name for path in draw_pictures(folder)] == [PREVIEW]
