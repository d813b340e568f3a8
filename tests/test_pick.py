from dataclasses import replace

import pytest

from clapp.errors import UserError
from clapp.front.outcomes import Candidate, front
from clapp.front.pick.choose import Finished, pick
from clapp.front.pick.resampled import stability
from clapp.front.pick.rules import describe_rules, folder_name, meaning
from clapp.front.repeats import Repeats
from clapp.training.losses import spread

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
        ("min loss", 3),
        ("min params", 0),
        ("psnr>=27", 2),  # the lowest psnr of losses at most 0.001995
        ("psnr >= 15", 0),
        ("loss<=0.002, min flops", 2),
        ("min flops, loss<=0.002", 2),
        ("params<=500, loss<=0.01", 2),  # a bound of a cost: the lowest loss
        ("params<=500, flops<=1M", 0),
        ("params<=500, knee", 1),
        ("loss<=0.0016, psnr>=20, min params", 2),
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


@pytest.mark.parametrize("rule", ["best", "loss 0.1", "", "knee;", "minloss", "loss<=0.1, best"])
def test_unknown_rule_lists_the_known(rule):
    with pytest.raises(
        UserError, match=r"no such rule; known, by example: knee, min-loss, \"params<=500\", "
    ):
        pick(rule, FOUND)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("params<500", r"params< is not allowed; allowed: params<=NUMBER"),
        ("psnr<=40", r"psnr<= is not allowed; allowed: psnr>=NUMBER"),
        ("loss>=1", r"loss>= is not allowed; allowed: loss<=NUMBER"),
        ("trial=x", r"trial=N stands alone, with a whole number"),
        ("trial=3, min loss", r"trial=N stands alone"),
        ("loss<=", r"'' is not a number above zero"),
        ("loss<=-1", r"'-1' is not a number above zero; allowed: such as 500, 1e-4 or 2M"),
        ("loss<=0.1 or so", r"'0.1 or so' is not a number"),
        ("knee, min loss", r"one goal is allowed, not 2"),
        ("loss<=1, loss<=2", r"loss is bounded twice"),
        ("latency<=2", r"does not measure latency; it measures loss, params, flops and psnr"),
        ("min-loss-int8", r"does not measure loss_int8"),
        ("min psnr", r"min psnr is the worst model; write min loss"),
    ],
)
def test_what_is_wrong_with_a_rule(rule, message):
    with pytest.raises(UserError, match=message) as error:
        pick(rule, FOUND)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("trial=5", r"trial 5 did not finish.*: 0-4, 7$"),
        ("params<=5", r"the nearest is params 10 \(trial 0\)"),
        ("flops<=1k", r"the nearest is flops 500000 \(trial 0\)"),
        ("loss<=0.0001", r"the nearest is loss 0.001 \(trial 3\)"),
        ("psnr>=40", r"the nearest is psnr 30 \(trial 3\)"),
        (
            "params<=20, loss<=0.001",
            r"with loss<=0.001 the nearest is params 3000 \(trial 3\); "
            r"with params<=20 the nearest is loss 0.03 \(trial 0\)$",
        ),
        ("params<=5, flops<=5, loss<=1e-9", r"nor all but one of its bounds"),
    ],
)
def test_nothing_satisfies(rule, message):
    with pytest.raises(UserError, match=message):
        pick(rule, FOUND)


def test_the_nearest_value_can_be_asked_for():
    odd = finished(candidate(0, 0.001234567, 10, 100), candidate(1, 0.0009876543, 20, 200))
    with pytest.raises(UserError, match=r"the nearest is loss 0.0009877 \(trial 1\)"):
        pick("loss<=1e-5", odd)
    assert pick("loss<=0.0009877", odd).trial == 1
    with pytest.raises(UserError, match=r"the nearest is psnr 30.05 \(trial 1\)"):
        pick("psnr>=50", odd)
    assert pick("psnr>=30.05", odd).trial == 1


