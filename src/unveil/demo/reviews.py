"""Real human ratings of short reviews: 10,604 film and 3,707 product snippets (Hutto & Gilbert, ICWSM 2014).

Each snippet has the mean of about twenty ratings in [-4, 4]. A thumb is that mean cut at +-1.5. Who may see what is
decided by the hash of the normalised text, so the same text can never be on two sides:

    film      40 % feedback (thumbs to train on) | 40 % judge (ratings for the judge only) | 10 % tuning | 10 % report
    product   80 % train (text only)             | 20 % heldout (text only); the product domain never gets feedback

A snippet of a training split that shares eight consecutive words with a held-out one (other excerpts of the same
review; eight of them) is left out. `assets/NOTICE.md` says where the texts come from and whose they are.
"""

import csv
import gzip
import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from unveil.demo.text import MIN_WORDS, as_row, normalise, runs, words

# Below it the raters were of two minds: in the tuning runs lower thresholds gave more thumbs and taught less.
THUMB_THRESHOLD = 1.5
SPLITS = {
    "film": (("feedback", 0.4), ("judge", 0.8), ("tuning", 0.9), ("report", 1.0)),
    "product": (("train", 0.8), ("heldout", 1.0)),
}
HELDOUT = ("tuning", "report", "heldout")


@dataclass(frozen=True)
class Review:
    """One snippet: normalised text, mean human rating in [-4, 4], and the split that the text's hash puts it in."""

    domain: str
    source_id: str
    rating: float
    text: str
    split: str

    @property
    def thumb(self) -> bool | None:
        """True above +1.5, False below -1.5, None in between: no feedback."""
        if abs(self.rating) <= THUMB_THRESHOLD:
            return None
        return self.rating > 0


def split_of(domain: str, text: str) -> str:
    """The split of a normalised text: its sha256 as a number in [0, 1) against the domain's shares."""
    fraction = int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big") / 2**64
    return next(name for name, upper in SPLITS[domain] if fraction < upper)


@cache
def reviews() -> tuple[Review, ...]:
    """All snippets of six words or more, in file order; of equal texts (across both domains) the first is kept."""
    packed = resources.files("unveil.demo").joinpath("assets/reviews.csv.gz").read_bytes()
    table = csv.DictReader(io.StringIO(gzip.decompress(packed).decode("utf-8")))
    kept: dict[str, Review] = {}
    for row in table:
        text = normalise(row["text"])
        if len(words(text)) < MIN_WORDS or len(text.split()) < MIN_WORDS or text in kept:
            continue
        split = split_of(row["domain"], text)
        kept[text] = Review(row["domain"], row["id"], float(row["rating"]), text, split)
    heldout = heldout_runs(kept.values())
    return tuple(r for r in kept.values() if r.split in HELDOUT or heldout.isdisjoint(runs(r.text)))


def heldout_runs(snippets: Iterable[Review]) -> set[tuple[str, ...]]:
    """Every run of eight words in the held-out snippets, for leaving copies out of what is trained on."""
    return {run for review in snippets if review.split in HELDOUT for run in runs(review.text)}


def select(domain: str, *splits: str) -> list[Review]:
    """The reviews of one domain in the named splits."""
    return [review for review in reviews() if review.domain == domain and review.split in splits]


def feedback_rows(split: str = "feedback") -> list[dict[str, Any]]:
    """prompt, completion, label of the film snippets with a thumb.

    Train on `"feedback"` only; `"tuning"` and `"report"` give held-out thumbs, for the accuracy of implicit rewards.
    """
    rated = [review for review in select("film", split) if review.thumb is not None]
    return [{**as_row("film", review.text), "label": review.thumb} for review in rated]


def prompts(split: str) -> list[str]:
    """The prompts (tag and three words) of the film snippets of `"tuning"` or `"report"`, each once.

    A prompt that any film snippet outside `split` also begins with is left out, so that nothing was ever trained
    or tuned on it.
    """
    elsewhere = {as_row("film", r.text)["prompt"] for r in reviews() if r.domain == "film" and r.split != split}
    own = dict.fromkeys(as_row("film", review.text)["prompt"] for review in select("film", split))
    return [prompt for prompt in own if prompt not in elsewhere]


def heldout_text(part: str) -> list[dict[str, str]]:
    """prompt, completion of texts no training saw: `"tuning"`, `"report"` (film) or `"product"`."""
    domain, split = ("product", "heldout") if part == "product" else ("film", part)
    return [as_row(domain, review.text) for review in select(domain, split)]


def replay_rows() -> list[dict[str, str]]:
    """prompt, completion of the rated snippets that the base was trained on, without labels: for replay."""
    seen = [*select("film", "feedback", "judge"), *select("product", "train")]
    return [as_row(review.domain, review.text) for review in seen]


def shuffled_thumbs(rows: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """The same rows with their labels permuted: the control that keeps everything but the meaning of the thumbs."""
    order = np.random.default_rng(seed).permutation(len(rows))
    return [{**row, "label": rows[other]["label"]} for row, other in zip(rows, order)]
