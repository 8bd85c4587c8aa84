"""Agreement between judges: against scikit-learn, against published examples, and what missing verdicts do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from unveil.errors import UserError
from unveil.judging import Verdict, cohen_kappa, judge_agreement, krippendorff_alpha, self_consistency

# Krippendorff, "Computing Krippendorff's alpha-reliability" (2011): examples A, B and C, nominal.
TWO_BINARY = ("0100000010", "1110010000")
TWO_NOMINAL = ("aabbdcccedda", "babbbccceddd")
FOUR_WITH_GAPS = ("123321412...", "1233224125.3", ".3332342251.", "12332441251.")


def read(rows):
    return [[None if label == "." else label for label in row] for row in rows]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("AtB"), st.sampled_from("AtB")), min_size=2, max_size=60))
def test_kappa_is_that_of_scikit_learn(pairs):
    one, other = zip(*pairs)
    found = cohen_kappa(one, other)
    if len({*one, *other}) == 1:
        assert found.value is None
        return
    assert found.value == pytest.approx(cohen_kappa_score(one, other), abs=1e-12)
    assert found.observed == pytest.approx(np.mean([a == b for a, b in pairs]))


def test_kappa_of_a_table_by_hand():
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: p_o = 0.7, p_e = 0.5, kappa = 0.4."""
    found = cohen_kappa(list("y" * 25 + "n" * 25), list("y" * 20 + "n" * 5 + "y" * 10 + "n" * 15))
    assert found.value == pytest.approx(0.4)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.4 < found.high


@pytest.mark.parametrize(("rows", "alpha"), [(TWO_BINARY, 0.095), (TWO_NOMINAL, 0.692), (FOUR_WITH_GAPS, 0.743)])
def test_alpha_is_that_of_the_published_examples(rows, alpha):
    assert krippendorff_alpha(read(rows)).value == pytest.approx(alpha, abs=0.0005)


def test_alpha_of_two_judges_by_hand():
    """Coincidences of A A, A A, A B, B B: o_AA = 4, o_AB = o_BA = 1, o_BB = 2; alpha = 1 - 7 * 2 / (64 - 34)."""
    found = krippendorff_alpha([list("AAAB"), list("AABB")])
    assert found.value == pytest.approx(1 - 7 * 2 / 30)
    assert found.observed == 0.75


def test_items_with_fewer_than_two_labels_do_not_count():
    full = krippendorff_alpha([list("AABB"), list("ABBB")])
    gaps = krippendorff_alpha([["A", "A", "B", "B", "A", None], ["A", "B", "B", "B", None, None]])
    assert gaps.value == full.value
    assert gaps.n == full.n == 4


def test_where_only_one_label_was_used_agreement_is_undefined():
    for found in (cohen_kappa("AAA", "AAA"), krippendorff_alpha(["AAA", "AAA"]), krippendorff_alpha([[None], ["A"]])):
        assert found.value is None
        assert found.low is None


def test_where_judges_agree_on_all_the_interval_says_how_little_few_prompts_tell():
    for n, low, high in ((3, -1.0, 0.0), (20, 0.3, 0.45), (100, 0.8, 0.9)):
        labels = ("AB" * n)[:n]
        for found in (cohen_kappa(labels, labels), krippendorff_alpha([labels, labels])):
            assert (found.value, found.observed, found.high) == (1.0, 1.0, 1.0)
            assert found.low is not None
            assert low <= found.low <= high


def test_a_single_prompt_has_no_interval():
    for found in (cohen_kappa("AABBA", "ABBBA", "xxxxx"), krippendorff_alpha(["AABBA", "ABBBA"], "xxxxx")):
        assert 0.6 < found.value < 0.65  # type: ignore[operator]
        assert (found.low, found.high) == (None, None)


def test_one_disagreement_gives_an_interval():
    for found in (cohen_kappa("ABABABAB", "ABABABAA"), krippendorff_alpha(["ABABABAB", "ABABABAA"])):
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.high


def test_the_share_of_equal_verdicts_has_its_exact_bound_where_they_are_all_equal():
    found = self_consistency([verdicts("ABABAt"), verdicts("ABABAt")])
    assert found is not None
    assert (found.rate, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 6))
    assert (found.alpha.value, found.alpha.high) == (1.0, 1.0)


def test_prompts_are_resampled_whole():
    """Every comparison four times over: the same value, and without clusters an interval of half the width."""
    generator = np.random.default_rng(0)
    one = generator.choice(["A", "tie", "B"], size=80)
    other = np.where(generator.random(80) < 0.6, one, generator.choice(["A", "tie", "B"], size=80))
    once = cohen_kappa(one.tolist(), other.tolist())
    labels = list(range(80)) * 4
    repeated = [np.tile(labels_of, 4).tolist() for labels_of in (one, other)]
    whole, broken = cohen_kappa(*repeated, labels), cohen_kappa(*repeated)
    assert whole.value == broken.value == pytest.approx(once.value)
    widths = [found.high - found.low for found in (once, whole, broken)]  # type: ignore[operator]
    assert widths[1] == pytest.approx(widths[0], rel=0.05)
    assert widths[2] == pytest.approx(widths[0] / 2, rel=0.15)


def verdicts(winners: str) -> list[Verdict]:
    """`?` is unparsed."""
    return [Verdict("tie", parsed=False) if w == "?" else Verdict("tie" if w == "t" else w) for w in winners]  # type: ignore[arg-type]


def test_a_panel_has_a_matrix_and_one_alpha_without_what_could_not_be_read():
    panel = {"x": verdicts("AABBt?"), "y": verdicts("AABBtA"), "z": verdicts("BBAA?A")}
    found = judge_agreement(panel)
    assert [pair.judges for pair in found.pairs] == [("x", "y"), ("x", "z"), ("y", "z")]
    assert [pair.kappa.n for pair in found.pairs] == [5, 4, 5]
    matrix = found.matrix(["x", "y", "z"])
    assert matrix[0][1] == matrix[1][0] == 1.0
    assert matrix[0][2] == pytest.approx(-1.0)
    assert [matrix[i][i] for i in range(3)] == [1.0] * 3
    assert found.alpha.n == 6
    with pytest.raises(UserError, match="there is only one; give at least two"):
        judge_agreement({"x": panel["x"]})


def test_self_consistency_is_the_chance_that_two_of_its_verdicts_agree():
    """Three times the same: 1; two of three: 1/3; all different: 0; one unread: the other two count."""
    found = self_consistency([verdicts("AAA?"), verdicts("AABB"), verdicts("ABtB")])
    assert found is not None
    assert found.rate == pytest.approx((1 + 1 / 3 + 0 + 1) / 4)
    assert (found.n, found.repeats) == (4, 3)
    assert self_consistency([verdicts("?"), verdicts("A")]) is None
    with pytest.raises(UserError, match="asked once; ask at least twice"):
        self_consistency([verdicts("A")])


def test_lists_of_unequal_lengths_are_refused():
    with pytest.raises(UserError, match="both judges must label the same items"):
        cohen_kappa("AB", "A")
    with pytest.raises(UserError, match="every judge must have one label"):
        krippendorff_alpha(["AB", "A"])
