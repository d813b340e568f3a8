"""What is said of a trial and of a study on the terminal, and the commands that come next."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from clapp.study.display.words import describe
from clapp.study.running.crew import Crew
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


def test_a_worker_tells_its_loss_as_everything_does():
    worker = SimpleNamespace(status="", heard=0.0)
    Crew._note(None, worker, {"event": "progress", "number": 3, "step": 200, "l2": 0.004731})
    assert worker.status == "trial 3: step 200, loss 0.004731 (23.3 dB)"
