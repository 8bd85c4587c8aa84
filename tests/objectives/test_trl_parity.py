"""Losses of TRL by the formulas that its documentation gives, and by TRL itself where it is installed.

Differences that are meant: TRL's alpha is one minus the paper's, its forward KL and alpha exponents are not continued
beyond a limit, its SFT term is a mean over tokens of the batch (equal here, where lengths agree).
"""

import math
import warnings
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from objective_batches import pairs, thumbs

from unveil import objectives as o
from unveil.errors import UserError
from unveil.objectives import Likelihoods, total_loss

LENGTH = 8.0


def logistic(x):
    return 1 / (1 + np.exp(-x))


def log_sigmoid(x):
    return np.log(logistic(x))


def alpha_score(u, trl_alpha):
    return (np.exp(u) ** (trl_alpha - 1) - 1) / (trl_alpha - 1)


def exo_loss(z, eps):
    q = logistic(z)
    return q * (np.log(q) - np.log(1 - eps)) + (1 - q) * (np.log(1 - q) - np.log(eps))


def discopop_loss(z, tau):
    return (1 - logistic(z / tau)) * -log_sigmoid(z) + logistic(z / tau) * np.exp(-z)


# name -> (our objective, TRL's settings, TRL's formula of (u_w, u_l) in naive arithmetic)
DPO_TYPES = {
    "sigmoid": (o.dpo(0.3), {"beta": 0.3}, lambda w, r: -log_sigmoid(0.3 * (w - r))),
    "hinge": (o.hinge(0.3), {"beta": 0.3}, lambda w, r: np.maximum(0, 1 - 0.3 * (w - r))),
    "ipo": (o.ipo(0.3), {"beta": 0.3}, lambda w, r: (w / LENGTH - r / LENGTH - 1 / 0.6) ** 2),
    "exo_pair": (o.exo(0.3, 0.01), {"beta": 0.3, "eps": 0.01}, lambda w, r: exo_loss(0.3 * (w - r), 0.01)),
    "nca_pair": (
        o.nca(0.3),
        {"beta": 0.3},
        lambda w, r: -log_sigmoid(0.3 * w) - 0.5 * log_sigmoid(-0.3 * w) - 0.5 * log_sigmoid(-0.3 * r),
    ),
    "robust": (
        o.rdpo(0.3, 0.2),
        {"beta": 0.3, "eps": 0.2},
        lambda w, r: (-0.8 * log_sigmoid(0.3 * (w - r)) + 0.2 * log_sigmoid(-0.3 * (w - r))) / 0.6,
    ),
    "bco_pair": (o.bco_pair(0.3), {"beta": 0.3}, lambda w, r: -log_sigmoid(0.3 * w) - log_sigmoid(-0.3 * r)),
    "sppo_hard": (o.sppo(0.3), {"beta": 0.3}, lambda w, r: (w - 0.5 / 0.3) ** 2 + (r + 0.5 / 0.3) ** 2),
    "apo_zero": (o.apo_zero(0.3), {"beta": 0.3}, lambda w, r: 1 - logistic(0.3 * w) + logistic(0.3 * r)),
    "apo_down": (o.apo_down(0.3), {"beta": 0.3}, lambda w, r: logistic(0.3 * w) + 1 - logistic(0.3 * (w - r))),
    "discopop": (o.discopop(0.3, 0.4), {"beta": 0.3, "tau": 0.4}, lambda w, r: discopop_loss(0.3 * (w - r), 0.4)),
    "forward_kl": (
        o.fdpo("forward_kl", 0.3),
        {"beta": 0.3, "f": "forward_kl"},
        lambda w, r: -log_sigmoid(0.3 * ((1 - np.exp(-w)) - (1 - np.exp(-r)))),
    ),
    "js_divergence": (
        o.fdpo("jensen_shannon", 0.3),
        {"beta": 0.3, "f": "js_divergence"},
        lambda w, r: (
            -log_sigmoid(0.3 * (np.log(2 * np.exp(w) / (1 + np.exp(w))) - np.log(2 * np.exp(r) / (1 + np.exp(r)))))
        ),
    ),
    "alpha_divergence": (
        o.fdpo("alpha", 0.3, alpha=0.3),
        {"beta": 0.3, "f": "alpha_divergence", "f_alpha": 0.7},
        lambda w, r: -log_sigmoid(0.3 * (alpha_score(w, 0.7) - alpha_score(r, 0.7))),
    ),
}


def pair_batch():
    likelihoods, feedback = pairs(seed=5)
    return likelihoods._replace(length=torch.full_like(likelihoods.policy, LENGTH)), feedback


@pytest.mark.parametrize("name", DPO_TYPES)
def test_pair_losses_are_trls_formulas(name):
    objective, _, formula = DPO_TYPES[name]
    likelihoods, feedback = pair_batch()
    expected = formula(*likelihoods.margins().numpy().T)
    np.testing.assert_allclose(objective(likelihoods, feedback).numpy(), expected, rtol=1e-9)


