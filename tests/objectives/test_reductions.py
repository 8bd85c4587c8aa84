"""Every objective against simpler ones and closed forms: one table of identities, values and gradients."""

import math
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import objective_batches as data
import pytest
import torch
from objective_batches import binary_lists, lists, one_hot_lists, pairs, thumbs
from objective_formulas import (
    Batch,
    Loss,
    bradley_terry_less_entropy,
    disco_formula,
    discounted,
    exo_by_entropy,
    formula,
    in_context,
    moved,
    of_liked,
    one_by_one,
    ranked,
    sp,
    weighted_softmax,
    without_reference,
)

from unveil import objectives as o
from unveil.objectives import Feedback, Likelihoods, weights

RANK_2 = 1 / math.log(2) - 1 / math.log(3)


class Row(NamedTuple):
    recipe: str
    left: Loss
    right: Loss
    batch: Callable[[], Batch] = pairs
    tolerance: float = 1e-9


AT_REFERENCE = moved(pairs, margins=torch.zeros(1, dtype=torch.float64))
POSITIVE, NEGATIVE = (moved(pairs, margins=torch.tensor([g, 0.0], dtype=torch.float64)) for g in (30.0, -30.0))
IN_ORDER = moved(lists, margins=torch.tensor([4.0, 3.0, 2.0, 1.0]), relevance=[3.0, 2.0, 1.0, 0.0])

