"""TensorBoard event files: one run for each training, in a folder for the study."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from clapp.system.strict_yaml import dump_yaml


class EventFiles:
    """A `Tracker` whose files `tensorboard --logdir FOLDER/tensorboard` shows."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tensorboard"

    def start(self, name: str, group: str, config: Mapping[str, Any]) -> None:
        """Begin a run."""
        self._writer = SummaryWriter(self._folder / name)
        self._text("configuration", {"group": group, **config})

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, step: int, path: Path) -> None:
        """Add a picture."""
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))  # (H, W, 3)
        self._writer.add_image("preview", pixels, step, dataformats="HWC")

    def finish(self, summary: Mapping[str, Any]) -> None:
        """End the run."""
        self._text("result", summary)
        self._writer.close()

    def _text(self, name: str, values: Mapping[str, Any]) -> None:
        self._writer.add_text(name, f"```yaml\n{dump_yaml(dict(values))}```")
