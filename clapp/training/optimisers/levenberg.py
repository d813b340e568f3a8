"""Levenberg-Marquardt for networks of tens to hundreds of parameters.

Levenberg 1944, Marquardt 1963; the damping is proportional to the diagonal of the normal equations,
as Marquardt proposed. The equations of earlier batches are added with weights that fall
geometrically, so a batch of a few crops is enough. A residual is output minus target of one pixel.
Losses other than L2 are minimised by computing new weights of the residuals at every step
(iteratively reweighted least squares).
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from clapp.errors import ConfigError
from clapp.models.fast_conv.layer import fast_convolutions
from clapp.training.losses import Loss
from clapp.training.losses.pixels import l2
from clapp.training.optimisers.tangents import jacobian

_FIRST_DAMPING = 1e-2
_TINY = 1e-6
_HEAVIEST = 1e4  # below a fortieth of a grey level, the weight of an L1 residual stays constant
_LEAST, _MOST = 1e-8, 1e8
_FACTOR = 4.0
# Share of the equations of earlier batches that is kept, so that a step does not undo what another
# batch has taught. Without it, low losses vary by a third from step to step.
_MEMORY = 0.3
_TRIES = 5  # dampings tried in one step before the batch is given up
# Least diagonal element, as a share of the largest: it limits steps of parameters without effect.
_FLOOR = 1e-10
# Weight of the squared parameters beside the mean loss. Where the output is divided by its maximum,
# the scale of the parameters has no effect, and without a ridge it drifts beyond 1e13.
_RIDGE = 1e-10
# Bytes of the tangents of one block of pictures; a few times as much is alive at once.
_BLOCK_BYTES = 32 << 20


class LevenbergMarquardt:
    """Updates the parameters of a network in place.

    A step counts as 20 iterations of Adam, which is about as long as it takes.

    Attributes:
        damping: the damping of the next step; it falls after a step that lowers the loss of its
            batch.
    """

    iterations, repeats = 20, 3

    def __init__(self, net: nn.Module, loss: Loss, widest: int) -> None:
        """`widest` is the largest number of channels inside, from which memory is estimated."""
        self.net, self.loss, self.widest = net, loss, widest
        self.parameters = list(net.parameters())
        self.count = sum(p.numel() for p in self.parameters)
        self.damping = _FIRST_DAMPING
        self._memory: tuple[Tensor, Tensor] | None = None

    def release(self) -> None:
        """Do nothing: the parameters were not changed to views."""

    @torch.no_grad()
    def step(self, x: Tensor, y: Tensor, _rate: float = 0.0) -> Tensor:
        """One step on pictures (B, C, H, W) and targets (B, Cout, H, W); the mean loss before it.

        The step is the solution of the damped normal equations that lowers the loss of this batch;
        where no damping does, the parameters stay.
        """
        matrix, gradient, before = self.normal_equations(x, y)
        if not (torch.isfinite(matrix).all() and torch.isfinite(before)):
            return torch.full_like(before, torch.nan)
        if self._memory is not None:
            matrix, gradient = matrix + self._memory[0], gradient + self._memory[1]
        diagonal = matrix.diagonal()
        scale = diagonal.clamp_min(_FLOOR * float(diagonal.max().clamp_min(1e-30)))
        values = nn.utils.parameters_to_vector(self.parameters)
        ridge = 2 * _RIDGE * y.numel()
        matrix = matrix + ridge * torch.eye(self.count, dtype=matrix.dtype, device=matrix.device)
        gradient = gradient + ridge * values
        for _ in range(_TRIES):
            factor, failed = torch.linalg.cholesky_ex(matrix + self.damping * scale.diag())
            if not failed:
                move = torch.cholesky_solve(gradient[:, None], factor)[:, 0]
                self._set(values - move.to(values.dtype))
                if self._loss(x, y) < before:
                    self.damping = max(self.damping / _FACTOR, _LEAST)
                    # The gradient of the same quadratic at the new place.
                    gradient = gradient - matrix @ move
                    break
            self.damping = min(self.damping * _FACTOR, _MOST)
        else:
            self._set(values)
        self._memory = _MEMORY * matrix, _MEMORY * gradient
        return before

    def normal_equations(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """J' W J and J' r in float64, summed over all pixels, and the mean loss.

        J are the derivatives of the output by the parameters, r those of the loss by the output,
        and W the weights by which r is a weighted residual.
        """
        matrix = torch.zeros(self.count, self.count, dtype=torch.float64, device=x.device)
        gradient = torch.zeros(self.count, dtype=torch.float64, device=x.device)
        total = torch.zeros((), dtype=torch.float64, device=x.device)
        for part in self._blocks(x):
            output, tangents = jacobian(self.net, x[part])
            slope, weight, loss = _linearised(self.loss, output, y[part])
            # Products of a picture in single precision, sums over pictures in double.
            derivatives = tangents.transpose(0, 1).flatten(2)  # (b, P, pixels)
            weighted = derivatives * weight.flatten(1)[:, None].to(x.dtype)
            matrix += torch.bmm(weighted, derivatives.transpose(1, 2)).double().sum(0)
            gradient += (
                torch.bmm(derivatives, slope.flatten(1)[..., None].to(x.dtype))
                .double()
                .sum(0)[:, 0]
            )
            total += loss * (len(output) / len(x))
        return matrix, gradient, total

    def _blocks(self, x: Tensor) -> Iterator[slice]:
        height, width = x.shape[-2:]
        one = 4 * self.count * self.widest * height * width
        size = max(1, _BLOCK_BYTES // one)
        return (slice(start, start + size) for start in range(0, len(x), size))

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        with fast_convolutions(self.net):
            return self.loss(self.net(x).double(), y.double())

    def _set(self, values: Tensor) -> None:
        nn.utils.vector_to_parameters(values, self.parameters)


def _linearised(loss: Loss, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The loss as a weighted sum of squares near `output`: slope, weight (both float64), mean loss.

    Raises:
        ConfigError: the loss is no sum over pixels that grows with the error.
    """
    error = output.double() - target
    if loss is l2:  # the usual case, without a second forward and backward pass
        return 2 * error, torch.full_like(error, 2), error.square().mean()
    # At an error of zero, take the weight of a small error.
    nearby = torch.where(error.abs() < _TINY, torch.full_like(error, _TINY), error)
    with torch.enable_grad():
        prediction = (target + nearby).requires_grad_()
        mean = loss(prediction, target.double())
        (slope,) = torch.autograd.grad(mean * output.numel(), prediction)
    weight = (slope / nearby).clamp_max(_HEAVIEST)
    if (weight < 0).any():
        raise ConfigError("train.optimizer lm needs a loss that grows with the error of each pixel")
    return weight * error, weight, loss(output.double(), target.double())
