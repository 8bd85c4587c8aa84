"""Pairs of answers from the human ratings of the demo's film reviews, and pairs made worse on purpose.

Two answers to one prompt were never rated side by side: a prompt of the demo (`film:` and three words) begins 3,645 of
the 3,925 feedback reviews once only. A pair here is a liked review (mean rating above +1.5) and a disliked one (below
-1.5), hence at least 3 rating points apart, and its prompt is what both begin with: `film:` and as many words as they
share, at most three. Reviews that share three words are joined first, then those that share two, one, none (prompt
`film:` alone). Every review is in one pair at most, so that pairs are independent and no text is both liked and
disliked.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from datasets import Dataset

from unveil.demo.order import in_hash_order
from unveil.demo.reviews import Review, select
from unveil.demo.text import PROMPT_WORDS, tag


@dataclass(frozen=True)
class ReviewPair:
    """A prompt, the review that people liked and the one that they disliked, with their mean ratings."""

    prompt: str
    chosen: str
    rejected: str
    ratings: tuple[float, float]

    def swapped(self) -> "ReviewPair":
        """The same pair with the wrong preference."""
        return replace(self, chosen=self.rejected, rejected=self.chosen, ratings=self.ratings[::-1])


def review_pairs(split: str, serves: Callable[[Review], bool] = lambda _: True) -> list[ReviewPair]:
    """All pairs of a split of the film reviews (`feedback`, `tuning` or `report`), in a fixed order without meaning.

    Reviews that do not serve are left out before pairs are made.
    """
    rated = [r for r in in_hash_order(select("film", split), lambda review: review.text) if serves(r)]
    return joined([r for r in rated if r.thumb is True], [r for r in rated if r.thumb is False])


def joined(liked: Sequence[Review], disliked: Sequence[Review]) -> list[ReviewPair]:
    """Each review in one pair at most, those that share most words at their start first."""
    pairs, left_up, left_down = [], list(liked), list(disliked)
    for shared in range(PROMPT_WORDS, -1, -1):
        waiting: dict[str, list[Review]] = {}
        for review in left_down:
            waiting.setdefault(start(review, shared), []).append(review)
        unpaired = []
        for review in left_up:
            partners = waiting.get(start(review, shared))
            if partners:
                pairs.append(to_pair(review, partners.pop(0), shared))
            else:
                unpaired.append(review)
        left_up, left_down = unpaired, [review for partners in waiting.values() for review in partners]
    return in_hash_order(pairs, lambda pair: pair.prompt + pair.chosen + pair.rejected)


def start(review: Review, words: int) -> str:
    """The first words of a review."""
    return " ".join(review.text.split(" ")[:words])


def to_pair(liked: Review, disliked: Review, shared: int) -> ReviewPair:
    """The prompt is the tag and the shared words; answers begin with a space, as everywhere in the demo."""
    rest = [" " + " ".join(review.text.split(" ")[shared:]) for review in (liked, disliked)]
    prompt = " ".join([tag("film"), start(liked, shared)]).strip()
    return ReviewPair(prompt, rest[0], rest[1], (liked.rating, disliked.rating))


def flipped(pairs: Sequence[ReviewPair], rate: float, seed: int) -> list[ReviewPair]:
    """A share of the pairs with the wrong preference. With one seed, a higher rate flips the same pairs and more."""
    wrong = set(np.random.default_rng(seed).permutation(len(pairs))[: round(rate * len(pairs))].tolist())
    return [pair.swapped() if i in wrong else pair for i, pair in enumerate(pairs)]


def length_biased(pairs: Sequence[ReviewPair], lengths: Sequence[tuple[int, int]], share: float) -> list[ReviewPair]:
    """As many pairs as there are such that in `share` of them the chosen answer is the longer one.

    `lengths` are the tokens of (chosen, rejected). Pairs of equal lengths are left out.
    """
    longer = [pair for pair, (a, b) in zip(pairs, lengths, strict=True) if a > b]
    shorter = [pair for pair, (a, b) in zip(pairs, lengths, strict=True) if a < b]
    total = min(len(longer) / share, len(shorter) / (1 - share) if share < 1 else np.inf)
    kept = {id(pair) for pair in longer[: round(share * total)] + shorter[: round((1 - share) * total)]}
    return [pair for pair in pairs if id(pair) in kept]


def as_dataset(pairs: Iterable[ReviewPair]) -> Dataset:
    """Columns prompt, chosen, rejected."""
    return Dataset.from_list([{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs])
