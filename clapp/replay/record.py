"""Record learning curves: train configurations of a study's space to the end.

Configuration number i is drawn from seed i, so any number of processes and machines can share the
work, and a killed process loses only its present training:

    python -m clapp.replay.record --out curves --part 0/2    # numbers 0, 2, 4, ...
    python -m clapp.replay.record --out curves --part 1/2    # numbers 1, 3, 5, ...

Random configurations are mostly bad, and a search spends its time among good ones. Numbers from
`--near N` on are therefore variants of good rows: a row of the first few fronts recorded by then,
with one to four keys drawn again. Such a row names its `parent`.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clapp.config import Config, Layer
from clapp.errors import ConfigError, UserError
from clapp.system.console import log_to_stderr, run_app

if TYPE_CHECKING:
    from clapp.study.plan.plan import Plan

# Every training runs to its last iteration, with twenty validations for its curve.
SETTINGS = {
    "stop_l2_loss": None,
    "patience": None,
    "max_seconds": None,
    "validation_interval": 50,
    "device": "cpu",
}

TRIES = 10_000
"""The most draws for one configuration."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def record(
    out: Annotated[Path, typer.Option(help="Folder of the recordings.")],
    study: Annotated[str, typer.Option(help="Study whose space and limits hold.")] = "sobel3",
    part: Annotated[
        str, typer.Option(metavar="I/N", help="Numbers i with i modulo N = I.")
    ] = "0/1",
    until: Annotated[int, typer.Option(help="Record numbers below this.")] = 1_000_000,
    near: Annotated[
        int | None, typer.Option(help="From this number on, draw near good rows.")
    ] = None,
) -> None:
    """Train configuration after configuration and append each to OUT/part-I-of-N.jsonl."""
    from loguru import logger

    from clapp.front.objectives import loss_text
    from clapp.system.process import prepare_process

    prepare_process(threads=1)
    log_to_stderr()
    index, parts = _part(part)
    out.mkdir(parents=True, exist_ok=True)
    done = {row["number"] for row in rows(out)}
    path = out / f"part-{index}-of-{parts}.jsonl"
    cut_short = path.is_file() and not path.read_bytes().endswith(b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" if cut_short else "")
        for number in range(index, until, parts):
            if number in done:
                continue
            row = curve(study, number, list(rows(out)) if _is_near(number, near) else [])
            # One write per row: a killed process leaves at most half a line.
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
            logger.info(
                "number {}: {} parameters, loss {}, {:.1f} s",
                number,
                row["params"],
                loss_text(row["loss"]),
                row["seconds"][-1],
            )


def rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The complete rows of all parts in a folder."""
    for path in sorted(folder.glob("part-*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue  # an incomplete line of a killed process; its number is trained again


def _is_near(number: int, near: int | None) -> bool:
    return near is not None and number >= near


def curve(study: str, number: int, recorded: list[dict[str, Any]]) -> dict[str, Any]:
    """Train configuration `number` of a study's space to the end.

    Args:
        recorded: rows; the configuration is a variant of a good one. None: it is drawn at random.

    Returns:
        The number; `parent`, the number of the row it was drawn near, or None; `config`, the drawn
        keys; `params`, `flops`; after each validation the `steps`
        so far, `seconds`, the mean `train_loss` since the last and the validation `l2`; the final
        `loss`, NaN where it diverged; `stop_reason`; `cpu_seconds` of the process in all.
    """
    from clapp.models.costs import cost
    from clapp.training.trainer import train

    parent = good_row(recorded, number) if recorded else None
    drawn, config = draw(_plan(study), number, parent and parent["config"])
    start = time.process_time()
    result = train(config)
    params, flops = cost(config.model)
    return {
        "number": number,
        "parent": parent and parent["number"],
        "config": drawn,
        "params": params,
        "flops": flops,
        "steps": [point.step for point in result.curve],
        "seconds": [round(point.seconds, 3) for point in result.curve],
        "train_loss": [point.train_loss for point in result.curve],
        "l2": [point.l2 for point in result.curve],
        "loss": result.loss,
        "stop_reason": result.stop_reason,
        "cpu_seconds": round(time.process_time() - start, 3),
    }


def good_row(recorded: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Choose a row from the first fronts of loss and sizes that contain a tenth of all rows."""
    import numpy as np
    from moocore import pareto_rank  # type: ignore[import-untyped]

    finite = [row for row in recorded if row["loss"] == row["loss"]]
    ranks = pareto_rank([[row["loss"], row["params"], row["flops"]] for row in finite])
    worst = np.sort(ranks)[len(finite) // 10]
    good = [row for row, rank in zip(finite, ranks, strict=True) if rank <= worst]
    return good[np.random.default_rng(seed).integers(len(good))]


def draw(
    plan: "Plan", number: int, near: dict[str, Any] | None = None
) -> tuple[dict[str, Any], Config]:
    """Draw configuration `number`: the first one within the study's limits from seed `number`.

    Args:
        near: the keys of another configuration; all but one to four of them are kept.
    """
    import numpy as np
    import optuna

    from clapp.study.sampling.draw import within_limits

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number))
    chance = np.random.default_rng(number)
    known = None if near is None else plan.space.represent(plan.base | near)
    for _ in range(TRIES):
        if known is not None:
            anew = chance.choice(list(known), size=chance.integers(1, 5), replace=False)
            study.enqueue_trial({key: value for key, value in known.items() if key not in anew})
        found = within_limits(plan, study.ask(), number)
        if found is not None and found[0] != near and _can_be_trained(found[1]):
            return found
    raise UserError(f"number {number}: none of {TRIES} draws is valid and within the limits")


def _can_be_trained(config: Config) -> bool:
    """Whether its crops are large enough for its network, for example."""
    from clapp.training.trainer import check

    try:
        check(config)
    except ConfigError:
        return False
    return True


def _plan(study: str) -> "Plan":
    from clapp.study.plan.plan import make_plan

    return make_plan(study, overrides=[Layer("record", {"config": {"train": SETTINGS}})])


def _part(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or int(match[1]) >= int(match[2]):
        raise UserError(f"--part {text}: expected I/N with I below N, such as 0/2")
    return int(match[1]), int(match[2])


if __name__ == "__main__":
    run_app(app)
