"""Closed forms that objectives are compared with, written independently of the package's slots."""

import math
from collections.abc import Callable

import torch
from torch.nn.functional import logsigmoid

from unveil import objectives as o
from unveil.objectives import Feedback, Likelihoods

Loss = Callable[[Likelihoods, Feedback], torch.Tensor]
Batch = tuple[Likelihoods, Feedback]


def sp(x: torch.Tensor) -> torch.Tensor:
    return -logsigmoid(-x)


def formula(of: Callable[..., torch.Tensor]) -> Loss:
    """A loss of (u_w, u_l, a_w, a_l): log-ratios and per-token log-likelihoods of pairs, the chosen first."""

    def loss(likelihoods: Likelihoods, feedback: Feedback) -> torch.Tensor:
        margins, mean = likelihoods.margins(), likelihoods.policy / likelihoods.length
        return of(margins[:, 0], margins[:, 1], mean[:, 0], mean[:, 1])

    return loss


def one_by_one(objective: Loss) -> Loss:
    """The objective on every candidate as a thumb of its own, added up."""

    def loss(likelihoods: Likelihoods, feedback: Feedback) -> torch.Tensor:
        apart = Likelihoods(*(None if v is None else v[..., None] for v in likelihoods))
        return objective(apart, Feedback(feedback.relevance[..., None])).sum(dim=-1)

    return loss


def without_reference(objective: Loss, per_token: bool = False) -> Loss:
    """The objective where the reference says 0 about every answer."""

    def loss(likelihoods: Likelihoods, feedback: Feedback) -> torch.Tensor:
        policy = likelihoods.policy / likelihoods.length if per_token else likelihoods.policy
        return objective(likelihoods._replace(policy=policy, reference=torch.zeros_like(policy)), feedback)

    return loss


def moved(batch: Callable[[], Batch], **columns: object) -> Callable[[], Batch]:
    """The batch with other columns; `shift`, `gap` and `margins` change the policy."""

    def make() -> Batch:
        likelihoods, feedback = batch()
        assert likelihoods.reference is not None
        changed = dict(columns)
        policy = likelihoods.policy + changed.pop("shift", 0.0)
        if "margins" in changed:
            policy = likelihoods.reference + changed.pop("margins")
        length = torch.full_like(policy, changed.pop("length")) if "length" in changed else likelihoods.length
        mismatched = changed.pop("mismatched", None)
        likelihoods = Likelihoods(policy, likelihoods.reference, length, mismatched)
        fields = {k: torch.as_tensor(v, dtype=policy.dtype).expand_as(policy) for k, v in changed.items()}
        return likelihoods, feedback._replace(**fields)

    return make


def bradley_terry_less_entropy(likelihoods: Likelihoods, feedback: Feedback) -> torch.Tensor:
    q = torch.sigmoid(torch.tensor(1 / 0.7, dtype=torch.float64))
    entropy = -(q * q.log() + (1 - q) * (1 - q).log())
    return o.Pairwise(o.LogRatio(0.1), target=o.BradleyTerry(0.7))(likelihoods, feedback) - entropy


def ranked(likelihoods: Likelihoods, feedback: Feedback) -> torch.Tensor:
    order = feedback.relevance.argsort(dim=-1, descending=True)
    reward = 0.1 * likelihoods.margins().gather(-1, order)
    return sum(-torch.log_softmax(reward[:, k:], dim=-1)[:, 0] for k in range(reward.shape[1]))  # type: ignore[return-value]


def discounted(ranks_by: str) -> Loss:
    """RankDPO's sum by loops, ranks by relevance or by the rewards of the test."""

    def loss(likelihoods: Likelihoods, feedback: Feedback) -> torch.Tensor:
        reward, total = 0.1 * likelihoods.margins(), []
        key = feedback.relevance if ranks_by == "relevance" else reward.detach()
        for r, v, k in zip(reward, feedback.relevance.tolist(), key.tolist()):
            discount = [1 / math.log(2 + sum(other > mine for other in k)) for mine in k]
            terms = [
                abs(2 ** v[i] - 2 ** v[j]) * abs(discount[i] - discount[j]) * sp(r[j] - r[i])
                for i in range(len(v))
                for j in range(len(v))
                if v[i] > v[j]
            ]
            total.append(torch.stack(terms).sum())
        return torch.stack(total)

    return loss


def weighted_softmax(likelihoods: Likelihoods, feedback: Feedback) -> torch.Tensor:
    assert feedback.rank is not None
    weight = (2**feedback.relevance - 1) / torch.log2(1 + feedback.rank)
    u = likelihoods.margins() / likelihoods.length
    return (-weight * torch.log_softmax(u, dim=-1)).mean(dim=-1)


def in_context(likelihoods: Likelihoods, feedback: Feedback) -> torch.Tensor:
    """IRPO by loops, with log(N - 1); 4 items."""
    assert feedback.rank is not None
    u, total = likelihoods.margins() / likelihoods.length, []
    for i in range(4):
        others = torch.stack([u[:, j] - u[:, i] for j in range(4) if j != i])
        weight = (2 ** feedback.relevance[:, i] - 1) / torch.log2(1 + feedback.rank[:, i])
        total.append(weight * sp(torch.logsumexp(others, dim=0) - math.log(3)))
    return torch.stack(total).mean(dim=0)


def of_liked(of: Callable[[torch.Tensor], torch.Tensor]) -> Loss:
    """A loss of B / L on liked thumbs, 0 on the others."""

    def loss(likelihoods: Likelihoods, feedback: Feedback) -> torch.Tensor:
        return (of(likelihoods.policy / likelihoods.length) * feedback.relevance).sum(dim=-1)

    return loss


def log_mean_exp(scores: torch.Tensor, tau: float) -> torch.Tensor:
    return tau * (torch.logsumexp(scores / tau, dim=-1) - math.log(scores.shape[-1]))


def disco_formula(tau: float) -> Loss:
    def loss(likelihoods: Likelihoods, feedback: Feedback) -> torch.Tensor:
        score = likelihoods.policy / likelihoods.length
        liked = feedback.relevance > 0
        positive, negative = score[liked].view(-1, 2), score[~liked].view(-1, 2)
        hard = negative.mean(dim=-1) if math.isinf(tau) else log_mean_exp(negative, tau)
        return hard - positive.mean(dim=-1)

    return loss


def exo_by_entropy(z: torch.Tensor, eps: float) -> torch.Tensor:
    """KL(q || p) of two choices as minus the entropy of q plus a linear term in q."""
    q = torch.sigmoid(z)
    entropy = torch.special.entr(q) + torch.special.entr(1 - q)
    return -entropy - math.log(eps) - q * math.log((1 - eps) / eps)
