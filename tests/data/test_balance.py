"""Class balance and subsampling of thumbs up and down."""

import math

import pytest
from datasets import Dataset

from unveil.data import class_balance, subsample
from unveil.data.balance import RECOMMENDED
from unveil.errors import UserError, UserInputWarning


def labelled(ups: int, downs: int) -> Dataset:
    return Dataset.from_dict({"example_id": list(range(ups + downs)), "label": [True] * ups + [False] * downs})


def test_counts_ratio_and_mean_lengths():
    rows = Dataset.from_dict({"label": [True, True, False], "completion_ids": [[1, 2], [1, 2, 3, 4], [1]]})
    balance = class_balance(rows.select([2, 1, 0]), desirable_weight=1.0, undesirable_weight=1.6)
    assert (balance.n_desirable, balance.n_undesirable) == (2, 1)
    assert balance.ratio == pytest.approx(1.25)
    assert (balance.mean_length_desirable, balance.mean_length_undesirable) == (3.0, 1.0)
    assert balance.describe() == ("2 desirable (mean length 3.0), 1 undesirable (mean length 1.0), weighted ratio 1.25")


def test_before_tokenising_there_are_no_lengths():
    assert class_balance(labelled(4, 3)).describe() == "4 desirable, 3 undesirable, weighted ratio 1.33"


@pytest.mark.parametrize(
    ("ups", "downs", "weights"), [(3, 5, (1, 1)), (9, 5, (1, 1)), (5, 5, (2.0, 1.1)), (5, 9, (3, 2.9))]
)
def test_the_weight_in_the_report_repairs_the_ratio(ups, downs, weights):
    balance = class_balance(labelled(ups, downs), *weights)
    assert "KTO recommends a ratio of 1 to 1.33" in balance.describe()
    assert balance.remedy in balance.describe()
    flag, value = balance.remedy.split()
    repaired = class_balance(
        labelled(ups, downs),
        **{"desirable_weight": weights[0], "undesirable_weight": weights[1], flag[2:]: float(value)},
    )
    assert RECOMMENDED[0] <= repaired.ratio <= RECOMMENDED[1]


@pytest.mark.parametrize(("ups", "downs"), [(1, 3), (5, 2), (3, 0), (0, 3)])
def test_only_a_ratio_outside_one_half_to_two_warns(ups, downs):
    with pytest.warns(UserInputWarning, match=f"labels out of balance: {ups} desirable, {downs} undesirable"):
        balance = class_balance(labelled(ups, downs))
    assert "\n" in balance.describe()
    class_balance(labelled(2, 1))  # a warning would be an error here
    class_balance(labelled(1, 2))


def test_a_side_without_weight_gives_an_infinite_ratio_and_no_false_remedy():
    with pytest.warns(UserInputWarning):
        balance = class_balance(labelled(2, 2), undesirable_weight=0.0)
    assert balance.ratio == math.inf
    assert balance.remedy is None


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_impossible_weights_are_refused(weight):
    with pytest.raises(UserError, match=r"--undesirable_weight .*finite and at least 0"):
        class_balance(labelled(2, 2), undesirable_weight=weight)


def test_data_without_labels_is_refused():
    with pytest.raises(UserError, match="no column 'label'"):
        class_balance(Dataset.from_dict({"prompt": ["a"]}))


@pytest.mark.parametrize(
    ("n_desirable", "n_undesirable", "ups", "downs"),
    [(1.0, 1.0, 40, 20), (0.5, 0.25, 20, 5), (3, 1.0, 3, 20), (0.001, 1, 1, 20), (0, 7, 0, 7), (40, 20, 40, 20)],
)
def test_ratios_and_counts(n_desirable, n_undesirable, ups, downs):
    kept = subsample(labelled(40, 20), n_desirable, n_undesirable)
    assert sum(kept["label"]) == ups
    assert len(kept) == ups + downs
    assert kept["example_id"][:] == sorted(set(kept["example_id"]))


def test_the_draw_is_a_function_of_the_seed():
    rows = labelled(40, 20)
    assert subsample(rows, 0.5, 0.5)["example_id"][:] == subsample(rows, 0.5, 0.5, seed=42)["example_id"][:]
    assert subsample(rows, 0.5, 0.5)["example_id"][:] != subsample(rows, 0.5, 0.5, seed=43)["example_id"][:]


def test_a_smaller_sample_is_part_of_a_larger_one_whatever_happens_to_the_other_label():
    rows = labelled(40, 20)
    small = {i for i in subsample(rows, 0.2, 1.0)["example_id"] if i < 40}
    large = {i for i in subsample(rows, 0.6, 3)["example_id"] if i < 40}
    assert small < large


@pytest.mark.parametrize(
    ("n_desirable", "n_undesirable", "message"),
    [
        (0, 0, "no row would be left"),
        (-0.5, 1, "--n_desirable -0.5: must be a ratio from 0 to 1 or a count above 1"),
        (1, 2.5, "--n_undesirable 2.5: a count must be a whole number"),
        (41, 1, "--n_desirable 41: there are only 40 such rows"),
        (math.nan, 1, "--n_desirable nan"),
    ],
)
def test_impossible_samples_are_refused(n_desirable, n_undesirable, message):
    with pytest.raises(UserError, match=message):
        subsample(labelled(40, 20), n_desirable, n_undesirable)


def test_a_sample_of_a_label_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="no row is left"):
        subsample(labelled(3, 0), 0, 1.0)


def test_no_ratio_is_recommended_to_an_objective_without_such_weights():
    """A warning would be an error here."""
    assert class_balance(labelled(9, 1), recommend=False).describe() == "9 desirable, 1 undesirable"


def test_the_ratio_goes_by_the_weights_of_the_rows():
    rows = labelled(2, 4).add_column("weight", [4.0, 2.0, 1.0, 1.0, 1.0, 1.0])
    assert class_balance(rows).ratio == pytest.approx(6 / 4)
    assert class_balance(rows).n_desirable == 2