def test_a_model_off_the_front_may_be_best_within_a_bound_that_is_no_objective():
    light = Candidate(1, {"loss": 0.2, "params": 20.0}, 20, 10, 0.2, {})
    heavy = Candidate(0, {"loss": 0.1, "params": 20.0}, 20, 1000, 0.1, {})
    found = Finished.of([heavy, light], ["loss", "params"])
    assert [c.trial for c in found.front] == [0]
    assert pick("flops<=50", found).trial == 1


def repeated(one: Candidate, *losses: float | None) -> Candidate:
    seeds = range(len(losses))
    return replace(one, repeats=Repeats(one.trial, seeds, losses, [1.0] * len(losses)))


def test_the_mean_over_seeds_counts_where_there_are_repeats():
    lucky = repeated(candidate(0, 0.001, 50, 900), 0.01, 0.01)
    honest = candidate(1, 0.002, 60, 1000)
    assert pick("min-loss", finished(lucky, honest)).trial == 0
    found = Finished.of([lucky, honest], NAMES)
    assert pick("min-loss", found).trial == 1
    with pytest.raises(UserError, match=r"the nearest is loss 0\.002 "):
        pick("loss<=0.0015", found)
    assert pick("trial=0", found).loss == pytest.approx(0.01)


def with_parts(one: Candidate, *parts: float) -> Candidate:
    scaled = [part * one.loss / (sum(parts) / len(parts)) for part in parts]
    return replace(one, spread=spread(scaled, range(len(scaled))))


def test_how_often_the_same_model_is_chosen():
    assert stability("knee", FOUND) is None  # nothing is known of the spread
    assert stability("trial=1", FOUND) is None
    sure = [with_parts(c, 1, 1, 1, 1) for c in FOUND.candidates]
    found = stability("min-loss", finished(*sure))
    assert found is not None
    assert (found.share, found.others) == (1.0, {})
    assert found.words() == "chosen in 100 % of 500 resamplings of the validation pictures"
    # Two models of almost the same loss, each better on other pictures.
    close = finished(
        with_parts(candidate(0, 0.0100, 10, 10), 1, 2, 3, 4),
        with_parts(candidate(1, 0.0099, 20, 20), 4, 3, 2, 1),
    )
    found = stability("min-loss", close)
    assert found is not None
    assert 0.3 < found.share < 0.7
    assert found.share + found.others[0] == pytest.approx(1)
    assert stability("min-loss", close) == found
    assert "; trial 0 in " in found.words()
    assert found.document()["others"] == {"0": found.others[0]}
    # Hard pictures are hard for both: the choice is certain although the losses are not.
    alike = finished(
        with_parts(candidate(0, 0.0100, 10, 10), 1, 2, 3, 9),
        with_parts(candidate(1, 0.0099, 20, 20), 1, 2, 3, 9),
    )
    assert stability("min-loss", alike).share == 1.0
    assert stability("loss<=0.0101", alike).share < 1.0  # in some draws neither is good enough


def test_repeats_are_resampled_too():
    one = repeated(candidate(0, 0.01, 10, 10), 0.009, 0.011, 0.010)
    other = repeated(candidate(1, 0.0099, 20, 20), 0.0091, 0.0109, 0.0097)
    found = stability("min-loss", Finished.of([one, other], NAMES))
    assert found is not None
    assert found.resampled == "repetitions"
    assert 0.3 < found.share < 0.9


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
        ("loss<=1e-4, min flops", "loss-le-1e-4_min-flops"),
        ("psnr>=40", "psnr-ge-40"),
    ],
)
def test_folder_name(rule, name):
    assert folder_name(rule) == name


def test_description_says_which():
    text = describe_rules()
    assert '"params<=500": the lowest loss within that many parameters' in text
    assert '"loss<=0.002": the fewest parameters within that loss' in text


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("min-loss", "the lowest loss"),
        ("loss<=0.002", "the fewest parameters with loss<=0.002"),
        ("loss<=1e-4, min flops", "the fewest FLOPs with loss<=1e-4"),
        ("params<=2k, flops<=2M", "the lowest loss with params<=2k and flops<=2M"),
        ("knee", "the best compromise: the lowest product of loss and cost"),
        ("trial=3", "that trial, on the front or not"),
    ],
)
def test_meanings(rule, words):
    assert meaning(rule) == words
