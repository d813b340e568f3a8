"""Seeds derived from a study's one seed."""

from hashlib import sha256


def derived_seed(*parts: int | str) -> int:
    """A 31-bit hash of `parts`: equal for equal parts, unrelated for others.

    With it two workers, or two runs of a study, draw different random numbers.
    """
    digest = sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
