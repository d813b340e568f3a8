"""The verbs `clapp repeat` and `clapp ablate`; PyTorch is loaded inside them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clapp.commands.options import RESULTS, AsJson, Results, Sets, Storage
from clapp.errors import UserError
from clapp.system.console import plain_console, plain_table, print_json, status

if TYPE_CHECKING:
    from clapp.commands.experiments.targets import Target

Model = Annotated[
    Path | None,
    typer.Argument(metavar="[MODEL]", help="Configuration file, trial folder or export folder."),
]
Trial = Annotated[
    tuple[str, int] | None,
    typer.Option(metavar="STUDY N", help="Trial N of a study, instead of MODEL."),
]
Processes = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Trainings at once; default: num_parallel_runs."),
]
Seed = Annotated[int, typer.Option(min=0, metavar="N", help="The first seed; the others follow.")]
Out = Annotated[Path | None, typer.Option(help="Folder to write.")]


def repeat(
    model: Model = None,
    trial: Trial = None,
    front: Annotated[
        str | None, typer.Option(metavar="STUDY", help="Every member of a study's front.")
    ] = None,
    runs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Seeds; default: num_runs, 10.")
    ] = None,
    parallel: Processes = None,
    seed: Seed = 0,
    from_scratch: Annotated[
        bool,
        typer.Option("--from-scratch", help="Draw first weights that the trial had inherited."),
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="Folder in train.output_dir; default: experiment_name.")
    ] = None,
    set_: Sets = None,
    out: Out = None,
    results: Results = RESULTS,
    storage: Storage = None,
    json: AsJson = False,
) -> None:
    """Train a model, or every member of a front, from several seeds: mean, interval, plots."""
    if [model, trial, front].count(None) != 2:
        raise UserError("repeat: give MODEL, --trial STUDY N or --front STUDY, one of them")
    if set_ and (trial or front):
        raise UserError("--set: a trial is repeated as it was; set keys of a configuration file")
    if front is not None:
        if out is not None or name is not None:
            raise UserError(
                "--front: it is written into the study's results; without --out, --name"
            )
        _repeat_front(front, runs, parallel, seed, from_scratch, results, storage, json)
        return
    with status("loading PyTorch"):
        from clapp.commands.experiments.plots.output import write_group
        from clapp.commands.experiments.repeat import (
            group_of,
            repeat_group,
            repeats_from,
            store_in_study,
            summary,
        )

        target = _target(model, trial, set_, results, storage, "repeats")
        config = target.config
        named = name or (None if target.trial else config.experiment_name)
        place = out or (Path(config.train.output_dir) / named if named else None)
        group = group_of(target, place, scratch=from_scratch)
        seeds = range(seed, seed + (runs or config.num_runs))
        outcomes = repeat_group(group, seeds, parallel or config.num_parallel_runs)
        store_in_study(target, group, outcomes)
        files = write_group(group, outcomes)
    if json:
        print_json({**summary(group, outcomes), "files": files})
        return
    said = repeats_from(outcomes, 0, group.ancestor is not None).describe()
    typer.echo(f"{group.name}: loss {said}\n{group.folder}: {', '.join(files)}")


def _repeat_front(
    name: str,
    runs: int | None,
    parallel: int | None,
    seed: int,
    scratch: bool,
    results: Path,
    storage: str | None,
    json: bool,
) -> None:
    with status("loading PyTorch"):
        from clapp.commands.experiments.front import document_of, repeat_front
        from clapp.commands.experiments.plots.output import front_rows, write_front_plots
        from clapp.config import defaults
        from clapp.study.plan.existing import load_existing

        study = load_existing(name, results, storage)
        seeds = range(seed, seed + (runs or int(defaults()["num_runs"])))
        found = repeat_front(study, results, seeds, parallel, scratch=scratch)
        folder = results / study.study_name / "repeats"
        files = write_front_plots(found, study.study_name, folder)
    if json:
        print_json({**document_of(found, study.study_name), "path": str(folder), "files": files})
        return
    _print_table(front_rows(found))
    typer.echo(f"{folder}: {', '.join(files)}")


def ablate(
    model: Model = None,
    trial: Trial = None,
    runs: Annotated[int, typer.Option(min=2, metavar="N", help="Seeds.")] = 5,
    parallel: Processes = None,
    seed: Seed = 0,
    only: Annotated[
        list[str] | None, typer.Option(metavar="TRICK", help="One trick; repeatable.")
    ] = None,
    set_: Sets = None,
    out: Out = None,
    results: Results = RESULTS,
    storage: Storage = None,
    json: AsJson = False,
) -> None:
    """What each trick of a model is worth: each toggled at matched size, from the same seeds."""
    if [model, trial].count(None) != 1:
        raise UserError("ablate: give MODEL or --trial STUDY N, one of them")
    with status("loading PyTorch"):
        from clapp.commands.experiments.ablate import ablate as take_apart
        from clapp.commands.experiments.plots.output import effect_rows, write_ablation

        target = _target(model, trial, set_, results, storage, "ablations")
        default = target.slug if target.trial else f"{target.slug}-ablation"
        found = take_apart(
            target,
            out or target.home / default,
            range(seed, seed + runs),
            parallel or target.config.num_parallel_runs,
            only or (),
        )
        files = write_ablation(found)
    if json:
        print_json({**found.document(), "files": files})
        return
    typer.echo(f"{found.name} as it is: {found.params:,} parameters, loss {found.base.describe()}")
    _print_table(effect_rows(found))
    for trick, reason in found.left_out.items():
        typer.echo(f"{trick}: left out, {reason}")
    typer.echo(f"{found.folder}: {', '.join(files)}")


def _target(
    model: Path | None,
    trial: tuple[str, int] | None,
    sets: list[str] | None,
    results: Path,
    storage: str | None,
    kind: str,
) -> "Target":
    from clapp.commands.experiments.targets import target_of, target_of_trial
    from clapp.study.plan.existing import load_existing

    if trial is not None:
        study = load_existing(trial[0], results, storage)
        return target_of_trial(study, trial[1], results, sets or (), kind)
    assert model is not None  # the verbs see that one of them is given
    return target_of(model, sets or (), kind)


def _print_table(rows: list[list[str]]) -> None:
    head, *body = rows
    table = plain_table(*head)
    for row in body:
        table.add_row(*row)
    plain_console().print(table)
