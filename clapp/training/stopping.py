"""When a stage of training ends: the average of validation L2, its threshold and its plateau."""

import math

from clapp.config import TrainConfig

_WORTH = 0.01  # an improvement smaller than this share of the best is none


class StoppingRule:
    """Follows one stage; a new stage takes a new rule.

    Attributes:
        ema: exponential moving average of validation L2; the first value as it is, NaN before.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self.ema, self._best = math.nan, math.inf
        self._waited = 0

    def update(self, l2: float, step: int) -> str | None:
        """Take in a validation after `step` steps of the stage; "threshold", "plateau" or None."""
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
