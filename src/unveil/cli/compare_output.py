"""What `unveil compare` prints and writes: table, `compare.json`, JSON lines, figure, page to read."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

from rich.table import Table

from unveil.cli.compare_page import disagreement_page, win_rate_figure
from unveil.cli.output import write_rows
from unveil.errors import warn_user
from unveil.files import write_bytes, write_json, write_text
from unveil.generation import GenerationConfig
from unveil.judging import (
    Comparison,
    JudgeAgreement,
    Judgement,
    SelfConsistency,
    Unread,
    Verdict,
    benjamini_hochberg,
    comparison_or_unread,
    holm,
    judge_agreement,
    judge_answers,
    self_consistency,
)
from unveil.judging.panel import Panel
from unveil.judging.usage import Usage
from unveil.terminal import PlainConsole, say
from unveil.training import versions

ROWS, NULL_ROWS, REPEATED_ROWS = "comparisons.jsonl", "null_comparisons.jsonl", "repeated_comparisons.jsonl"
SUMMARY, FIGURE, PAGE = "compare.json", "win_rates.png", "disagreements.html"
WRITTEN = (ROWS, NULL_ROWS, REPEATED_ROWS, SUMMARY, FIGURE, PAGE)
_UNREAD_WITHOUT_A_WARNING = 0.25


@dataclass
class Compared:
    """Everything that was asked and said: judgements of A against B, and of B against itself, judge by judge.

    origins: row and seed of each comparison. repeats: by the number of the judge, what it said when asked again.
    """

    names: dict[str, str]
    source: str
    configs: Sequence[GenerationConfig]
    max_samples: int | None
    origins: list[dict[str, int]]
    judgements: list[Judgement] = field(default_factory=list)
    nulls: list[Judgement] = field(default_factory=list)
    repeats: dict[int, list[Judgement]] = field(default_factory=dict)
    vote: str = "majority"

    @cached_property
    def comparisons(self) -> list[Comparison | Unread]:
        """A against B, by each judge."""
        return [comparison_or_unread(judgement) for judgement in self.judgements]

    @cached_property
    def null_comparisons(self) -> list[Comparison | Unread]:
        """B against itself, by each judge; empty if that was not asked."""
        return [comparison_or_unread(judgement) for judgement in self.nulls]

    @cached_property
    def panel(self) -> Comparison | Unread | None:
        """The judges' vote on every pair, if there are several; nobody is asked again."""
        if len(self.judgements) < 2:
            return None
        first = self.judgements[0]
        vote: Any = self.vote
        panel = Panel([_Said(judgement.judge, judgement.verdicts) for judgement in self.judgements], vote)
        found = judge_answers(panel, first.prompts, first.answers_a, first.answers_b)
        return replace(comparison_or_unread(found), judge=f"panel ({self.vote})", usage=None)

    @property
    def against(self) -> list[Comparison | Unread]:
        """A against B, by each judge and by their vote."""
        return [*self.comparisons, *([self.panel] if self.panel else [])]

    @property
    def known(self) -> list[Comparison]:
        """A against B by the judges of which a verdict could be read."""
        return [result for result in self.comparisons if isinstance(result, Comparison)]

    def require_a_win_rate(self) -> None:
        """Raises UserError if no judge gave any verdict that could be read."""
        if not self.known:
            raise next(result.error() for result in self.comparisons if isinstance(result, Unread))

    def usage(self, number: int) -> Usage | None:
        """All that a judge has spent, repeats included."""
        last = (self.nulls or self.judgements)[number].usage  # counts from the start
        again = [repeat.usage for repeat in self.repeats.get(number, []) if repeat.usage is not None]
        if last is None or (again and again[-1] is last):
            return last
        return reduce(lambda one, other: one + other, again, last)

    @cached_property
    def agreement(self) -> JudgeAgreement | None:
        """Between the judges, if there are several."""
        if len(self.judgements) < 2:
            return None
        return judge_agreement({j.judge: j.verdicts for j in self.judgements}, self.judgements[0].prompts)

    @cached_property
    def consistency(self) -> dict[int, SelfConsistency | None]:
        """Of each judge with itself, by its number, if it was asked several times."""
        return {
            number: self_consistency(
                [self.judgements[number].verdicts, *(again.verdicts for again in repeats)],
                self.judgements[number].prompts,
            )
            for number, repeats in self.repeats.items()
        }


