"""Random batches of surrogates and feedback, float64, for the tests of this room."""

import torch

from unveil.objectives import Feedback, Likelihoods

DTYPE = torch.float64
PROMPTS = 5


def likelihoods_from(margins: torch.Tensor, seed: int = 0) -> Likelihoods:
    """Surrogates with the given u: a reference of -20 to -60 nats, 5 to 30 tokens."""
    generator = torch.Generator().manual_seed(seed)
    reference = -20 - 40 * torch.rand(margins.shape, generator=generator, dtype=DTYPE)
    length = torch.randint(5, 31, margins.shape, generator=generator).to(DTYPE)
    return Likelihoods(reference + margins, reference, length)


def random_margins(prompts: int, candidates: int, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(prompts, candidates, generator=torch.Generator().manual_seed(seed), dtype=DTYPE)


def feedback_for(relevance: torch.Tensor, seed: int = 0) -> Feedback:
    """The labels with random scores and a random displayed order beside them."""
    generator = torch.Generator().manual_seed(seed + 100)
    score = torch.randn(relevance.shape, generator=generator, dtype=DTYPE)
    rank = torch.rand(relevance.shape, generator=generator).argsort(dim=-1).to(DTYPE) + 1
    return Feedback(relevance.to(DTYPE), None, rank, score)


def thumbs(seed: int = 0) -> tuple[Likelihoods, Feedback]:
    """K = 1, labels up, down, up, down, up."""
    labels = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0])[:, None]
    return likelihoods_from(random_margins(PROMPTS, 1, seed), seed), feedback_for(labels, seed)


def pairs(seed: int = 0) -> tuple[Likelihoods, Feedback]:
    """K = 2, the chosen answer first."""
    labels = torch.tensor([1.0, 0.0]).expand(PROMPTS, 2)
    return likelihoods_from(random_margins(PROMPTS, 2, seed), seed), feedback_for(labels, seed)


def lists(seed: int = 0) -> tuple[Likelihoods, Feedback]:
    """K = 4 with grades 0 to 3 in a random order."""
    order = torch.rand(PROMPTS, 4, generator=torch.Generator().manual_seed(seed + 7)).argsort(dim=-1)
    return likelihoods_from(random_margins(PROMPTS, 4, seed), seed), feedback_for(order, seed)


def binary_lists(seed: int = 0) -> tuple[Likelihoods, Feedback]:
    """K = 4 with two liked and two disliked answers."""
    likelihoods, feedback = lists(seed)
    return likelihoods, feedback._replace(relevance=(feedback.relevance > 1).to(DTYPE))


def one_hot_lists(seed: int = 0) -> tuple[Likelihoods, Feedback]:
    """K = 4 with one liked answer."""
    likelihoods, feedback = lists(seed)
    return likelihoods, feedback._replace(relevance=(feedback.relevance > 2).to(DTYPE))


BATCHES = {"unpaired": thumbs, "pairs": pairs, "lists": lists}


def with_draws(likelihoods: Likelihoods, draws: int = 4, noise: float = 0.0, seed: int = 0) -> Likelihoods:
    """The surrogates as a leading axis of draws whose noise adds up to 0."""
    assert likelihoods.reference is not None
    generator = torch.Generator().manual_seed(seed)
    errors = noise * torch.randn(draws, *likelihoods.policy.shape, generator=generator, dtype=likelihoods.policy.dtype)
    errors = errors - errors.mean(dim=0)
    reference = likelihoods.reference.expand(draws, *likelihoods.policy.shape)
    return likelihoods._replace(policy=likelihoods.policy + errors, reference=reference)
