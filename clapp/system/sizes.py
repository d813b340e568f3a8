"""Sizes in bytes, as options have them."""

import re

from clapp.errors import UserError

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_size(text: str, option: str) -> int:
    """Bytes of a size such as "256MB" or "1.5GiB".

    Raises:
        UserError: the text is no size; `option` begins the message.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]i?B|B)", text.strip(), re.IGNORECASE)
    size = int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if size < 1:
        raise UserError(f"{option} {text}: a size such as 256MB or 1.5GiB is expected")
    return size
