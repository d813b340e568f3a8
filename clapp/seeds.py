"""One configuration trained from several seeds, in one pass.

Ten seeds of the smallest networks so take half the time on a processor, of the reference nine
tenths (docs/performance.md); on a GPU, such networks one by one leave nearly all of it idle.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from clapp.adam import Adam
from clapp.config import Config
from clapp.device import resolve_device
from clapp.losses import Loss
from clapp.model import FilterNet
from clapp.pool import Pool
from clapp.stopping import StoppingRule
from clapp.training import Point, Trainer, TrainResult, check, train


def train_seeds(
    config: Config, seeds: Sequence[int], *, together: bool | None = None
) -> list[TrainResult]:
    """Train `config` once for each seed, on the same batches.

    Args:
        config: its `train.seed` counts only where `train.batch_seed` is null: for the batches.
        seeds: of the weights.
        together: all in one pass; None: when there is one resolution.

    Returns:
        Results in the order of the seeds, equal within rounding to those of separate trainings.

    Raises:
        ConfigError, UserError, FeederError: as `clapp.train`.
    """
    check(config)
    settings = config.train
    batches = settings.seed if settings.batch_seed is None else settings.batch_seed
    device = resolve_device(settings.device)
    if together is None:
        together = config.num_resolutions == 1
    if not together:
        return [train(config.with_train(seed=seed, batch_seed=batches)) for seed in seeds]
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        Pool.open(config.train_data, 1) as pool,
    ):
        nets = [_seeded_net(config, seed) for seed in seeds]
        return _Together(config.with_train(batch_seed=batches), nets, pool, device).results()


def _seeded_net(config: Config, seed: int) -> FilterNet:
    torch.manual_seed(seed)
    return FilterNet(config.model)


@dataclass
class _Member:
    """What one of the networks has been through."""

    rule: StoppingRule
    curve: list[Point] = field(default_factory=list)
    reason: str | None = None
    model: FilterNet | None = None


class _Together(Trainer):
    """Trains networks side by side; those that have ended go along, but nothing is made of it."""

    def __init__(
        self, config: Config, nets: Sequence[FilterNet], pool: Pool, device: torch.device
    ) -> None:
        super().__init__(config, pool, device, None)
        self.model = _joined(nets).to(device)
        self.widest *= len(nets)
        self.optimiser = Adam(self.model.parameters())
        self.members = [_Member(StoppingRule(config.train)) for _ in nets]

    def results(self) -> list[TrainResult]:
        """Train to the end of the last member."""
        reason = self.stage(0)
        return [self._result(member, reason, index) for index, member in enumerate(self.members)]

    def compare(self, measure: Loss, prediction: Tensor, target: Tensor) -> Tensor:
        """The measure of each member, (N,), from predictions (b, N, S, S) and targets."""
        each: Tensor = torch.vmap(measure, in_dims=(1, None))(prediction, target.squeeze(1))
        return each

    def review(self, stage: int, step: int, rule: StoppingRule, mean: Tensor) -> str | None:
        """Validate and record; a reason to end when every member has one."""
        del stage, rule  # there is one stage, and each member has a rule of its own
        with self.timed("validate"):
            l2 = self.validate().tolist()
        seconds = time.perf_counter() - self.start
        for index, (member, value, loss) in enumerate(
            zip(self.members, l2, mean.tolist(), strict=True)
        ):
            if member.reason is not None:
                continue
            finite = math.isfinite(value) and math.isfinite(loss)
            member.reason = member.rule.update(value, step) if finite else "nan"
            point = Point(self.iterations, seconds, loss, value, member.rule.ema, self.rate)
            member.curve.append(point)
            if member.reason is not None:
                member.model = _separated(self.model, index)
        if self.out_of_time():
            return "time"
        return None if any(m.reason is None for m in self.members) else "ended"

    def _result(self, member: _Member, reason: str, index: int) -> TrainResult:
        end = member.curve[-1]
        why = member.reason or reason
        model = member.model or _separated(self.model, index)
        loss = math.nan if why == "nan" else self.final_l2(model, end)
        return TrainResult(
            model=model.to("cpu").eval(),
            loss=loss,
            ema=end.ema,
            stop_reason=why,
            iterations=end.step,
            images=end.step * self.config.train.batch_size,
            seconds=end.seconds,
            timings=self.times(),
            curve=member.curve,
            device=str(self.device),
        )


def _joined(nets: Sequence[FilterNet]) -> FilterNet:
    """One network of N copies with the weights of N networks."""
    with torch.device("meta"):
        joined = FilterNet(nets[0].config, len(nets))
    states = [net.state_dict() for net in nets]
    weights = {
        name: torch.cat([state[name] for state in states], _side(name)) for name in states[0]
    }
    joined.load_state_dict(weights, assign=True)
    return joined.requires_grad_()


def _separated(joined: FilterNet, index: int) -> FilterNet:
    """The copy with number `index` as a network of its own."""
    with torch.device("meta"):
        net = FilterNet(joined.config)
    weights = {
        name: weight.chunk(joined.copies, _side(name))[index].clone()
        for name, weight in joined.state_dict().items()
    }
    net.load_state_dict(weights, assign=True)
    return net.requires_grad_()


def _side(name: str) -> int:
    """The dimension of a parameter along which copies lie."""
    return 1 if name.endswith(("alfa", "beta")) else 0