TABLE = [
    Row("kto", o.kto(baseline="zero"), o.apo_zero_unpaired(), thumbs),
    Row("kto", o.kto(baseline="kl"), o.kto(baseline="zero"), moved(thumbs, shift=-40.0)),
    Row("kto", o.kto(baseline="kl"), o.kto(), moved(thumbs, shift=40.0)),
    Row("kto", o.kto(baseline="trl_kl"), o.kto(baseline="zero"), moved(thumbs, mismatched=torch.tensor([-3.0, 1.0]))),
    Row("dpo", o.dpo(), formula(lambda w, r, *_: sp(0.1 * (r - w)))),
    Row("dpo", o.dpo(0.4), formula(lambda w, r, *_: math.log(2) - 0.2 * (w - r)), AT_REFERENCE),
    Row("dpo", o.dpo(pairs="best_worst"), o.dpo(), pairs),
    Row("vrpo", o.vrpo(sft_weight=0.0), o.dpo(0.2)),
    Row("vrpo", o.vrpo(), formula(lambda w, r, a, b: sp(0.2 * (r - w)) - 0.05 * a)),
    Row("cdpo", o.cdpo(eps=0.0), o.dpo()),
    Row("cdpo", o.cdpo(eps=0.2), formula(lambda w, r, *_: sp(0.1 * (r - w)) + 0.2 * 0.1 * (w - r))),
    Row("rdpo", o.rdpo(eps=0.0), o.dpo()),
    Row("rdpo", o.rdpo(eps=0.2), formula(lambda w, r, *_: sp(0.1 * (r - w)) - 0.2 / 0.6 * 0.1 * (w - r))),
    Row("fdpo", o.fdpo("reverse_kl"), o.dpo()),
    Row("fdpo", o.fdpo("alpha", alpha=1e-7), o.dpo(), pairs, 1e-5),
    Row("fdpo", o.fdpo("alpha", alpha=1 - 1e-9), o.fdpo("forward_kl"), pairs, 1e-6),
    Row("fdpo", o.fdpo("forward_kl"), formula(lambda w, r, *_: sp(0.1 * (torch.exp(-w) - torch.exp(-r))))),
    Row("fdpo", o.fdpo("jensen_shannon"), formula(lambda w, r, *_: sp(0.1 * (sp(-w) - sp(-r))))),
    Row("ipo", o.ipo(per_token=False), formula(lambda w, r, *_: (w - r - 5) ** 2)),
    Row("ipo", o.ipo(0.2), formula(lambda w, r, *_: ((w - r) / 8 - 2.5) ** 2), moved(pairs, length=8.0)),
    Row("hinge", o.hinge(), formula(lambda w, r, *_: 1 - 0.05 * (w - r))),
    Row("hinge", o.hinge(0.1), formula(lambda w, r, *_: 0 * w), POSITIVE),
    Row("simpo", o.simpo(gamma=0.0), without_reference(o.dpo(2.0), per_token=True)),
    Row("simpo", o.simpo(0.1, 0.0), o.cpo(0.1, 0.0), moved(pairs, length=1.0)),
    Row("simpo", o.simpo(), formula(lambda w, r, a, b: sp(-(2 * (a - b) - 0.5)))),
    Row("cpo", o.cpo(sft_weight=0.0), without_reference(o.dpo())),
    Row("cpo", o.cpo(sft_weight=0.7), o.cpo(sft_weight=0.0) + 0.7 * o.sft()),
    Row("orpo", o.orpo(0.0), o.sft()),
    Row(
        "orpo",  # log-odds ratio = ASFT's two terms with their product taken out
        o.orpo(0.3),
        lambda x, f: (
            o.asft(0.3)(x, f)
            + formula(lambda w, r, a, b: 0.3 * torch.log(a.exp() * -torch.expm1(b) + b.exp() * -torch.expm1(a)))(x, f)
        ),
    ),
    Row("exo", o.exo(eps=0.2), formula(lambda w, r, *_: exo_by_entropy(0.1 * (w - r), 0.2))),
    Row("exo", o.exo(eps=0.49999999), formula(lambda w, r, *_: exo_by_entropy(0.1 * (w - r), 0.5)), pairs, 1e-6),
    Row("apo_zero", o.apo_zero(), one_by_one(o.apo_zero_unpaired())),
    Row("apo_zero", o.apo_zero(), 2.0 * o.kto(baseline="zero")),
    Row("apo_down", o.apo_down(), formula(lambda w, r, *_: torch.sigmoid(0.1 * w) + torch.sigmoid(0.1 * (r - w)))),
    Row(
        "apo_down",  # the chosen answer as a thumb down, and the pair through the sigmoid link
        o.apo_down(),
        lambda x, f: (
            o.apo_zero_unpaired()(Likelihoods(x.policy[:, :1], x.reference[:, :1]), Feedback(0 * f.relevance[:, :1]))
            + o.Pairwise(o.LogRatio(0.1), o.Sigmoid())(x, f)
        ),
    ),
    Row("apo_zero_unpaired", o.apo_zero_unpaired(0.3), o.kto(0.3, baseline="zero"), thumbs),
    Row(
        "apo_zero_unpaired",
        o.apo_zero_unpaired(),
        lambda x, f: torch.sigmoid(0.1 * (1 - 2 * f.relevance) * x.margins())[:, 0],
        thumbs,
    ),
    Row("bco", o.bco().given((0.0, 1.0)), o.bco_pair(), thumbs),
    Row("bco", o.bco().given((0.5, 9.0)), lambda x, f: o.bco_pair()(x._replace(policy=x.policy - 5), f), thumbs),
    Row("bco", o.bco(), o.bco_pair(), moved(pairs, margins=torch.tensor([2.0, -2.0]))),
    Row("bco_pair", o.bco_pair(), o.ddo(1.0, per_token=False)),
    Row("bco_pair", o.bco_pair(), formula(lambda w, r, *_: sp(-0.1 * w) + sp(0.1 * r))),
    Row("nca", o.nca(), formula(lambda w, r, *_: sp(-0.01 * w) + 0.5 * sp(0.01 * w) + 0.5 * sp(0.01 * r))),
    Row("nca", o.nca(reward_tau=1e-3), o.nca()),
    Row("nca", o.nca(0.1), o.nca(0.1, 1e9), moved(pairs, relevance=[1.0, 1.0])),
    Row("sppo", o.sppo(0.05), formula(lambda w, r, *_: (w - 10) ** 2 + (r + 10) ** 2)),
    Row("sppo", o.sppo(0.1), lambda x, f: 0.5 * (o.ipo(0.05, False)(x, f) + x.margins().sum(dim=-1) ** 2)),
    Row("discopop", o.discopop(0.1, 1e-9), formula(lambda w, r, *_: torch.exp(-0.1 * (w - r))), POSITIVE),
    Row("discopop", o.discopop(0.1, 1e-9), o.dpo(), NEGATIVE),
    Row("asft", o.asft(0.0), o.sft()),
    Row("asft", o.asft(0.7), formula(lambda w, r, a, b: -1.7 * a - 0.7 * torch.log(-torch.expm1(b)))),
    Row("ld_dpo", o.ld_dpo(alpha=0.3), o.dpo()),
    Row("ld_dpo", o.ld_dpo(0.2, 1.0), o.vrpo(0.2, 0.0)),
    Row("madpo", o.madpo(c_max=1.0), o.dpo()),
    Row("madpo", o.madpo(), o.dpo(), moved(pairs, score=[0.0, 0.0])),
    Row("madpo", o.madpo(), o.dpo(), moved(pairs, score=[0.0, 7.0])),
    Row("madpo", o.madpo(c_max=4.0, c_min=1.0), o.dpo(), moved(pairs, score=[60.0, 0.0])),
    Row("beta_dpo", o.beta_dpo(a=0.0, keep=1.0), o.dpo()),
    Row("beta_dpo", o.beta_dpo(keep=1.0).given((20.0, 1.0, 1.0)), o.dpo(0.1 * (1 + 0.6 * 10)), POSITIVE),
    Row("beta_dpo", o.beta_dpo(keep=1.0).given((60.0, 1.0, 1.0)), o.dpo(1e-3), POSITIVE),
    Row("da_dpo", o.da_dpo(), o.dpo(), moved(pairs, score=[2.0, 2.0])),
    Row("da_dpo", o.da_dpo(0.1, 0.5), o.dpo(0.1 * 0.5 * 3), moved(pairs, score=[1.0, 3.0])),
    Row("soft_dpo", o.soft_dpo(gamma=1.0), o.dpo(), moved(pairs, score=[500.0, 0.0])),
    Row("soft_dpo", o.soft_dpo(), formula(lambda w, r, *_: math.log(2) + 0 * w), moved(pairs, score=[1.0, 1.0])),
    Row(
        "soft_dpo",  # the scorer turns the pair round
        o.soft_dpo(gamma=1.0),
        lambda x, f: o.dpo()(x, f._replace(relevance=1 - f.relevance)),
        moved(pairs, score=[0.0, 500.0]),
    ),
    Row(
        "soft_dpo",
        o.soft_dpo(trust="label"),
        formula(lambda w, r, *_: math.log(2) + 0 * w),
        moved(pairs, score=[0.0, 500.0]),
    ),
    Row("adpo", o.adpo(10.0, target="one_hot"), o.dpo()),
    Row("adpo", o.adpo(10.0, 0.7), bradley_terry_less_entropy),
    Row(
        "adpo",
        o.adpo(target="one_hot"),
        lambda x, f: -torch.log_softmax(x.policy, dim=-1)[f.relevance == 3],
        lambda: (lists()[0]._replace(reference=torch.full((5, 4), -30.0, dtype=torch.float64)), lists()[1]),
    ),
    Row("irpo", o.irpo(0.1), 0.5 * o.dpo(), moved(pairs, length=1.0, rank=[1.0, 2.0])),
    Row("irpo", o.irpo(0.1, False), 0.5 * o.dpo(), moved(pairs, length=1.0, rank=[1.0, 2.0])),
    Row("irpo", o.irpo(normalise=False), weighted_softmax, lists),
    Row("irpo", o.irpo(), in_context, lists),
    Row("tree_po", o.tree_po(swap_weights=False), o.dpo(0.5)),
    Row("tree_po", o.tree_po(swap_weights=False), o.dpo(0.5), binary_lists),
    Row("tree_po", 6.0 * o.tree_po(0.05), o.lipo(), lists),
    Row("rankdpo", o.rankdpo(), RANK_2 * o.dpo()),
    Row("rankdpo", o.rankdpo(), discounted("relevance"), lists),
    Row("rankdpo", o.rankdpo(), lambda x, f: 0 * x.policy[:, 0], moved(lists, relevance=[1.0, 1.0, 1.0, 1.0])),
    Row("plackett_luce", o.plackett_luce(), o.dpo()),
    Row("plackett_luce", o.plackett_luce(), o.adpo(10.0, target="one_hot"), one_hot_lists),
    Row("plackett_luce", o.plackett_luce(), ranked, lists),
    Row("lipo", o.lipo(0.1), discounted("reward"), lists),
    Row("lipo", o.lipo(0.1), o.rankdpo(), IN_ORDER),
    Row("lipo", o.lipo(0.1), o.rankdpo(), moved(lists, margins=torch.zeros(1, dtype=torch.float64))),
    Row("flex_dpo", o.flex_dpo(0.1, 0.1), o.dpo()),
    Row("flex_dpo", o.flex_dpo(0.1, 0.0), formula(lambda w, r, *_: sp(-0.1 * w))),
    Row("flex_dpo", o.flex_dpo(sft_weight=0.3), o.flex_dpo() + 0.3 * o.sft()),
    Row("disco", o.disco(penalty=0.0), formula(lambda w, r, a, b: b - a)),
    Row("disco", o.disco(penalty=0.0, tau=math.inf), disco_formula(math.inf), binary_lists),
    Row("disco", o.disco(penalty=0.0), disco_formula(10.0), binary_lists),
    Row("disco", o.disco(penalty=0.0, tau=1e8), disco_formula(math.inf), binary_lists, 1e-6),
    Row("disco", o.disco(), o.disco(penalty=0.0), moved(binary_lists, shift=40.0)),
    Row("ddo", o.ddo(1.0, per_token=False), o.bco_pair()),
    Row("ddo", o.ddo(0.0, per_token=False), formula(lambda w, r, *_: sp(-0.1 * w))),
    Row(
        "ddo", o.ddo(2.0, per_token=False), formula(lambda w, r, *_: 3 * math.log(2) - 0.05 * w + 0.1 * r), AT_REFERENCE
    ),
    Row("sft", o.sft(), of_liked(lambda mean: -mean), thumbs),
    Row("sft", o.sft(), formula(lambda w, r, a, b: -a)),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.recipe)
def test_identity_holds_for_values_and_gradients(row):
    likelihoods, feedback = row.batch()
    close = {"rtol": row.tolerance, "atol": row.tolerance}
    left, right = row.left(likelihoods, feedback), row.right(likelihoods, feedback)
    assert left.shape == likelihoods.policy.shape[:-1]
    torch.testing.assert_close(left, right, **close)
    slopes = [weights(side, likelihoods, feedback)[1] for side in (row.left, row.right)]  # type: ignore[arg-type]
    torch.testing.assert_close(*slopes, **close)


def test_expectation_outside_of_equal_draws_is_the_plain_objective():
    likelihoods, feedback = pairs()
    for draws in (1, 4):
        loss, slopes = weights(o.d2_dpo(), data.with_draws(likelihoods, draws), feedback)
        plain_loss, plain_slopes = weights(o.dpo(), likelihoods, feedback)
        torch.testing.assert_close(loss, plain_loss)
        torch.testing.assert_close(slopes.sum(dim=0), plain_slopes)


def test_every_recipe_has_at_least_two_identities():
    counted = Counter(row.recipe for row in TABLE) + Counter({"d2_dpo": 2})  # one and four draws, above
    assert {name: counted[name] for name in o.RECIPES if counted[name] < 2} == {}
