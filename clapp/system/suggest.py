"""Suggestions for a name that does not exist: first by meaning, then by spelling."""

from collections.abc import Iterable
from difflib import get_close_matches

_ALIKE = 0.75
"""Similarity from which a word counts as a misspelling of another (`depth`, `stem`: 0.44)."""

MEANINGS: dict[str, str] = {
    # keys of a configuration
    "depth": "num_layers",
    "layers": "num_layers",
    "blocks": "num_layers",
    "num_blocks": "num_layers",
    "n_layers": "num_layers",
    "width": "capacity",
    "channels": "capacity",
    "num_channels": "capacity",
    "hidden": "capacity",
    "hidden_channels": "capacity",
    "features": "capacity",
    "filters": "capacity",
    "in_channels": "input_channels",
    "out_channels": "output_channels",
    "kernel": "kernel_size",
    "ksize": "kernel_size",
    "nonlinearity": "activation",
    "act": "activation",
    "normalisation": "norm",
    "normalization": "norm",
    "residual": "rezero",
    "skip": "reskip",
    "pad": "padding",
    "border": "padding",
    "depthwise": "separable",
    "weight_sharing": "shared_weights",
    "stride": "downsample",
    "lr": "learning_rate",
    "rate": "learning_rate",
    "min_learning_rate": "min_lr",
    "loss": "loss_type",
    "criterion": "loss_type",
    "epochs": "max_iterations",
    "steps": "max_iterations",
    "max_steps": "max_iterations",
    "iterations": "max_iterations",
    "num_iterations": "max_iterations",
    "min_steps": "min_iterations",
    "early_stopping": "patience",
    "threshold": "stop_l2_loss",
    "time_limit": "max_seconds",
    "max_time": "max_seconds",
    "dtype": "precision",
    "amp": "precision",
    "batch": "batch_size",
    "batchsize": "batch_size",
    "threads": "num_workers",
    "workers": "num_workers",
    "out": "output_dir",
    "log_interval": "output_log_interval",
    "val_interval": "validation_interval",
    "random_seed": "seed",
    "dataset": "name",
    "source": "name",
    "path": "name",
    "filter": "target_filter",
    "target": "target_filter",
    "size": "crop_size",
    "image_size": "crop_size",
    "crop": "crop_size",
    "resize": "resize_base",
    "buffer": "max_buffer",
    "column": "image_key",
    "data": "train_data",
    "training_data": "train_data",
    "val_data": "valid_data",
    "validation_data": "valid_data",
    "network": "model",
    "training": "train",
    "repeats": "num_runs",
    # keys of a study
    "space": "search_space",
    "configuration": "config",
    "goals": "objectives",
    "metrics": "objectives",
    "constraints": "limits",
    "bounds": "limits",
    "algorithm": "sampler",
    "pruning": "pruner",
    "n_trials": "trials",
    "num_trials": "trials",
    "max_trials": "trials",
    "time": "timeout",
    "duration": "timeout",
    "retries": "max_retry",
    "enqueue": "baselines",
    "initial": "baselines",
    # objectives
    "parameters": "params",
    "num_params": "params",
    "accuracy": "loss",
    "l2": "loss",
    "ops": "flops",
    "macs": "flops",
    "speed": "latency",
    "ram": "memory",
    # keys of a search space
    "min": "low",
    "lower": "low",
    "max": "high",
    "upper": "high",
    "values": "choices",
    "options": "choices",
    "if": "when",
    "condition": "when",
    "integer": "int",
    "number": "float",
    "real": "float",
    "choice": "categorical",
    "category": "categorical",
    # values
    "silu": "swish",
    "linear": "none",
    "identity": "none",
    "mse": "l2",
    "mae": "l1",
    "logcosh": "lc",
    "smooth_l1": "huber",
    "msssim": "ms_ssim",
    "lr_schedule": "schedule",
    "scheduler": "schedule",
    "ema": "weight_average",
    "grad_clip": "clip_gradient",
    "gradient_clipping": "clip_gradient",
    "log_cosh": "lc",
    "sum": "all",
    "gpu": "cuda",
    "fp32": "float32",
    "bfloat16": "bf16",
    "constant": "zero",
    "zeros": "zero",
    "edge": "replicate",
    "mirror": "reflect",
    "nsga": "nsga2",
    "nsgaii": "nsga2",
    "bayesian": "gp",
    "sobol": "qmc",
    "asha": "mo-asha",
    # filters
    "sobel": "sobel_3",
    "sobel3": "sobel_3",
    "canny": "sobel_canny_5",
    "sobel_canny5": "sobel_canny_5",
    "edges": "sobel_3",
}
"""Terms of other programs -> names used here; those that a caller does not know are ignored."""


def meant(word: str, known: Iterable[str], elsewhere: Iterable[str] = ()) -> str | None:
    """The name in `known`, or else in `elsewhere`, that `word` probably stands for, or None.

    Names may be dotted: `depth` and `model.depth` both mean `model.num_layers`.
    """
    names = list(known)
    for place in (names, list(elsewhere)):
        found = _by_meaning(word, place)
        if found:
            return found
    alike = get_close_matches(word, names, n=1, cutoff=_ALIKE)
    return alike[0] if alike else None


def _by_meaning(word: str, names: list[str]) -> str | None:
    section, _, last = word.lower().replace("-", "_").replace(" ", "_").rpartition(".")
    for wanted in (last, MEANINGS.get(last)):
        same = [name for name in names if name.lower().rpartition(".")[2] == wanted]
        if same:
            here = [name for name in same if name.lower().rpartition(".")[0] == section]
            return (here or same)[0]
    return None


def hint(word: str, known: Iterable[str], elsewhere: Iterable[str] = ()) -> str:
    """The text `did you mean X? `, or "" where no known name is similar."""
    name = meant(word, known, elsewhere)
    return f"did you mean {name}? " if name else ""
