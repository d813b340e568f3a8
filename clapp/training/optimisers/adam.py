"""Adam (Kingma & Ba 2015) for networks of a few thousand parameters.

All parameters lie in one vector, and so do their gradients, so a step takes six operations however
many layers there are. With torch's fused optimiser, a step of the smallest networks took a tenth
longer, and the first step of a process took 1.5 s, because it imports torch's compiler.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from clapp.models.fast_conv.layer import fast_convolutions
from clapp.training.losses import Loss
from clapp.training.optimisers.wide import Wide
from clapp.training.tensors import chunks

_BETAS = 0.9, 0.999
_EPS = 1e-8


class Adam:
    """Updates parameters in place; until `release` they are views of one vector."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self._values = torch.cat([p.detach().flatten() for p in self._parameters])
        self._gradient = torch.zeros_like(self._values)
        self._mean, self._square = (torch.zeros_like(self._values) for _ in range(2))
        self._steps = 0
        place = 0
        for p in self._parameters:
            part = slice(place, place + p.numel())
            p.data = self._values[part].view_as(p)
            p.grad = self._gradient[part].view_as(p)
            place = part.stop

    def zero_grad(self) -> None:
        """Set the gradients to zero."""
        self._gradient.zero_()

    def clip(self, most: float) -> None:
        """Scale the gradient down to the norm `most` if it is larger, over all parameters
        together."""
        norm = torch.linalg.vector_norm(self._gradient)
        self._gradient.mul_((most / norm.clamp_min(1e-30)).clamp_max(1))

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One step with learning rate `rate`, from the gradients gathered since `zero_grad`."""
        self._steps += 1
        first, second = _BETAS
        g = self._gradient
        self._mean.lerp_(g, 1 - first)
        self._square.mul_(second).addcmul_(g, g, value=1 - second)
        scale = (1 - second**self._steps) ** 0.5
        size = self._square.sqrt().div_(scale).add_(_EPS)
        self._values.addcdiv_(self._mean, size, value=-rate / (1 - first**self._steps))

    def release(self) -> None:
        """Give each parameter memory of its own again, and no gradient."""
        for p in self._parameters:
            p.data, p.grad = p.data.clone(), None


class FirstOrder:
    """Steps of Adam on the gradient of a loss over a batch."""

    iterations = repeats = 1

    def __init__(
        self,
        net: nn.Module,
        loss: Loss,
        widest: int,
        bf16: bool,
        clip: float | None = None,
        wide: Wide | None = None,
    ) -> None:
        """`widest` is the largest number of channels inside, `bf16` whether the network computes
        in bfloat16, `clip` the largest norm of a gradient, `wide` what its kernels come from."""
        self.net, self.loss, self.widest, self.bf16 = net, loss, widest, bf16
        self.clip, self.wide = clip, wide
        self.adam = Adam(net.parameters() if wide is None else wide.parameters)

    def step(self, x: Tensor, y: Tensor, rate: float) -> Tensor:
        """One step on pictures (B, 3, S, S) and targets (B, C, S, S); returns the loss.

        Chunks of the batch accumulate their gradients, each weighted by its share of the pictures:
        the same mathematics, because no layer mixes pictures.
        """
        self.adam.zero_grad()
        if self.wide is not None:
            self.wide.zero_grad()
        total = torch.zeros((), device=x.device)
        with fast_convolutions(self.net):
            for part in chunks(x, self.widest, x.device):
                with torch.autocast(x.device.type, torch.bfloat16, self.bf16):
                    prediction = self.net(x[part])
                value = self.loss(prediction.float(), y[part]) * (len(prediction) / len(x))
                value.backward()  # type: ignore[no-untyped-call]
                total = total + value.detach()
        if self.wide is not None:
            self.wide.backward()
        if self.clip is not None:
            self.adam.clip(self.clip)
        self.adam.step(rate)
        if self.wide is not None:
            self.wide.fold()
        return total

    def release(self) -> None:
        """Give each parameter memory of its own again, and no gradient."""
        self.adam.release()
        if self.wide is not None:
            self.wide.zero_grad()
