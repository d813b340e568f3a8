"""What is repeated or taken apart: a configuration file, a model's folder, a trial of a study."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clapp.commands.repeat import configuration_of
from clapp.config import Config, load_config
from clapp.errors import UserError
from clapp.filters.custom import look_in
from clapp.front.record import record_of
from clapp.models.published import model_folder, published_name
from clapp.study.plan.definition import DEFINITION
from clapp.study.plan.existing import load_existing
from clapp.study.storage.heritage import Ancestor, ancestor_of
from clapp.study.storage.place import study_file
from clapp.system.files import read_mapping
from clapp.training.folder import CONFIG, is_model_folder

if TYPE_CHECKING:
    from optuna import Study


@dataclass(frozen=True)
class Target:
    """What is trained.

    Attributes:
        name: what to call it.
        slug: name of the folder of its runs.
        home: the folder that this folder lies in.
        ancestor: whose weights its training started from.
        trial: the study and the number of the trial that it is, if it is one.
    """

    name: str
    slug: str
    home: Path
    config: Config
    ancestor: Ancestor | None = None
    plugins: Sequence[str] = ()
    trial: "tuple[Study, int] | None" = None


def target_of(path: Path, sets: Sequence[str], kind: str = "repeats") -> Target:
    """The configuration in a file, or that of the model in a folder, or of a published model.

    The folder of a trial beside its study's database stands for the trial.

    Args:
        sets: `key=value` texts laid over it.
        kind: see `target_of_trial`.

    Raises:
        UserError: there is neither; ConfigError: the configuration is not valid.
    """
    published, path = published_name(path), model_folder(path)
    if not path.is_dir():
        if not path.exists():
            raise UserError(
                f"{path}: does not exist; a configuration file or model folder is expected"
            )
        look_in(path.parent)
        config = load_config(path, sets)
        return Target(str(path), path.stem, Path(config.train.output_dir), config)
    if not is_model_folder(path):
        raise UserError(f"{path}: holds no model; an export or trial folder is expected")
    path = path.resolve()
    study = path.parent.parent
    if path.parent.name == "trials" and path.name.isdecimal() and study_file(study) is not None:
        loaded = load_existing(study.name, study.parent)
        return target_of_trial(loaded, int(path.name), study.parent, sets, kind)
    config = load_config(read_mapping(path / CONFIG), sets)
    name = path.name if published is None else "-".join(published)
    return Target(name, name, Path(config.train.output_dir), config)


def target_of_trial(
    study: "Study", number: int, results: Path, sets: Sequence[str] = (), kind: str = "repeats"
) -> Target:
    """A trained trial of a study.

    Args:
        results: the folder that holds a folder for each study.
        kind: name of the folder in the study's results for what is made of it.

    Raises:
        UserError: there is no such trial, or it was not trained to its end.
        ConfigError: this version of CLAPP cannot say what it was.
    """
    trials = study.get_trials(deepcopy=False)
    name = study.study_name
    if not 0 <= number < len(trials):
        raise UserError(f"study {name} has no trial {number}; it has {len(trials)}, from 0 up")
    record = record_of(trials[number])
    if record.loss is None:
        raise UserError(f"trial {number} of study {name} was not trained to its end")
    config = configuration_of(number, record)
    if sets:
        config = load_config(config.model_dump(), sets)
    return Target(
        name=f"trial {number} of {name}",
        slug=f"{number:05d}",
        home=results / name / kind,
        config=config,
        ancestor=ancestor_of(record, trials),
        plugins=study.user_attrs.get(DEFINITION, {}).get("plugins", []),
        trial=(study, number),
    )
