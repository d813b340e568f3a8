"""When a stage of training ends: the average of validation L2, its threshold and its plateau."""

import math

from clapp.config import TrainConfig

_WORTH = 0.01  # a smaller relative improvement does not count


class StoppingRule:
    """Decides when one stage of training ends; each stage needs a new one.

    Attributes:
        ema: exponential moving average of validation L2, which begins with the first value; NaN
            before the first validation.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self.ema, self._best = math.nan, math.inf
        self._waited = 0

    def update(self, l2: float, step: int) -> str | None:
        """Add a validation after `step` steps; returns why the stage ends: "threshold", "plateau"
        or None."""
        weight = self._config.stop_loss_ema
        self.ema = l2 if math.isnan(self.ema) else weight * self.ema + (1 - weight) * l2
        if self.ema < self._best * (1 - _WORTH):
            self._best, self._waited = self.ema, 0
        else:
            self._waited += 1
        if step < self._config.min_iterations:
            return None
        if self._config.stop_l2_loss is not None and self.ema < self._config.stop_l2_loss:
            return "threshold"
        if self._config.patience is not None and self._waited >= self._config.patience:
            return "plateau"
        return None
