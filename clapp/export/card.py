"""The card of an exported model: what it approximates, its numbers, and how to use it."""

from collections.abc import Sequence
from dataclasses import dataclass
from string import Template
from typing import Any

from clapp import __version__
from clapp.config import Config, FilterSpec, ValidConfig
from clapp.export.formats import Difference, Written
from clapp.export.options import Options
from clapp.filters.learned.settings import Setting, ranged_name
from clapp.front.objectives import loss_text
from clapp.front.outcomes import Candidate
from clapp.front.pick.resampled import Stability
from clapp.inference.heldout import Measured
from clapp.inference.metrics import Edges
from clapp.system.strict_yaml import dump_yaml
from clapp.training.folder import PREVIEW

_PREVIEWED = "the first validation pictures: input, classical filter, model, difference"
_CARD = Template("""\
# $filter in $params parameters

A small convolutional network that stands in for the classical filter $filter: it takes a colour
picture of $sizes and returns $returned of the same size.

$preview$definition
| | |
|---|---|
$numbers

$differences

$trust
To measure it on pictures of your own: `clapp evaluate . FOLDER$set`.

## Use

Input: RGB, float32 (N, 3, H, W) in [0, 1], sides of at least $min_size$settings. Output: float32
(N, $channels, H, W); clamp it to [0, 1] to show it.$onnx

On the command line, in this folder:

```bash
clapp infer . photo.jpg filtered.png$set
```

In Python, with CLAPP:

```python
import clapp
import numpy as np
import torch
from PIL import Image

model = clapp.load(".")
picture = np.array(Image.open("photo.jpg").convert("RGB"))  # uint8 (H, W, 3)
image = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255  # float32 (1, 3, H, W)
with torch.no_grad():
    output = model(image$keywords)[0]$first_torch.clamp(0, 1)  # $shape
Image.fromarray((output * 255).round().byte().numpy()).save("filtered.png")
```

Anywhere else, with ONNX Runtime alone:

```python
import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
$read
image = np.ascontiguousarray(picture.transpose(2, 0, 1)[None])  # (1, 3, H, W)
output = session.run(["output"], {"image": image$feed})[0][0]$first_numpy.clip(0, 1)  # $shape
Image.fromarray((output * 255).round().astype(np.uint8)).save("filtered.png")
```

## Files

| file | content |
|---|---|
| `model.safetensors` | the weights |
| `config.yaml` | the configuration it was trained with; `model` is the architecture |
$files

Made by CLAPP $version.
""")


@dataclass(frozen=True)
class Origin:
    """The origin of an exported model.

    Attributes:
        study: the study's name.
        rule: the picking rule as given, and its `meaning` in words.
        chosen: the exported candidate.
        reference: the hand-tuned reference of the same study, once trained.
        stability: how often the rule chooses it when losses are resampled; None: not known.
    """

    study: str
    rule: str
    meaning: str
    chosen: Candidate
    reference: Candidate | None
    stability: Stability | None = None


@dataclass(frozen=True)
class Figures:
    """Measurements for the card.

    Attributes:
        measured: fidelity on validation and test pictures.
        min_size: the smallest side in pixels.
        training: the content of the trial's `result.json`.
        preview: whether there is one.
    """

    measured: Measured
    min_size: int
    training: dict[str, Any]
    preview: bool = True


@dataclass(frozen=True)
class Proof:
    """Differences of every runtime from PyTorch, on pictures of several sizes."""

    sizes: Sequence[tuple[int, int]]
    differences: Sequence[Difference]


def write_card(
    config: Config,
    origin: Origin,
    figures: Figures,
    written: Written,
    proof: Proof,
    options: Options,
) -> str:
    """The card as Markdown."""
    spec = config.target_filter
    files = written.files | ({PREVIEW: _PREVIEWED} if figures.preview else {})
    numbers = _numbers(config, origin, figures) | written.facts
    return _CARD.substitute(
        filter=f"`{ranged_name(spec, config.parameter)}`",
        params=f"{origin.chosen.params:,}",
        definition=_definition(spec),
        numbers="\n".join(f"| {k} | {v} |" for k, v in numbers.items()),
        differences=_differences(proof),
        read=_read(options),
        **_taken(options, config.model.output_channels),
        files="\n".join(f"| `{name}` | {meaning} |" for name, meaning in files.items()),
        preview=f"![input, classical filter, model, difference]({PREVIEW})\n" * figures.preview,
        trust=_trust(figures.measured),
        min_size=figures.min_size,
        version=__version__,
        **_output(config.model.output_channels),
        **_settings(config.settings),
    )


def _output(channels: int) -> dict[str, str]:
    """The words and code of the card that depend on the channels of the output."""
    colour = channels == 3
    return {
        "channels": str(channels),
        "returned": "a colour picture" if colour else "one grey channel",
        "shape": "(H, W, 3)" if colour else "(H, W)",
        "first_torch": ".permute(1, 2, 0)" if colour else "[0]",
        "first_numpy": ".transpose(1, 2, 0)" if colour else "[0]",
    }


def _taken(options: Options, channels: int) -> dict[str, str]:
    """Which pictures the network takes, and what the ONNX file takes if that is something else."""
    if options.size is None and not options.uint8:
        return {"sizes": "any size", "onnx": ""}
    batch, height, width = ("N", "H", "W") if options.size is None else (1, *options.size)
    kind = "uint8, 0 to 255" if options.uint8 else "float32 in [0, 1]"
    onnx = (
        f"\nIn `model.onnx`: {kind}, ({batch}, 3, {height}, {width}) to float32 "
        f"({batch}, {channels}, {height}, {width})."
    )
    if options.size is None:
        return {"sizes": "any size", "onnx": onnx}
    sizes = f"{width}x{height} pixels (with CLAPP: of any size)"
    return {"sizes": sizes, "onnx": onnx}


