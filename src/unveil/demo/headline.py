"""The few lines that say how a run went: for the terminal, the report and the model card."""

from dataclasses import dataclass

from unveil.demo.results import Results

NELBO_LIMIT = 0.01
LENGTH_LIMIT = 0.15


@dataclass(frozen=True)
class Finding:
    """One measure: its value in words, how to read it, and whether the bar set for it is reached (None: no bar)."""

    measure: str
    value: str
    reading: str
    holds: bool | None


def headline(results: Results, shuffled: bool) -> list[Finding]:
    """The findings in the order of their weight."""
    low, high = results.interval
    null_low, null_high = results.null_interval
    film, product = results.nelbo["film"], results.nelbo["product"]
    wanted = "control with shuffled thumbs: near 0.5" if shuffled else "above 0.5 if people's taste was learned"
    findings = [
        Finding(
            "win rate, aligned against base",
            f"{results.adjusted_win_rate:.3f}  [{low:.3f}, {high:.3f}]",
            f"{wanted}; {results.n} held-out prompts, ties count half",
            None if shuffled else low > 0.5,
        ),
        Finding(
            "win rate, base against itself",
            f"{results.null_win_rate:.3f}  [{null_low:.3f}, {null_high:.3f}]",
            "near 0.5: what chance does to the line above",
            null_low <= 0.5 <= null_high,
        ),
        Finding(
            "NELBO of product reviews",
            _relative(product.change, product.standard_error),
            f"forgetting, on text that got no feedback: at most +{NELBO_LIMIT:.0%}",
            results.nelbo_change <= NELBO_LIMIT,
        ),
        Finding(
            "NELBO of held-out film reviews",
            _relative(film.change, film.standard_error),
            "the same on the domain that got feedback, liked and disliked texts together",
            None,
        ),
        Finding(
            "length of answers",
            f"{results.mean_length['base']:.1f} → {results.mean_length['aligned']:.1f} tokens",
            f"should stay within {LENGTH_LIMIT:.0%}",
            abs(results.length_ratio - 1) <= LENGTH_LIMIT,
        ),
        Finding(
            "distinct word pairs",
            f"{results.distinct_bigrams['base']:.3f} → {results.distinct_bigrams['aligned']:.3f}",
            "falls when a model repeats itself",
            None,
        ),
        Finding(
            "reward of liked and disliked texts",
            f"{_signed(results.reward_up)} and {_signed(results.reward_down)} nats",
            "held-out reviews: how their log-likelihood moved",
            None,
        ),
        Finding(
            "liked text ranked first",
            f"{results.auc:.3f}",
            "by that reward (area under the curve): 0.5 is chance",
            None,
        ),
    ]
    if results.length_controlled_win_rate is not None and results.length_controlled_interval is not None:
        low, high = results.length_controlled_interval
        value = f"{results.length_controlled_win_rate:.3f}  [{low:.3f}, {high:.3f}]"
        findings.insert(
            1, Finding("the same at equal lengths", value, "without what longer answers gain or lose", None)
        )
    return findings


def _relative(change: float, standard_error: float) -> str:
    return f"{_signed(100 * change)} % ± {196 * standard_error:.2f}"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
