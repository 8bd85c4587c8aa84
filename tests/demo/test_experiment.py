"""The measures of the demo: what they compute, and that they do not depend on what they should not."""

from dataclasses import replace

import numpy as np
import pytest

from unveil.demo.answers import Answers, sample
from unveil.demo.experiment import judged
from unveil.demo.headline import headline
from unveil.demo.heldout import HeldOut, NelboChange, held_out_sets, nelbo_change, surrogates
from unveil.demo.order import in_hash_order
from unveil.demo.progress import Stages
from unveil.demo.recipe import Recipe
from unveil.demo.results import Results
from unveil.demo.reviews import feedback_rows, heldout_text, prompts
from unveil.errors import UserError
from unveil.likelihood import Response

GOOD = Results(
    adjusted_win_rate=0.6, interval=(0.56, 0.64), null_win_rate=0.5, null_interval=(0.47, 0.53), nelbo_change=0.004,
    nelbo_change_error=0.001, length_ratio=1.02, reward_up=1.0, reward_down=-1.0, auc=0.6, seconds=1.0, wins=6, ties=0,
    losses=4, n=10, mean_length={"base": 10.0, "aligned": 10.2}, distinct_bigrams={"base": 0.5, "aligned": 0.5},
    nelbo={name: NelboChange(3.0, 3.012, 0.004, 0.001, 100) for name in ("film", "product")},
)  # fmt: skip


def texts_of_lengths(lengths) -> HeldOut:
    return HeldOut("film", [Response(i, [1], [2] * n) for i, n in enumerate(lengths)], [None] * len(lengths))


def test_nelbo_change_is_that_of_the_sums():
    texts = texts_of_lengths([10, 30])
    change = nelbo_change(texts, np.array([-20.0, -60.0]), np.array([-21.0, -67.0]))
    assert change.before == pytest.approx(80 / 40)
    assert change.after == pytest.approx(88 / 40)
    assert change.change == pytest.approx(0.1)


def test_nelbo_change_has_the_standard_error_of_a_bootstrap_over_texts():
    generator = np.random.default_rng(0)
    before = -generator.gamma(20.0, 2.0, 400)
    after = before * (1.01 + 0.02 * generator.standard_normal(400))
    told = nelbo_change(texts_of_lengths([40] * 400), before, after).standard_error
    drawn = []
    for _ in range(2000):
        rows = generator.integers(400, size=400)
        drawn.append(after[rows].sum() / before[rows].sum() - 1)
    assert told == pytest.approx(np.std(drawn), rel=0.08)


def test_models_share_the_draws_so_equal_models_differ_by_nothing(random_base, small_recipe):
    texts = held_out_sets(random_base, small_recipe, "tuning")[0]
    first, second = (surrogates(random_base.denoiser, texts, small_recipe, lambda count: None) for _ in range(2))
    assert (first == second).all()
    assert (first < 0).all()


def test_held_out_sets_carry_the_thumbs_of_their_split_and_none_of_products(random_base):
    film, product = held_out_sets(random_base, Recipe(), "report")
    assert len(film.responses) == len(heldout_text("report"))
    assert sum(thumb is not None for thumb in film.thumbs) == len(feedback_rows("report"))
    assert sum(thumb is True for thumb in film.thumbs) == sum(row["label"] for row in feedback_rows("report"))
    assert set(product.thumbs) == {None}


def test_an_answer_does_not_depend_on_how_many_prompts_follow(random_base, small_recipe):
    asked = prompts("tuning")[:90]
    many, few = (
        sample(random_base.denoiser, random_base, part, small_recipe, 5, lambda count: None)
        for part in (asked, asked[:7])
    )
    assert many.texts[:7] == few.texts
    assert many.lengths[:7] == few.lengths


def test_the_judge_prefers_praise_and_ties_with_itself():
    asked = ["film: the story is", "film: the plot is"]
    praise, blame = Answers([" told with wit and charm"] * 2, [5, 5]), Answers([" dull and badly acted"] * 2, [5, 5])
    assert judged(asked, praise, blame).win_rate.rate == 1.0
    assert judged(asked, blame, praise).win_rate.rate == 0.0
    assert (judged(asked, praise, praise).outcomes == 0.5).all()


def test_the_first_prompts_are_a_fair_sample_of_liked_and_disliked_reviews():
    liked = {row["prompt"]: row["label"] for row in feedback_rows("report")}
    labels = [liked[p] for p in in_hash_order(prompts("report"), str)[:200] if p in liked]
    assert 0.4 < np.mean(labels) < 0.6


def test_base_null_and_aligned_answers_never_share_a_seed():
    for seed in range(20):
        recipe = Recipe(seed=seed)
        assert len({recipe.base_seed, recipe.null_seed, recipe.aligned_seed}) == 3


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        ({}, []),
        ({"interval": (0.49, 0.6)}, ["win rate, aligned against base"]),
        ({"null_interval": (0.51, 0.6)}, ["win rate, base against itself"]),
        ({"nelbo_change": 0.011}, ["NELBO of product reviews"]),
        ({"length_ratio": 0.8}, ["length of answers"]),
    ],
)
def test_the_headline_says_which_bars_are_not_reached(change, failing):
    findings = headline(replace(GOOD, **change), shuffled=False)
    assert [finding.measure for finding in findings if finding.holds is False] == failing


def test_a_control_is_not_asked_to_win():
    assert headline(replace(GOOD, interval=(0.4, 0.5)), shuffled=True)[0].holds is None


@pytest.mark.parametrize("setting", ["steps", "num_prompts", "num_texts", "batch_size"])
def test_a_recipe_refuses_counts_below_one(setting):
    with pytest.raises(UserError, match=f"--{setting} 0"):
        replace(Recipe(), **{setting: 0})


def test_a_stage_tells_its_seconds():
    stages = Stages(False)
    with stages, stages.stage("work", 2) as advance:
        advance(2)
    assert stages.seconds["work"] >= 0