@dataclass(frozen=True)
class _Said:
    """A judge that repeats what was said."""

    name: str
    verdicts: list[Verdict]
    symmetric: bool = True

    def compare(self, prompts: Sequence[str], answers_a: Sequence[str], answers_b: Sequence[str]) -> list[Verdict]:
        return self.verdicts


def print_results(compared: Compared) -> None:
    """One line for each model, one row for each comparison, and what judges are worth."""
    for side, name in compared.names.items():
        say(f"{side}: {name}")
    table = Table(
        "", "judge", "win rate", "95 % interval", "p (sign)", "equal length", "win/tie/loss", "unread", "words A / B"
    )
    for title, results in (("A against B", compared.against), ("B against B", compared.null_comparisons)):
        for result in results:
            words = f"{result.mean_length_a:.1f} / {result.mean_length_b:.1f}"
            table.add_row(title, result.judge, *_cells(result), str(result.unparsed), words)
    PlainConsole(width=140).print(table)
    say(*_lines(compared))
    _warn_of_unread(compared)


def _cells(result: Comparison | Unread) -> list[str]:
    if isinstance(result, Unread):
        return ["not known", "", "", "", ""]
    rate, control = result.win_rate, result.length_controlled
    return [
        f"{rate.rate:.3f}",
        f"{rate.low:.3f} to {rate.high:.3f}",
        f"{result.sign.p_value:.2g}",
        f"{control.rate:.3f} ({control.low:.2f} to {control.high:.2f})",
        f"{rate.wins}/{rate.ties}/{rate.losses}",
    ]


def _warn_of_unread(compared: Compared) -> None:
    """What a judge leaves unread is no random part of the pairs."""
    for result in compared.known:
        if result.unparsed > _UNREAD_WITHOUT_A_WARNING * result.asked:
            warn_user(
                f"judge {result.judge}: {result.unparsed} of {result.asked} verdicts could not be read; its win rate "
                "speaks of the others only, so try another template or judge"
            )


def _lines(compared: Compared) -> list[str]:
    lines = [result.describe() for result in compared.comparisons]
    for first in compared.known[:1]:
        difference, n = first.minimum_detectable_difference, first.win_rate.n
        if difference is None:
            few = "1 prompt is" if n == 1 else f"{n} prompts are"
            lines.append(f"{few} too few to show any difference with probability 0.8")
        else:
            lines.append(f"{n} prompts show a win rate {difference:.3f} or more away from 0.5 with probability 0.8")
    if compared.agreement:
        for pair in compared.agreement.pairs:
            lines.append(f"{pair.judges[0]} and {pair.judges[1]}: kappa {_value(asdict(pair.kappa))}")
        lines.append(f"all judges: Krippendorff's alpha {_value(asdict(compared.agreement.alpha))}")
    for number, found in compared.consistency.items():
        if found:
            lines.append(
                f"{compared.judgements[number].judge}: agrees with itself with probability {found.rate:.3f} "
                f"({found.low:.3f} to {found.high:.3f}, asked {found.repeats} times), "
                f"alpha {_value(asdict(found.alpha))}"
            )
    for judgement in compared.judgements:
        if layers := judgement.facts.get("sandbox"):
            lines.append(f"{judgement.judge}: programs were held by {', '.join(layers)}")
    for number, judgement in enumerate(compared.judgements):
        if usage := compared.usage(number):
            lines.append(f"{judgement.judge}: {usage.describe()}")
    return lines


