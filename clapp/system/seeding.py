"""Seeds derived from a study's one seed."""

from hashlib import sha256


def derived_seed(*parts: int | str) -> int:
    """A 31-bit seed that is the same for the same parts and unrelated for any other.

    Two workers, or a study resumed, must not repeat each other's draws.
    """
    digest = sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
