import pytest
import torch
from test_training import tiny

from clapp import seeds
from clapp.config import Config
from clapp.model import FilterNet
from clapp.seeds import _joined, _seeded_net, _separated, train_seeds
from clapp.training import train
from clapp.validation import validation_set

SEEDS = [3, 1, 4]


# Elsewhere some gradients are zero but for rounding, and Adam follows their signs.
SMOOTH = [
    "train.batch_seed=7",
    "model.capacity=3",
    "model.num_layers=2",
    "model.norm=none",
    "model.activation=swish",
    "model.padding=zero",
    "model.output_norm=max",
]


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["model.norm=group", "model.padding=reflect"],
        ["model.separable=true", "model.output_norm=max", "model.output_activation=sqrt"],
        ["model.stem=1", "model.shared_weights=false", "model.flip_conv_norm=false"],
        ["model.downsample=2", "model.norm=none", "model.rezero=false", "model.activation=square"],
        ["model.shared_weights=true", "model.reskip=false"],
    ],
)
def test_copies_are_the_networks_side_by_side(changes: list[str]) -> None:
    config = tiny("model.capacity=4", "model.num_layers=2", *changes)
    nets = [_seeded_net(config, seed) for seed in SEEDS]
    joined = _joined(nets)
    x = torch.rand(2, 3, 21, 18)
    outputs = joined(x)
    for index, net in enumerate(nets):
        torch.testing.assert_close(outputs[:, index : index + 1], net(x), atol=1e-5, rtol=1e-4)
        again = _separated(joined, index)
        for one, other in zip(again.parameters(), net.parameters(), strict=True):
            assert torch.equal(one, other)
    assert sum(p.numel() for p in joined.parameters()) == sum(
        p.numel() for net in nets for p in net.parameters()
    )


@pytest.mark.parametrize("changes", [[], ["train.validation_images=3"]])
def test_together_is_what_each_is_alone(changes: list[str]) -> None:
    config = tiny(*SMOOTH, *changes)
    alone = [train(tiny_seed(config, seed)) for seed in SEEDS]
    together = train_seeds(config, SEEDS, together=True)
    assert len({result.loss for result in alone}) == len(SEEDS)
    for one, other in zip(alone, together, strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-4)
        assert [p.l2 for p in other.curve] == pytest.approx([p.l2 for p in one.curve], rel=1e-4)
        assert [p.train_loss for p in other.curve] == pytest.approx(
            [p.train_loss for p in one.curve], rel=1e-4
        )
        assert (other.iterations, other.images) == (one.iterations, one.images)
        assert (other.stop_reason, other.device) == (one.stop_reason, one.device)
        assert not other.model.training
        x = torch.rand(2, 3, 20, 20)
        torch.testing.assert_close(other.model(x), one.model(x), atol=1e-4, rtol=1e-3)


def tiny_seed(config: Config, seed: int) -> Config:
    return config.with_train(seed=seed)


def test_each_ends_by_its_own_rule_and_keeps_its_weights_of_that_moment() -> None:
    config = tiny(*SMOOTH, "train.max_iterations=24", "train.min_iterations=4")
    whole = [train(tiny_seed(config, seed)) for seed in SEEDS]
    # A threshold that not all cross at the same time.
    crossings = sorted({point.ema for result in whole for point in result.curve})
    config = config.model_copy(
        update={
            "train": config.train.model_copy(
                update={"stop_l2_loss": (crossings[8] + crossings[9]) / 2}
            )
        }
    )
    alone = [train(tiny_seed(config, seed)) for seed in SEEDS]
    together = train_seeds(config, SEEDS, together=True)
    assert len({result.iterations for result in alone}) > 1
    for one, other in zip(alone, together, strict=True):
        assert (other.iterations, other.stop_reason) == (one.iterations, one.stop_reason)
        assert other.loss == pytest.approx(one.loss, rel=1e-2)
        # The weights are of that moment: they give that loss again.
        assert validated(config, other.model) == pytest.approx(other.loss, rel=1e-4)


def validated(config: Config, model: FilterNet) -> float:
    images, targets = validation_set(config.valid_data, config.target_filter)
    with torch.no_grad():
        output = model(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
    return (output[:, 0] - torch.from_numpy(targets) / 255).square().mean().item()


def test_one_that_diverges_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(*SMOOTH)
    alone = train(tiny_seed(config, 1))
    make = seeds._seeded_net

    def broken(config: Config, seed: int) -> FilterNet:
        net = make(config, seed)
        if seed == 3:
            net.prep.weight.data.fill_(float("nan"))
        return net

    monkeypatch.setattr(seeds, "_seeded_net", broken)
    first, second = train_seeds(config, [3, 1], together=True)
    assert first.stop_reason == "nan"
    assert first.loss != first.loss
    assert second.loss == pytest.approx(alone.loss, rel=1e-3)


def test_with_two_resolutions_they_are_trained_one_after_another() -> None:
    config = tiny("num_resolutions=2", "train.max_iterations=4")  # batches by its own seed
    results = train_seeds(config, [5, 6])
    for seed, result in zip((5, 6), results, strict=True):
        batches = f"train.batch_seed={config.train.seed}"
        expected = train(
            tiny("num_resolutions=2", "train.max_iterations=4", f"train.seed={seed}", batches)
        )
        assert [p.l2 for p in result.curve] == [p.l2 for p in expected.curve]
        assert (result.iterations, result.images) == (expected.iterations, expected.images)


def test_the_callers_random_numbers_are_left_alone() -> None:
    state = torch.get_rng_state()
    train_seeds(tiny("train.max_iterations=1"), [1, 2], together=True)
    assert torch.equal(torch.get_rng_state(), state)
