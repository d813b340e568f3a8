"""What is said of a trial and of a study on the terminal, and the commands that come next."""

from pathlib import Path

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from clapp.study.display.words import describe
from clapp.study.running.driver import Options


def failed(**record: object) -> FrozenTrial:
    return create_trial(state=TrialState.FAIL, user_attrs={"config": {}, **record})


def test_an_interrupted_trial_did_not_fail():
    said = describe(failed(failed="interrupted: stopped by the user"))
    assert said == "trial -1: interrupted: stopped by the user"
    assert describe(failed(failed="nan after 3 steps")) == "trial -1: failed: nan after 3 steps"
    assert describe(failed()) == "trial -1: failed: its worker was lost"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options(Path("results")), ""),
        (Options(Path("/tmp/my results")), " --results '/tmp/my results'"),
        (
            Options(Path("results"), "postgresql+psycopg://me:secret@db/clapp"),
            " --storage postgresql+psycopg://me:***@db/clapp",
        ),
    ],
)
def test_the_next_commands_find_the_study(options: Options, said: str):
    assert options.where().replace("'", "") == said.replace("'", "")
