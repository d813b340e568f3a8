"""The device to compute on."""

import torch

from clapp.errors import UserError


def resolve_device(name: str) -> torch.device:
    """The device that a configuration names; `auto` is the first available of cuda, mps and cpu.

    Raises:
        UserError: this machine does not have it; the message lists the devices it has.
    """
    available = _available()
    if name == "auto":
        return torch.device(available[0])
    if name not in available:
        raise UserError(f"device {name} is not available; available: {', '.join(available)}")
    return torch.device(name)


def _available() -> list[str]:
    names = []
    if torch.cuda.is_available():
        names += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]
