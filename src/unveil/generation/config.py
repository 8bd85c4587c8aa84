"""How an answer is drawn: the options of LLaDA's sampler (arXiv 2502.09992, section 2.4) and of Fast-dLLM (2505.22618).

An answer is a canvas of `gen_length` masks behind the prompt, filled block by block from left to right. Each step
commits some tokens of the block for good: on a fixed schedule of `steps / num_blocks` steps per block, or all those
that the model is sure of (`confidence_threshold`, `confidence_factor`).
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from unveil.errors import UserError

Remasking = Literal["low_confidence", "random", "entropy", "margin"]
EosRule = Literal["free", "late", "never"]
Cache = Literal["none", "prefix", "dual"]


@dataclass(frozen=True)
class GenerationConfig:
    """Options of `generate`. Impossible combinations raise a `UserError` that names the flag.

    gen_length: tokens on the canvas; an answer is at most that long.
    steps: forwards in all, a multiple of the number of blocks, at most `gen_length`; None = one per token.
    block_length: tokens per block, a divisor of `gen_length`; None = one block (pure diffusion sampling).
    temperature: 0 takes the most likely token; otherwise tokens follow softmax(logits / temperature).
    top_p: below 1, tokens come from the nucleus: the smallest set of most likely tokens whose probability (after
        the temperature) reaches `top_p`. No effect at temperature 0.
    remasking: which positions a step commits. All but "random" commit the surest first, where being sure is a number
        from 0 to 1 that temperature and nucleus leave alone: "low_confidence" = the probability of the drawn token;
        "margin" = that of the likeliest token minus that of the next; "entropy" = exp(-entropy), one over the number
        of tokens that the model hesitates between. "random" = a uniformly random order (the process whose likelihood
        the ELBO bounds), which needs logits only at the chosen positions and is several times cheaper.
    cfg_scale: w of classifier-free guidance, logits = un + (w + 1)(cond - un), where `un` sees the prompt as masks;
        0 = off, and costs no second forward.
    eos_rule: "free" = end tokens are ordinary; "late" = a position that predicts an end token is committed after all
        others of its block; "never" = end tokens cannot be predicted.
    seed: together with the index of a prompt it fixes all randomness of that prompt's answer.
    top_k: tokens come from the `top_k` most likely ones, before `top_p`. No effect at temperature 0; None = all.
    confidence_threshold: a step commits every position of the block whose number (see `remasking`) is above this, and
        the surest in any case (Fast-dLLM). It decides how many steps there are, so `steps` stays None.
    confidence_factor: the same with a bar that rises with the number of tokens committed at once: the n surest, for
        the largest n with (n + 1)(1 - confidence of the n-th) < factor (Fast-dLLM), and at least one.
    cache: keys and values that steps inside a block do not compute again (Fast-dLLM; an approximation). "prefix" =
        those of everything before the block; "dual" = those of everything outside it. All are computed anew by the
        first step of each block.
    cache_interval: they are computed anew every so many steps inside a block too; 1 = always, which is exact.
    early_exit: an answer whose end is settled (an end token, and nothing masked before it) leaves the batch. Answers
        are the same either way, up to the rounding of the model's arithmetic; False keeps canvases whole.
    """

    gen_length: int = 128
    steps: int | None = None
    block_length: int | None = 32
    temperature: float = 0.0
    top_p: float = 1.0
    remasking: Remasking = "low_confidence"
    cfg_scale: float = 0.0
    eos_rule: EosRule = "free"
    seed: int = 0
    top_k: int | None = None
    confidence_threshold: float | None = None
    confidence_factor: float | None = None
    cache: Cache = "none"
    cache_interval: int | None = None
    early_exit: bool = True

    def __post_init__(self) -> None:
        _require_count("gen_length", self.gen_length)
        if self.block_length is not None:
            _require_count("block_length", self.block_length)
            if self.gen_length % self.block_length:
                raise UserError(
                    f"--block_length {self.block_length}: does not divide --gen_length {self.gen_length}; "
                    "give a divisor, --gen_length itself for a single block"
                )
        if self.steps is not None:
            self._check_steps(self.steps)
        _require_number("temperature", self.temperature, self.temperature >= 0, "0 or more")
        _require_number("top_p", self.top_p, 0 < self.top_p <= 1, "more than 0 and at most 1")
        _require_number("cfg_scale", self.cfg_scale, self.cfg_scale >= 0, "0 or more")
        _require_choice("remasking", self.remasking, get_args(Remasking))
        _require_choice("eos_rule", self.eos_rule, get_args(EosRule))
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**63:
            raise UserError(f"--seed {self.seed}: not a seed; give a whole number from 0 to 2^63 - 1")
        if self.top_k is not None:
            _require_count("top_k", self.top_k)
        self._check_confidence()
        _require_choice("cache", self.cache, get_args(Cache))
        if self.cache_interval is not None:
            _require_count("cache_interval", self.cache_interval)
            if self.cache == "none":
                raise UserError(f"--cache_interval {self.cache_interval}: nothing is kept; give --cache prefix or dual")

    def _check_confidence(self) -> None:
        threshold, factor = self.confidence_threshold, self.confidence_factor
        if threshold is not None:
            _require_number("confidence_threshold", threshold, 0 <= threshold <= 1, "from 0 to 1")
        if factor is not None:
            _require_number("confidence_factor", factor, factor > 0, "more than 0")
        if threshold is not None and factor is not None:
            raise UserError(f"--confidence_factor {factor}: and --confidence_threshold {threshold}; give one of them")
        if not self.by_confidence:
            return
        flag = f"--confidence_threshold {threshold}" if factor is None else f"--confidence_factor {factor}"
        if self.steps is not None:
            raise UserError(f"--steps {self.steps}: {flag} decides how many steps there are; give one of them")
        if self.remasking == "random":
            raise UserError(f"{flag}: --remasking random does not ask how sure the model is; give another --remasking")

    def _check_steps(self, steps: int) -> None:
        _require_count("steps", steps)
        if steps > self.gen_length:
            raise UserError(
                f"--steps {steps}: more steps than the {self.gen_length} tokens of --gen_length, some would commit "
                f"nothing; give at most {self.gen_length}"
            )
        if steps % self.num_blocks:
            raise UserError(
                f"--steps {steps}: does not divide into the {self.num_blocks} blocks of --gen_length "
                f"{self.gen_length} and --block_length {self.block_length}; give a multiple of {self.num_blocks}"
            )

    @property
    def by_confidence(self) -> bool:
        """Whether confidence decides how many tokens a step commits, instead of a schedule."""
        return self.confidence_threshold is not None or self.confidence_factor is not None

    @property
    def block_size(self) -> int:
        """Tokens per block."""
        return self.gen_length // self.num_blocks

    @property
    def num_blocks(self) -> int:
        """How many blocks the canvas is cut into."""
        return 1 if self.block_length is None else self.gen_length // self.block_length

    @property
    def num_steps(self) -> int:
        """Steps in all; where confidence decides, at most so many."""
        return self.gen_length if self.steps is None else self.steps

    @property
    def commits_per_step(self) -> list[int]:
        """Tokens committed by each step of one block: floor(block / steps), the remainder to the first steps."""
        steps = self.num_steps // self.num_blocks
        share, remainder = divmod(self.gen_length // self.num_blocks, steps)
        return [share + (step < remainder) for step in range(steps)]

    def refreshes(self, step: int) -> bool:
        """Whether step number `step` of a block computes all keys and values anew."""
        return self.cache == "none" or step % (self.cache_interval or self.block_size) == 0


def _require_count(flag: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"--{flag} {value}: not a count; give a whole number of at least 1")


def _require_number(flag: str, value: float, in_range: bool, allowed: str) -> None:
    if not (in_range and math.isfinite(value)):
        raise UserError(f"--{flag} {value}: out of range; give a number that is {allowed}")


def _require_choice(flag: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"--{flag} {value}: not one of the choices; give {' or '.join(choices)}")
