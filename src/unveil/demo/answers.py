"""What a model answers to the held-out prompts."""

from dataclasses import dataclass

from unveil.demo.base import Base
from unveil.demo.progress import Advance
from unveil.demo.recipe import Recipe
from unveil.generation import generate
from unveil.models import Denoiser

_CHUNK = 80


@dataclass(frozen=True)
class Answers:
    """One answer per prompt: text (with its leading space) and length in tokens."""

    texts: list[str]
    lengths: list[int]

    @property
    def mean_length(self) -> float:
        """Tokens per answer, without the end-of-text token."""
        return sum(self.lengths) / len(self.lengths)

    @property
    def distinct_bigrams(self) -> float:
        """Share of different word pairs among all: falls when a model repeats itself across prompts."""
        pairs = [pair for text in self.texts for pair in zip(text.split(), text.split()[1:])]
        return len(set(pairs)) / max(1, len(pairs))


def sample(denoiser: Denoiser, base: Base, prompts: list[str], recipe: Recipe, seed: int, advance: Advance) -> Answers:
    """Sampled answers; a function of the model, the prompts, the recipe and the seed."""
    tokenizer = base.tokenizer
    ids = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    found: list[list[int]] = []
    for start in range(0, len(ids), _CHUNK):
        part = ids[start : start + _CHUNK]
        config = recipe.generation(seed)
        indices = range(start, start + len(part))
        found += generate(denoiser, part, config, tokenizer.eos_token_id, indices=indices)  # type: ignore[arg-type]
        advance(len(part))
    texts = [str(tokenizer.decode(answer, skip_special_tokens=True)) for answer in found]
    return Answers(texts, [len(answer) for answer in found])