def test_kto_is_trls_formula_with_the_clamped_mean_of_mismatched_margins():
    likelihoods, feedback = thumbs()
    for values in ([3.0, 0.5, -1.0], [-3.0, -1.0]):
        mismatched = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        z0 = max(sum(values) / len(values), 0.0)
        u = likelihoods.margins()[:, 0].numpy()
        expected = np.where(
            feedback.relevance[:, 0] > 0, 1.5 * (1 - logistic(0.3 * (u - z0))), 1 - logistic(0.3 * (z0 - u))
        )
        losses = o.kto(0.3, 1.5, 1.0, "trl_kl")(likelihoods._replace(mismatched=mismatched), feedback)
        np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-12)  # no gradient: z0 is detached


def test_kto_without_mismatched_margins_names_the_flag():
    with pytest.raises(UserError, match="--baseline trl_kl"):
        total_loss(o.kto(baseline="trl_kl"), *thumbs())


def trl_dpo_loss(name: str, settings: dict, likelihoods: Likelihoods) -> float:
    """TRL's own loss: its method on a stand-in for the trainer and a model that returns given log-probabilities."""
    trainer = pytest.importorskip("trl.trainer.dpo_trainer").DPOTrainer
    divergence = settings.get("f", "reverse_kl")
    tokens, count = int(LENGTH), len(likelihoods.policy)
    log_probs = (likelihoods.policy.T.reshape(-1, 1) / LENGTH).expand(-1, tokens).float()
    reference = likelihoods.reference.T.float()
    stand_in = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(device="cpu", gather=lambda v: v, gather_for_metrics=lambda v: v),
        args=SimpleNamespace(discopop_tau=settings.get("tau", 0.05)),
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type=divergence,
        f_alpha_divergence_coef=settings.get("f_alpha", 0.5),
        loss_types=["sigmoid" if divergence != "reverse_kl" else name],
        loss_weights=[1.0],
        label_smoothing=settings.get("eps", 0.0),
        beta=settings["beta"],
        use_weighting=False,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    blank = torch.zeros(2 * count, tokens)
    outputs = SimpleNamespace(log_probs=log_probs, entropy=blank, mean_logits=blank, is_top1=blank.bool())
    # One more position than tokens: TRL drops the first, and IPO counts the tokens of the undropped mask.
    mask = torch.cat([torch.zeros(2 * count, 1), torch.ones(2 * count, tokens)], dim=1).long()
    inputs = {
        "input_ids": torch.zeros_like(mask),
        "attention_mask": torch.ones_like(mask),
        "completion_mask": mask,
        "ref_chosen_logps": reference[0],
        "ref_rejected_logps": reference[1],
    }
    return trainer._compute_loss(stand_in, lambda **_: outputs, inputs, False).item()


@pytest.mark.parametrize("name", DPO_TYPES)
def test_pair_losses_are_trls_code(name):
    objective, settings, _ = DPO_TYPES[name]
    likelihoods, feedback = pair_batch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = trl_dpo_loss(name, settings, likelihoods)
    assert total_loss(objective, likelihoods, feedback).item() == pytest.approx(theirs, rel=2e-5)


def trl_method(module: str, trainer: str, method: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(getattr(pytest.importorskip(module), trainer), method)


@pytest.mark.parametrize(
    ("objective", "loss_type", "per_token"), [(o.cpo(0.3, 0.0), "sigmoid", False), (o.simpo(0.3, 0.5), "simpo", True)]
)
def test_cpo_and_simpo_are_trls_code(objective, loss_type, per_token):
    cpo_loss = trl_method("trl.experimental.cpo", "CPOTrainer", "cpo_loss")
    likelihoods, feedback = pair_batch()
    given = likelihoods.policy / LENGTH if per_token else likelihoods.policy
    stand_in = SimpleNamespace(
        alpha=0.0,
        beta=0.3,
        simpo_gamma=0.5,
        label_smoothing=0.0,
        loss_type=loss_type,
        accelerator=SimpleNamespace(device="cpu"),
    )
    theirs = cpo_loss(stand_in, given[:, 0], given[:, 1])[0]
    torch.testing.assert_close(objective(likelihoods, feedback), theirs)


def test_orpo_is_trls_code():
    odds_ratio_loss = trl_method("trl.experimental.orpo", "ORPOTrainer", "odds_ratio_loss")
    likelihoods, feedback = pair_batch()
    mean = likelihoods.policy / LENGTH
    stand_in = SimpleNamespace(beta=0.3, accelerator=SimpleNamespace(device="cpu"))
    ratio = odds_ratio_loss(stand_in, mean[:, 0], mean[:, 1])[0]
    ours = o.orpo(0.3)(likelihoods, feedback)
    torch.testing.assert_close(ours, (-mean[:, 0] - ratio).double(), rtol=1e-5, atol=1e-5)
    assert math.isfinite(ours.sum().item())
