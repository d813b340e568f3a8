import json
from pathlib import Path
from typing import Any

import pytest
from test_model import SMALL
from typer.testing import CliRunner

import clapp
from clapp.commands.app import app
from clapp.commands.shrink import shrink, shrink_folder
from clapp.config import load_config, model_config
from clapp.errors import ConfigError, UserError
from clapp.models.costs import cost
from clapp.models.neighbours import neighbours, smaller
from clapp.models.networks.filternet import FilterNet
from clapp.training.folder import save_trained
from clapp.training.trainer import train

SOBEL: dict[str, Any] = {
    "model": SMALL
    | {"stem": 1, "kernel_size": 5, "activation": "square", "padding": "reflect"}
    | {"output_activation": "sqrt", "output_norm": "max"},
    "train_data": {"crop_size": 40},
    "train": {"device": "cpu", "loss_type": "l2", "stop_l2_loss": None, "starts": 4},
}


def test_every_change_is_smaller_and_possible() -> None:
    net = model_config(SOBEL["model"])
    found = smaller(net)
    sizes = [cost(net.model_dump() | values).params for _, values in found]
    assert sizes == sorted(sizes)
    assert max(sizes) < cost(net).params
    words = [change for change, _ in found]
    assert {"no biases", "the sum of the channels as head", "no stem"} & set(words)
    assert "block 0: 5x1 then 1x5 depthwise" in words
    assert "block 0: 3x3" in words
    assert len(set(words)) == len(words)
    for _, values in found:
        FilterNet(model_config(net.model_dump() | values))


def test_a_network_has_larger_neighbours_too() -> None:
    net = model_config(SOBEL["model"] | {"num_layers": 2, "depthwise": True, "capacity": 2})
    found = {one.words: (one.params, one.change) for one in neighbours(net)}
    larger = {words for words, (params, _) in found.items() if params > cost(net).params}
    assert "one channel more in every block" in larger
    assert {"a stem of 2", "block 0: 7x7", "block 1: 5x7", "block 1: 7x5"} <= larger
    assert {words for words, _ in smaller(net)} <= set(found)
    for params, values in found.values():
        assert params == cost(net.model_dump() | values).params


def test_a_column_and_a_row_reach_farther_together() -> None:
    lists = {"num_layers": 3, "kernel_size": ["3x1", "1x3", 1], "capacity": 2}
    net = model_config(SOBEL["model"] | lists)
    found = {one.words: one.change for one in neighbours(net)}
    assert found["larger kernels in every block"] == {"kernel_size": ["5x1", "1x5", 1]}
    largest = model_config(SOBEL["model"] | lists | {"kernel_size": [7, "7x1", 7]})
    assert "larger kernels in every block" not in {one.words for one in neighbours(largest)}
    single = {one.words for one in neighbours(model_config(SOBEL["model"]))}
    assert "larger kernels in every block" not in single  # it is a change of its only block


def test_absolute_values_may_become_squares_with_a_root() -> None:
    net = model_config(SOBEL["model"] | {"activation": "abs", "output_activation": "relu"})
    found = {one.words: one.change for one in neighbours(net)}
    change = found["block 0: square and a root at the end"]
    assert change == {"activation": ["square"], "output_activation": "sqrt"}
    back = {one.words for one in neighbours(model_config(net.model_dump() | change))}
    assert "block 0: absolute value and no root at the end" in back


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shrink") / "model"
    config = load_config(SOBEL)
    save_trained(folder, config, train(config))
    return folder


def test_59_parameters_become_23(trained: Path) -> None:
    result = CliRunner().invoke(app, ["shrink", str(trained), "--loss-at-most", "3e-5", "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["params"] <= 31
    assert document["loss"] <= 3e-5
    sizes = [step["params"] for step in document["steps"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 59
    assert cost(clapp.load(document["path"]).config).params == document["params"]
    again = CliRunner().invoke(app, ["shrink", str(trained)])
    assert (again.exit_code, "is there already" in str(again.exception)) == (1, True)


def test_a_loss_the_model_does_not_meet_is_refused(trained: Path) -> None:
    config = load_config(SOBEL, ["train.max_iterations=100", "train.min_iterations=0"])
    with pytest.raises(ConfigError, match="the model itself has a loss of"):
        shrink(config, clapp.load(trained).state_dict(), 1e-9)


@pytest.mark.parametrize("place", ["/proc/none", "/dev/null/none"])
def test_where_nothing_can_be_written_is_said_before_the_search(trained: Path, place: str) -> None:
    with pytest.raises(UserError, match=f"{place}: cannot be written: "):
        shrink_folder(trained, out=Path(place))


def test_a_search_that_fails_leaves_no_folder(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the model itself has a loss of"):
        shrink_folder(trained, 1e-12, tmp_path / "new")
    assert not (tmp_path / "new").exists()
