"""The table of objectives: complete, truthful about what each needs, and strict about hyper-parameters."""

import inspect
import math
import typing

import pytest
import torch
from objective_batches import BATCHES, likelihoods_from, lists, pairs, random_margins

from unveil import objectives as o
from unveil.errors import UserError
from unveil.objectives import RECIPES, Objective, implicit_reward

NAMES = [
    *("kto", "dpo", "vrpo", "cdpo", "rdpo", "fdpo", "ipo", "hinge", "simpo"),
    *("cpo", "orpo", "exo", "apo_zero", "apo_down", "apo_zero_unpaired", "bco", "nca", "sppo"),
    *("discopop", "asft", "ld_dpo", "madpo", "beta_dpo", "da_dpo", "soft_dpo", "adpo", "irpo"),
    *("tree_po", "rankdpo", "plackett_luce", "lipo", "flex_dpo", "disco", "ddo", "sft"),
]


def test_the_table_holds_every_name():
    assert set(NAMES) <= set(RECIPES)
    assert all(name == recipe.name and callable(getattr(o, name)) for name, recipe in RECIPES.items())


@pytest.mark.parametrize("name", RECIPES)
def test_a_row_tells_the_truth_about_its_objective(name):
    recipe = RECIPES[name]
    objective = recipe.make()
    assert isinstance(objective, Objective)
    assert (objective.shape, objective.needs_reference) == (recipe.shape, recipe.needs_reference)
    assert bool(objective.initial_state()) == recipe.stateful == (name in {"bco", "beta_dpo"})
    assert objective.per_draw == recipe.per_draw == (name == "d2_dpo")
    assert ("position_weights" in recipe.columns) == (
        objective.position_weights is not None and objective.position_weights.kind in {"steps", "spans"}
    )


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if not recipe.per_draw])
def test_exactly_the_named_columns_are_needed(name):
    recipe = RECIPES[name]
    likelihoods, feedback = BATCHES[recipe.shape]()
    for column in ("score", "rank"):
        missing = feedback._replace(**{column: None})
        if column in recipe.columns:
            with pytest.raises(UserError, match=rf"--objective {name}: needs"):
                recipe.make()(likelihoods, missing)
        else:
            assert torch.equal(recipe.make()(likelihoods, missing), recipe.make()(likelihoods, feedback))


@pytest.mark.parametrize("name", RECIPES)
def test_parameters_are_typed_documented_and_have_defaults(name):
    recipe = RECIPES[name]
    parameters = inspect.signature(recipe.make).parameters
    hints = typing.get_type_hints(recipe.make)
    assert all(parameter.default is not parameter.empty and key in hints for key, parameter in parameters.items())
    assert recipe.make(**recipe.defaults) == recipe.make()
    text = recipe.make.__doc__ or ""
    assert "Noise:" in text
    assert recipe.paper in text
    assert len(recipe.summary) < 70


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (o.cdpo, {"eps": 0.6}, "eps=0.6: must be below 0.5"),
        (o.rdpo, {"eps": 0.5}, "eps=0.5: must be below 0.5"),
        (o.exo, {"eps": 0.0}, "eps=0.0: must be above 0"),
        (o.cdpo, {"eps": -0.1}, "eps=-0.1: must not be negative"),
        (o.dpo, {"beta": 0.0}, "beta=0.0: must be above 0"),
        (o.vrpo, {"beta": math.nan}, "beta=nan: must be above 0"),
        (o.vrpo, {"sft_weight": -1.0}, "sft_weight=-1.0: must not be negative"),
        (o.dpo, {"pairs": "some"}, "pairs=some: must be one of all, best_worst, best_versus_rest"),
        (o.fdpo, {"divergence": "chi"}, "divergence=chi: must be one of reverse_kl"),
        (o.fdpo, {"divergence": "alpha", "alpha": 1.0}, "alpha=1.0: must be above 0 and below 1"),
        (o.discopop, {"tau": 2.0}, "tau=2.0: must be at most 1"),
        (o.ld_dpo, {"alpha": 1.5}, "alpha=1.5: must be from 0 to 1"),
        (o.madpo, {"c_max": 0.5}, "c_max=0.5: must be at least 1"),
        (o.madpo, {"c_max": -1.0}, "c_max=-1.0: must be at least 1"),
        (o.madpo, {"c_min": 1.2}, "c_min=1.2: must be above 0 and at most 1"),
        (o.beta_dpo, {"keep": 0.0}, "keep=0.0: must be above 0"),
        (o.beta_dpo, {"decay": 1.0}, "decay=1.0: must be from 0 to below 1"),
        (o.soft_dpo, {"trust": "me"}, "trust=me: must be one of scorer, label"),
        (o.adpo, {"tau": 0.0}, "tau=0.0: must be above 0"),
        (o.adpo, {"target": "kde"}, "target=kde: must be one of softmax, one_hot"),
        (o.disco, {"score": "sum"}, "score=sum: must be one of log_l, l_ratio"),
        (o.disco, {"tau": -1.0}, "tau=-1.0: must be above 0"),
        (o.nca, {"reward_tau": 0.0}, "reward_tau=0.0: must be above 0"),
    ],
)
def test_values_out_of_range_name_the_argument(make, arguments, message):
    with pytest.raises(UserError) as caught:
        make(**arguments)
    assert str(caught.value).startswith(f"--objective_args {message}")


