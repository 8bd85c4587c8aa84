"""Where the expected loss is least, on response sets small enough to enumerate (spec sections 3 and 8.4)."""

import math

import pytest
import torch

from unveil import objectives as o
from unveil.objectives import Feedback, Likelihoods

SIZE, BETA = 6, 0.4
LEFT, RIGHT = (part.flatten() for part in torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij"))
PAIR = Feedback(torch.tensor([1.0, 0.0], dtype=torch.float64).expand(SIZE * SIZE, 2))


def distribution(seed: int) -> torch.Tensor:
    """log-probabilities of SIZE responses."""
    logits = torch.randn(SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.log_softmax(logits, dim=-1)


REFERENCE, TARGET = distribution(0), distribution(1)


def expected_loss(objective, log_policy: torch.Tensor, probability: torch.Tensor) -> torch.Tensor:
    """Mean over ordered pairs (i chosen, j rejected) with the given joint probability."""
    likelihoods = Likelihoods(
        torch.stack([log_policy[LEFT], log_policy[RIGHT]], -1), torch.stack([REFERENCE[LEFT], REFERENCE[RIGHT]], -1)
    )
    return (probability.flatten() * objective(likelihoods, PAIR)).sum()


def minimiser(loss) -> torch.Tensor:
    """The distribution (log-probabilities) of least loss, by a quasi-Newton search over logits."""
    logits = torch.zeros(SIZE, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [logits], lr=1, max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def closure():
        search.zero_grad()
        value = loss(torch.log_softmax(logits, dim=-1))
        value.backward()
        return value

    search.step(closure)
    return torch.log_softmax(logits.detach(), dim=-1)


def bradley_terry(flip: float = 0.0) -> torch.Tensor:
    """Joint probability of (chosen, rejected): uniform pairs, labels from beta log(target / reference)."""
    reward = BETA * (TARGET - REFERENCE)
    clean = torch.sigmoid(reward[:, None] - reward[None])
    return ((1 - flip) * clean + flip * clean.T) / SIZE**2


def test_dpo_recovers_the_policy_that_generated_the_labels():
    found = minimiser(lambda policy: expected_loss(o.dpo(BETA), policy, bradley_terry()))
    torch.testing.assert_close(found, TARGET, rtol=0, atol=1e-6)


def test_dpo_recovers_the_target_from_chosen_answers_of_the_reference_and_the_did_rejected_sampler():
    """y_w ~ reference and y_l ~ reference (reference / target)^beta give DPO's label law."""
    rejected = torch.log_softmax(REFERENCE + BETA * (REFERENCE - TARGET), dim=-1)
    joint = (REFERENCE[:, None] + rejected[None]).exp()
    reward = BETA * (TARGET - REFERENCE)
    torch.testing.assert_close(joint / (joint + joint.T), torch.sigmoid(reward[:, None] - reward[None]))
    found = minimiser(lambda policy: expected_loss(o.dpo(BETA), policy, joint))
    torch.testing.assert_close(found, TARGET, rtol=0, atol=1e-6)


@pytest.mark.parametrize("flip", [0.1, 0.3])
def test_rdpo_is_unbiased_under_flipped_labels_and_dpo_is_not(flip):
    policy = distribution(2)
    robust = expected_loss(o.rdpo(BETA, flip), policy, bradley_terry(flip))
    torch.testing.assert_close(robust, expected_loss(o.dpo(BETA), policy, bradley_terry()))
    found = minimiser(lambda p: expected_loss(o.rdpo(BETA, flip), p, bradley_terry(flip)))
    torch.testing.assert_close(found, TARGET, rtol=0, atol=1e-6)
    misled = minimiser(lambda p: expected_loss(o.dpo(BETA), p, bradley_terry(flip)))
    assert (misled - TARGET).abs().max() > 0.05


def argument_of_least_loss(objective, score=(0.0, 0.0), win=1.0, relevance=(1.0, 0.0)) -> float:
    """z = 0.1 (u_1 - u_2) that minimises the loss if answer 1 wins with probability `win`, by bisecting the slope."""
    low, high = -20.0, 20.0
    for _ in range(80):
        z = torch.tensor((low + high) / 2, dtype=torch.float64, requires_grad=True)
        policy = torch.stack([10 * z, torch.zeros_like(z)])[None]
        likelihoods = Likelihoods(policy, torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, 2))
        loss = torch.zeros((), dtype=torch.float64)
        for probability, labels in ((win, relevance), (1 - win, relevance[::-1])):
            feedback = Feedback(
                torch.tensor([labels], dtype=torch.float64), None, None, torch.tensor([score], dtype=torch.float64)
            )
            loss = loss + probability * objective(likelihoods, feedback).sum()
        (slope,) = torch.autograd.grad(loss, z)
        low, high = (low, z.item()) if slope > 0 else (z.item(), high)
    return (low + high) / 2


@pytest.mark.parametrize("eps", [0.05, 0.2])
def test_cdpo_and_exo_stop_at_the_logit_of_the_believed_accuracy(eps):
    for objective in (o.cdpo(0.1, eps), o.exo(0.1, eps)):
        assert argument_of_least_loss(objective) == pytest.approx(math.log((1 - eps) / eps), abs=1e-9)


def test_cdpo_is_the_label_entropy_at_its_least_and_exo_is_zero_there():
    eps = 0.2
    z = torch.tensor([[10 * math.log((1 - eps) / eps), 0.0]], dtype=torch.float64)
    at_best = Likelihoods(z, torch.zeros_like(z)), Feedback(torch.tensor([[1.0, 0.0]]))
    entropy = -(eps * math.log(eps) + (1 - eps) * math.log(1 - eps))
    assert o.cdpo(0.1, eps)(*at_best).item() == pytest.approx(entropy, rel=1e-12)
    assert o.exo(0.1, eps)(*at_best).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("margin", [0.2, 1.5, 5.0, 6.8])
@pytest.mark.parametrize(("c_max", "c_min"), [(2.0, None), (4.0, 0.3)])
def test_madpo_moves_the_optimum_to_c_times_the_margin(margin, c_max, c_min):
    objective = o.madpo(c_max=c_max, c_min=c_min)
    assert isinstance(objective.weight, o.MarginAdaptive)
    factor = objective.weight.amplification(torch.tensor(margin, dtype=torch.float64)).item()
    found = argument_of_least_loss(objective, (margin, 0.0), win=1 / (1 + math.exp(-margin)))
    assert found == pytest.approx(factor * margin, abs=1e-8)


def test_madpo_amplification_is_c_max_at_ease_one_at_the_threshold_and_c_min_beyond():
    shape = o.MarginAdaptive(2.0, 0.5, 1.0, math.log(999))
    sizes = torch.tensor([-1e3, math.log(999), 1e3], dtype=torch.float64)
    torch.testing.assert_close(shape.amplification(sizes), torch.tensor([2.0, 1.0, 0.5]).double())


def test_madpo_weight_dips_where_the_scorer_disagrees_and_returns_to_one_without_a_step():
    def weight(margin: float) -> float:
        feedback = Feedback(torch.zeros(2), score=torch.tensor([margin, 0.0], dtype=torch.float64))
        return o.MarginAdaptive(2.0, 0.5, 1.0, math.log(999))(feedback, torch.zeros(2))[0, 1].item()

    edge = -math.log(999)
    assert weight(0.0) == pytest.approx(1.0)
    assert weight(-3.0) == pytest.approx(0.06, abs=0.01)
    assert weight(edge + 1e-9) == pytest.approx(1.0, abs=1e-6)
    assert weight(edge - 1.0) == 1.0
    assert max(weight(m / 10) for m in range(-100, 100)) < 1.25


@pytest.mark.parametrize("gap", [0.0, 0.7, -2.0])
def test_a_bradley_terry_target_is_met_exactly(gap):
    """DNO's regression on a preference strength, written for the better answer of the two."""
    objective = o.Pairwise(o.LogRatio(0.1), target=o.BradleyTerry())
    relevance = (max(gap, 1e-9), 0.0) if gap >= 0 else (0.0, -gap)
    expected = relevance[0] - relevance[1]
    assert argument_of_least_loss(objective, relevance=relevance) == pytest.approx(expected, abs=1e-6)


def test_adpo_is_zero_exactly_at_the_tempered_target():
    anchor = REFERENCE[None]
    reward = torch.randn(1, SIZE, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    objective, feedback = o.adpo(tau=0.8, reward_tau=0.5), Feedback(reward)

    def loss(policy):
        return objective(Likelihoods(policy[None], anchor), feedback).sum()

    best = torch.log_softmax(anchor + 0.8 * reward / 0.5, dim=-1)[0]
    assert loss(best).item() == pytest.approx(0.0, abs=1e-12)
    torch.testing.assert_close(minimiser(loss), best, rtol=0, atol=1e-6)
    assert loss(distribution(3)) > 0.01


@pytest.mark.parametrize(("beta", "alpha"), [(0.5, 1.0), (1.0, 1.0), (2.0, 3.0)])
def test_ddo_is_least_at_the_product_of_reference_and_data(beta, alpha):
    """pi ~ reference^(1 - 1/beta) data^(1/beta), over free log-ratios; alpha moves the constant only."""
    data, objective = TARGET, o.ddo(alpha, beta, per_token=False)
    best = REFERENCE + (data - REFERENCE - math.log(alpha)) / beta
    policy = best.clone().requires_grad_()
    both = Likelihoods(torch.cat([policy, policy])[:, None], torch.cat([REFERENCE, REFERENCE])[:, None])
    labels = Feedback(torch.tensor([1.0] * SIZE + [0.0] * SIZE)[:, None])
    loss = (torch.cat([data.exp(), REFERENCE.exp()]) * objective(both, labels)).sum()
    (slope,) = torch.autograd.grad(loss, policy)
    torch.testing.assert_close(slope, torch.zeros(SIZE).double(), rtol=0, atol=1e-12)
    product = (1 - 1 / beta) * REFERENCE + data / beta
    torch.testing.assert_close(torch.log_softmax(best, -1), torch.log_softmax(product, -1))


def test_the_plain_logistic_loss_has_no_optimum_on_clean_labels():
    """Why cDPO exists: DPO's slope never changes sign on a pair that is always right."""
    assert argument_of_least_loss(o.dpo(0.1)) == pytest.approx(20.0, abs=1e-6)
