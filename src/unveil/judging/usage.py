"""What judging has cost: requests, answers taken from the cache, tokens and money."""

import threading
from dataclasses import dataclass, field, replace

from unveil.errors import UserError


@dataclass
class Usage:
    """Counts of one run; what came from the cache was paid in an earlier one.

    requests: everything sent, failed attempts too. cached: answers that needed no request. cost: in the currency of
    the prices, None without prices. uncounted: answers whose tokens the endpoint did not tell; the cost of those is
    missing.
    """

    requests: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    uncounted: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        costs = [cost for cost in (self.cost, other.cost) if cost is not None]
        return Usage(
            self.requests + other.requests,
            self.cached + other.cached,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            sum(costs) if costs else None,
            self.uncounted + other.uncounted,
        )

    def describe(self) -> str:
        """One line for people."""
        line = (
            f"{self.requests} requests, {self.cached} from the cache, "
            f"{self.prompt_tokens} tokens read and {self.completion_tokens} written"
        )
        if self.cost is not None:
            line += f", cost {'at least ' if self.uncounted else ''}{self.cost:.4f}"
        return f"{line}; {self.uncounted} answers came without token counts" if self.uncounted else line


@dataclass(frozen=True)
class Prices:
    """Per million tokens, in any currency."""

    read: float
    written: float

    def __post_init__(self) -> None:
        if not (self.read >= 0 and self.written >= 0):
            raise UserError(f"prices {self.read} and {self.written}: give 0 or more per million tokens")


@dataclass
class Meter:
    """Counts usage from several threads."""

    prices: Prices | None = None
    _usage: Usage = field(default_factory=Usage)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def sent(self) -> None:
        """A request left."""
        with self._lock:
            self._usage.requests += 1

    def taken(self) -> None:
        """An answer came from the cache."""
        with self._lock:
            self._usage.cached += 1

    def answered(self, prompt_tokens: int | None, completion_tokens: int | None) -> None:
        """An answer arrived, with its token counts as far as the endpoint tells them."""
        with self._lock:
            self._usage.prompt_tokens += prompt_tokens or 0
            self._usage.completion_tokens += completion_tokens or 0
            self._usage.uncounted += prompt_tokens is None or completion_tokens is None

    @property
    def usage(self) -> Usage:
        """A copy of the counts, with the cost."""
        with self._lock:
            cost = None
            if self.prices:
                spent = self._usage.prompt_tokens * self.prices.read
                cost = (spent + self._usage.completion_tokens * self.prices.written) / 1e6
            return replace(self._usage, cost=cost)