def _value(agreement: dict[str, Any]) -> str:
    if agreement["value"] is None:
        return f"undefined on {agreement['n']} pairs (only one verdict was ever given, or none by two judges)"
    text = f"{agreement['value']:.3f}"
    if agreement["low"] is None:
        text += " (interval not known)"
    else:
        text += f" ({agreement['low']:.3f} to {agreement['high']:.3f})"
    return f"{text}, equal on {agreement['observed']:.1%} of {agreement['n']} pairs"


def write_verdicts(folder: Path, compared: Compared) -> None:
    """The JSON lines of all judges that have judged so far."""
    repeats = [again for given in compared.repeats.values() for again in given]
    for name, judgements in ((ROWS, compared.judgements), (NULL_ROWS, compared.nulls), (REPEATED_ROWS, repeats)):
        (folder / name).unlink(missing_ok=True)
        if judgements:
            write_rows(
                folder / name,
                (row | origin for judgement in judgements for row, origin in zip(judgement.rows(), compared.origins)),
            )


def write_results(folder: Path, compared: Compared) -> None:
    """`compare.json` with everything that made the numbers, the figure, and the page to read disagreements."""
    write_json(folder / SUMMARY, _summary(compared))
    figure = win_rate_figure(compared.against, compared.null_comparisons)
    if figure is None:
        (folder / FIGURE).unlink(missing_ok=True)  # an earlier one would be of other verdicts
    else:
        write_bytes(folder / FIGURE, figure)
    page = disagreement_page(compared.names, compared.judgements, compared.against, figure)
    write_text(folder / PAGE, page)


def _summary(compared: Compared) -> dict[str, Any]:
    first = compared.comparisons[0]
    nulls: list[Comparison | Unread | None] = [*compared.null_comparisons] or [None] * len(compared.comparisons)
    p_values = [result.sign.p_value for result in compared.known]
    by_judge = {
        result.judge: both for result, *both in zip(compared.known, holm(p_values), benjamini_hochberg(p_values))
    }
    return {
        "model": compared.names["A"],
        "against": compared.names["B"],
        "data": compared.source,
        "judge": first.judge,
        "results": {
            **_first_numbers(first),
            "null_win_rate": nulls[0].win_rate.rate if isinstance(nulls[0], Comparison) else None,
            "length_ratio": first.length_ratio,
            "unparsed": first.unparsed,
        },
        "comparison": first.summary(),
        "null": nulls[0].summary() if nulls[0] else None,
        "judges": [
            {
                "judge": result.judge,
                "comparison": result.summary(),
                "null": null.summary() if null else None,
                "p_value_holm": adjusted[0],
                "p_value_benjamini_hochberg": adjusted[1],
                "facts": compared.judgements[number].facts,
                "usage": asdict(usage) if (usage := compared.usage(number)) else None,
                "self_consistency": asdict(consistent) if (consistent := compared.consistency.get(number)) else None,
            }
            for number, (result, null) in enumerate(zip(compared.comparisons, nulls))
            for adjusted in [by_judge.get(result.judge, [None, None])]
        ],
        "panel": compared.panel.summary() if compared.panel else None,
        "agreement": _agreement(compared),
        "generation": asdict(compared.configs[0]) | {"num_samples": len(compared.configs)},
        "max_samples": compared.max_samples,
        "versions": versions(),
    }


def _first_numbers(first: Comparison | Unread) -> dict[str, Any]:
    """Of the first judge, null where they are not known."""
    known = first if isinstance(first, Comparison) else None
    return {
        "adjusted_win_rate": known and known.win_rate.rate,
        "interval": known and [known.win_rate.low, known.win_rate.high],
        "p_value": known and known.sign.p_value,
        "length_controlled_win_rate": known and known.length_controlled.rate,
        "minimum_detectable_difference": known and known.minimum_detectable_difference,
    }


def _agreement(compared: Compared) -> dict[str, Any] | None:
    if compared.agreement is None:
        return None
    names = [result.judge for result in compared.comparisons]
    return asdict(compared.agreement) | {"kappa_matrix": compared.agreement.matrix(names)}