def _settings(settings: Sequence[Setting]) -> dict[str, str]:
    """What is said of settings, and how examples give them: each in the middle of its range."""
    middle = {s.name: f"{s.value(0.5):g}" for s in settings}
    said = [f"`{s.name}`, {s.allowed}, float32 (1,) or (N,)" for s in settings]
    return {
        "settings": "".join(f"; {text}" for text in said),
        "set": "".join(f" --set {name}={value}" for name, value in middle.items()),
        "keywords": "".join(f", {name}={value}" for name, value in middle.items()),
        "feed": "".join(
            f', "{name}": np.array([{value}], np.float32)' for name, value in middle.items()
        ),
    }


def _read(options: Options) -> str:
    """The line of Python that reads a picture in the type that the ONNX file takes."""
    image = 'Image.open("photo.jpg").convert("RGB")'
    if options.size is not None:
        height, width = options.size
        image += f".resize(({width}, {height}))"
    if options.uint8:
        return f"picture = np.asarray({image})  # uint8 (H, W, 3)"
    return f"picture = np.asarray({image}, np.float32) / 255  # (H, W, 3)"


def _differences(proof: Proof) -> str:
    """A table: what runs a file, and its largest difference from PyTorch at each size."""
    sizes = [f"{width}x{height}" for height, width in proof.sizes]
    rows = [
        f"| largest difference from PyTorch | {' | '.join(sizes)} |",
        f"|---|{'---|' * len(sizes)}",
    ]
    for name, values in proof.differences:
        if isinstance(values, str):
            cells = [values, *[""] * (len(sizes) - 1)]
        else:
            cells = [f"{value:.1e}" for value in values]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _definition(spec: FilterSpec) -> str:
    """The text that writes out a filter without a name of its own."""
    if isinstance(spec, str):
        return ""
    return f"\nThe filter, as it stands in `config.yaml`:\n\n```yaml\n{dump_yaml(spec)}```\n"


def _set(data: ValidConfig) -> str:
    """A set of pictures, and how they are cut."""
    return (
        f"{data.name} ({data.split}), shorter side {data.resize_base}, central "
        f"{data.crop_size}x{data.crop_size}"
    )


def _edges(found: Edges | None) -> dict[str, str]:
    if found is None:
        return {}
    text = f"{found.f1:.4f} (precision {found.precision:.4f}, recall {found.recall:.4f})"
    return {"F1 of edges, within one pixel": text}


def _trust(found: Measured) -> str:
    """What the figures are worth."""
    if found.both is None:
        return (
            "The loss comes from the pictures by which this model was chosen among others, so it "
            f"flatters the model; {found.note or 'it was never measured on others'}."
        )
    return (
        "The search chose this model among others by the validation pictures, so their figures "
        "flatter it. No training and no choice saw the test pictures: their loss is the one to "
        "expect. Intervals are over pictures; crops of one picture are not independent."
    )


def _losses(origin: Origin, found: Measured) -> dict[str, str]:
    """The loss on validation and test pictures, side by side."""
    if found.both is None and found.metrics is None:
        return {"validation loss (mean L2)": f"{loss_text(origin.chosen.loss)}, by the study"}
    if found.both is None:
        assert found.metrics is not None
        return {"validation loss (mean L2)": loss_text(found.metrics.l2)}
    valid, test = found.both
    return {
        "validation loss (mean L2)": f"{loss_text(valid.mean)}, over {valid.words()}",
        "test loss (mean L2)": f"{loss_text(test.mean)}, over {test.words()}",
        "test loss / validation loss": f"{found.both.ratio:.2f}",
    }


def _numbers(config: Config, origin: Origin, figures: Figures) -> dict[str, str]:
    chosen, training, found = origin.chosen, figures.training, figures.measured
    numbers = {
        "parameters": f"{chosen.params:,}",
        "FLOPs at 224x224": f"{chosen.flops:,} (2 per multiply-add)",
        **_losses(origin, found),
    }
    if found.metrics is not None:
        numbers |= {
            "mean L1": f"{found.metrics.l1:.5f}",
            "mean PSNR": f"{found.metrics.psnr:.2f} dB",
            "mean SSIM": f"{found.metrics.ssim:.4f}",
            **{
                f"mean PSNR at {said}": f"{one.psnr:.2f} dB (loss {loss_text(one.l2)})"
                for said, one in found.at.items()
            },
            **_edges(found.edges),
        }
    numbers |= {
        "validation pictures": _set(config.valid_data),
        "test pictures": _set(config.test_set),
    }
    if found.note:
        numbers["note"] = found.note
    numbers |= {
        "chosen by": f"`{origin.rule}`: {origin.meaning}",
        **({"resampled": origin.stability.words()} if origin.stability is not None else {}),
        "from": f"study {origin.study}, trial {chosen.trial}",
        "trained for": f"{training['iterations']:,} iterations, {training['images']:,} crops, "
        f"{training['seconds']:.0f} s on {training['device']}",
    }
    reference = origin.reference
    if reference is not None:
        numbers["hand-tuned reference, same study"] = reference.figures()
    return numbers
