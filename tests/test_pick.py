import pytest

from clapp.errors import UserError
from clapp.front.outcomes import Candidate, front
from clapp.front.pick import Finished, describe_rules, folder_name, pick

NAMES = ["loss", "params", "flops"]


def candidate(trial: int, loss: float, params: int, flops: int) -> Candidate:
    values = {"loss": loss, "params": float(params), "flops": float(flops)}
    return Candidate(trial, values, params, flops, loss, {})


def finished(*found: Candidate) -> Finished:
    return Finished(front(found, NAMES), found)


FOUND = finished(
    candidate(0, 0.03, 10, 500_000),
    candidate(1, 0.002, 60, 3_000_000),
    candidate(2, 0.0015, 400, 2_000_000),
    candidate(3, 0.001, 3000, 150_000_000),
    candidate(4, 0.02, 5000, 900_000_000),  # dominated
    candidate(7, 0.5, 5000, 900_000_000),  # dominated
)


@pytest.mark.parametrize(
    ("rule", "trial"),
    [
        ("min-loss", 3),
        ("knee", 1),
        ("trial=1", 1),
        ("trial = 7", 7),
        ("params<=500", 2),
        ("params <= 0.3k", 1),
        ("flops<=2e6", 2),
        ("flops<=2M", 2),
        ("flops<=1.9M", 0),
        ("flops<=1G", 3),
        ("loss<=0.002", 1),
        ("loss<=2e-3", 1),
        (" loss<=.0016 ", 2),
    ],
)
def test_rules(rule, trial):
    assert pick(rule, FOUND).trial == trial


def test_smallest_model_goes_by_params_then_flops():
    found = finished(candidate(0, 0.001, 50, 900), candidate(1, 0.002, 50, 800))
    assert pick("loss<=0.01", found).trial == 1
    assert pick("loss<=0.0011", found).trial == 0


def test_knee_by_hand():
    # Products of loss and cost: 1, 0.1, 1.
    found = [
        Candidate(i, {"loss": loss, "params": params}, int(params), 1, loss, {})
        for i, (loss, params) in enumerate([(1e-4, 1e4), (1e-3, 1e2), (1e-1, 10)])
    ]
    assert pick("knee", Finished(found, found)).trial == 1


def test_knee_of_degenerate_fronts():
    one = finished(candidate(5, 0.1, 10, 10))
    assert pick("knee", one).trial == 5
    two = finished(candidate(0, 0.2, 10, 100), candidate(1, 0.1, 1000, 100))
    assert pick("knee", two).trial == 0  # half the loss is not worth a hundredfold size
    # Two costs that agree do not outvote the loss: an eighth of it for four times the size.
    agreed = finished(candidate(0, 0.8, 10, 100), candidate(1, 0.1, 40, 400))
    assert pick("knee", agreed).trial == 1
    equal = finished(candidate(0, 0.2, 10, 100), candidate(1, 0.1, 20, 200))
    assert pick("knee", equal).trial == 1  # equal products: the lower loss
    zero = finished(candidate(0, 0.0, 10, 10))
    assert pick("knee", zero).trial == 0


def test_knee_with_a_loss_of_zero():
    found = finished(candidate(0, 0.0, 100, 10), candidate(1, 0.01, 90, 9), candidate(2, 1, 80, 8))
    assert pick("knee", found).trial == 0
    huge = finished(candidate(0, 0.0, 10_000, 1000), candidate(1, 0.01, 90, 9))
    assert pick("knee", huge).trial == 0  # zero counts as 1e-9: ten million times less
    enormous = finished(candidate(0, 0.0, 10**10, 10**10), candidate(1, 0.01, 90, 9))
    assert pick("knee", enormous).trial == 1


def test_knee_of_losses_too_low_to_tell_apart_is_the_smallest():
    """A zero used to count as a tenth of the best other loss, whatever that was."""
    found = [candidate(0, 0.0, 400, 40), candidate(1, 1e-14, 200, 20), candidate(2, 1e-10, 100, 10)]
    assert pick("knee", finished(*found)).trial == 2
    assert pick("knee", finished(*found[:2])).trial == 1
    others = [candidate(3, 1e-3, 90, 9), candidate(4, 1e-2, 80, 8)]
    assert pick("knee", finished(*found, *others)).trial == 2  # whatever else there is


def test_knee_does_not_depend_on_useless_members():
    useful = candidate(0, 0.000178, 91, 7_727_104)
    tiny = [candidate(1, 0.0088, 38, 800_000), candidate(2, 0.0215, 17, 1_300_000)]
    assert pick("knee", finished(useful, *tiny)).trial == 0
    assert pick("knee", finished(useful, tiny[0])).trial == 0


@pytest.mark.parametrize("rule", ["best", "params<500", "trial=x", "loss<=", "loss<=0.1 or so", ""])
def test_unknown_rule_lists_the_known(rule):
    with pytest.raises(
        UserError,
        match=r"example: min-loss, min-loss-int8, min-loss-16x8, knee, trial=42, \"params",
    ):
        pick(rule, FOUND)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("trial=5", r"trial 5 did not finish.*: 0-4, 7$"),
        ("params<=5", r"the nearest is params 10 \(trial 0\)"),
        ("flops<=1k", r"the nearest is flops 500000 \(trial 0\)"),
        ("loss<=0.0001", r"the nearest is loss 0.001 \(trial 3\)"),
    ],
)
def test_nothing_satisfies(rule, message):
    with pytest.raises(UserError, match=message):
        pick(rule, FOUND)


def test_no_finished_trial():
    with pytest.raises(UserError, match="no finished trial"):
        pick("knee", finished())


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ("knee", "knee"),
        ("params<=500", "params-le-500"),
        ("flops <= 2e+6", "flops-le-2e+6"),
        ("trial=42", "trial-42"),
        ("../x", "..-x"),
    ],
)
def test_folder_name(rule, name):
    assert folder_name(rule) == name


def test_description_says_which():
    text = describe_rules()
    assert '"params<=500": the lowest loss within that many parameters' in text
    assert '"loss<=0.002": the fewest parameters within that loss' in text
