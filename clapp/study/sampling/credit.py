"""How much each kind of trial brought to the front so far, and how often it is tried for that.

Which changes help depends on the filter and on how far the search has come: fewer channels at the
end, other functions at first, random networks as long as nothing is good. That is known as adaptive
operator selection (Fialho 2010).
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from math import sqrt

import numpy as np
from numpy.typing import NDArray

GUESSED = 10
"""How many trials of a kind its first guess counts for, which is the mean of all kinds."""
LEAST = 0.25
"""What a kind that never brought anything counts, relative to the mean of all: it may yet."""


def kind(move: str) -> str:
    """The name of a change without its numbers: of which block, to how many channels."""
    return re.sub(r"\d+", "#", move)


class Credit:
    """What trials of each kind brought.

    That is the square root of the hypervolume they added on log scales: a rare leap counts more
    than small steps, but does not outweigh hundreds of them.
    """

    def __init__(self) -> None:
        self._brought: defaultdict[str, float] = defaultdict(float)
        self._trials: Counter[str] = Counter()

    def add(self, kind: str, gain: float) -> None:
        """A trial of a kind ended, and added so much hypervolume to the front."""
        self._trials[kind] += 1
        self._brought[kind] += sqrt(max(gain, 0.0))

    def weights(self, kinds: Iterable[str]) -> NDArray[np.float64]:
        """How much more often than others each of some kinds is tried: (kinds,)."""
        brought = sum(self._brought.values())
        mean = brought / self._trials.total() if brought else 1.0
        known = [(self._brought[one] / mean, self._trials[one]) for one in kinds]
        return np.array([(b + GUESSED) / (n + GUESSED) + LEAST for b, n in known])