def test_implicit_reward_is_the_reward_inside_the_loss():
    likelihoods, feedback = pairs()
    u, mean = likelihoods.margins(), likelihoods.policy / likelihoods.length
    odds = mean - torch.log(-torch.expm1(mean))
    expected = {"kto": 0.1 * u, "vrpo": 0.2 * u, "simpo": 2 * mean, "orpo": odds, "irpo": u / likelihoods.length}
    expected |= {"sft": mean, "adpo": u, "bco": 0.1 * u, "beta_dpo": 0.1 * u, "cpo": 0.1 * likelihoods.policy}
    for name, reward in expected.items():
        torch.testing.assert_close(implicit_reward(RECIPES[name].make(), likelihoods), reward)
    ranking = [implicit_reward(o.dpo(beta), likelihoods).argmax(dim=-1) for beta in (0.01, 10.0)]
    torch.testing.assert_close(*ranking)
    assert feedback.relevance.shape == u.shape


def test_algebra_flattens_scales_and_takes_the_most_demanding_data():
    both = 2.0 * (o.dpo() + 0.5 * o.sft()) + o.rankdpo()
    assert [factor for factor, _ in both.terms] == [2.0, 1.0, 1.0]
    assert (both.shape, (o.sft() + o.dpo()).shape, (o.sft() + o.sft()).shape) == ("lists", "pairs", "unpaired")
    assert both.needs_reference
    assert not (o.simpo() + o.sft()).needs_reference
    likelihoods, feedback = lists()
    by_hand = 2 * o.dpo()(likelihoods, feedback) + o.sft()(likelihoods, feedback) + o.rankdpo()(likelihoods, feedback)
    torch.testing.assert_close(both(likelihoods, feedback), by_hand)


def test_position_weights_reach_the_trainer_through_a_sum_and_must_agree():
    assert (o.ld_dpo(alpha=0.3) + 0.05 * o.sft()).position_weights == o.PositionWeights("ld", 0.3)
    assert (o.dpo() + o.sft()).position_weights is None
    with pytest.raises(UserError, match="position weights"):
        _ = (o.ld_dpo(alpha=0.3) + o.ld_dpo(alpha=0.5)).position_weights


def test_ld_dpo_on_weighted_positions_interpolates_between_cut_and_whole_answers():
    """B^alpha = alpha B^1 + (1 - alpha) B^0; equal lengths do not see alpha; the longer answer is the one cut."""
    generator = torch.Generator().manual_seed(0)
    contributions = torch.randn(2, 2, 9, generator=generator, dtype=torch.float64)  # policy or reference, answer, token

    def loss(alpha: float, lengths: tuple[int, int]) -> torch.Tensor:
        objective = o.ld_dpo(alpha=alpha)
        assert objective.position_weights is not None
        token = torch.arange(9)
        weight = torch.stack([(token < n) * torch.where(token < min(lengths), 1.0, alpha) for n in lengths])
        policy, reference = (contributions * weight).sum(dim=-1)
        return objective(o.Likelihoods(policy[None], reference[None]), o.Feedback(torch.tensor([[1.0, 0.0]])))

    argument = [torch.log(torch.expm1(loss(alpha, (4, 9)))) for alpha in (0.0, 0.3, 1.0)]
    torch.testing.assert_close(argument[1], 0.7 * argument[0] + 0.3 * argument[2])
    torch.testing.assert_close(loss(0.2, (6, 6)), loss(1.0, (6, 6)))
    torch.testing.assert_close(loss(0.0, (4, 9)), loss(1.0, (4, 4)))
    torch.testing.assert_close(loss(0.0, (9, 4)), loss(1.0, (4, 4)))


def test_a_grade_too_large_for_gains_is_refused():
    likelihoods = likelihoods_from(random_margins(1, 2))
    with pytest.raises(UserError, match="rescale the scores"):
        o.rankdpo()(likelihoods, o.Feedback(torch.tensor([[200.0, 0.0]])))


def test_sft_likes_thumbs_up_and_the_best_of_a_list_whatever_the_grades():
    policy = torch.tensor([[-4.0, -8.0, -12.0], [-4.0, -8.0, -12.0]], dtype=torch.float64)
    lengths = torch.full_like(policy, 4.0)
    graded = o.Feedback(torch.tensor([[1.0, 3.0, 5.0], [-3.0, -1.0, -1.0]], dtype=torch.float64))
    losses = o.sft()(o.Likelihoods(policy, length=lengths), graded)
    torch.testing.assert_close(losses, torch.tensor([3.0, 2.5], dtype=torch.float64))
    thumbs = o.Feedback(torch.tensor([[1.0], [0.0]], dtype=torch.float64))
    losses = o.sft()(o.Likelihoods(policy[:, :1], length=lengths[:, :1]), thumbs)
    torch.testing.assert_close(losses, torch.tensor([1.0, 0.0], dtype=torch.float64))
