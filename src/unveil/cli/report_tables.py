"""Tables of `unveil report`: what several runs reached, how far likelihoods moved, what it cost."""

import re

from unveil.cli.run_records import RunRate, RunRecord
from unveil.judging import holm
from unveil.report import Table

UNKNOWN = "–"
# Objectives whose implicit reward is beta times the margin, as run.json describes them.
_MARGIN_TIMES_BETA = re.compile(
    r"(?:\bKTO\(beta=|\bLogRatio\(beta=(?=[^,()]+, divergence=ReverseKL\(\), per_token=False))([0-9.e+-]+)"
)


def rate_table(runs: list[RunRecord]) -> Table:
    """A row per run and judge; p-values by Holm's rule over all of them."""
    found = [(run, rate) for run in runs for rate in run.rates]
    tested = [rate.p_value for _, rate in found if rate.p_value is not None]
    adjusted = iter(holm(tested))
    rows = []
    for run, rate in found:
        p_value = UNKNOWN if rate.p_value is None else f"{p_text(rate.p_value)} → {p_text(next(adjusted))}"
        rows.append(
            (
                run.row_of(rate),
                interval((rate.rate, rate.low, rate.high)),
                rate.judge,
                p_value,
                interval(rate.equal_length),
                "/".join(map(str, rate.counts)) + (f", {rate.unparsed} unread" if rate.unparsed else ""),
                interval(rate.null),
            )
        )
    head = ["run", "win rate", "judge", "p → Holm", "at equal length", "win/tie/loss", "null row"]
    return Table(head, rows)


def displacement(run: RunRecord) -> tuple[float, float, str] | None:
    """Mean margin r = B_policy - B_reference of liked and disliked answers at the end, nats, and of which answers."""
    results = run.record.get("results") or {}
    if "reward_up" in results and "reward_down" in results:
        return float(results["reward_up"]), float(results["reward_down"]), "held-out texts"
    beta = beta_of(run)
    if beta is None:
        return None
    for logs, where in ((run.held_out, "held-out answers"), (run.training, "last training log")):
        both = [log for log in logs if "rewards/chosen" in log and "rewards/rejected" in log]
        if both:
            return both[-1]["rewards/chosen"] / beta, both[-1]["rewards/rejected"] / beta, where
    return None


def beta_of(run: RunRecord) -> float | None:
    """What rewards are divided by to be margins in nats; None where they are no multiples of margins."""
    if "objective" not in run.record:  # the demo's is always KTO
        beta = run.arguments.get("beta")
        return float(beta) if beta and "adjusted_win_rate" in (run.record.get("results") or {}) else None
    found = set(_MARGIN_TIMES_BETA.findall(str(run.record["objective"])))
    return float(found.pop()) if len(found) == 1 and run.record.get("reference") is not None else None


def displacement_table(runs: list[RunRecord]) -> Table:
    """Where the likelihood of liked and of disliked answers went."""
    rows = []
    for run in runs:
        found = displacement(run)
        moved = [_change(run, f"logps/{kind}") for kind in ("chosen", "rejected")]
        rows.append(
            (
                run.name,
                f"{signed(found[0])} / {signed(found[1])}" if found else UNKNOWN,
                _words(found),
                f"{found[2]}" if found else UNKNOWN,
                " / ".join(UNKNOWN if value is None else signed(value) for value in moved),
            )
        )
    return Table(["run", "margin up / down, nats", "what moved", "measured on", "logps in training, up / down"], rows)


def cost_table(runs: list[RunRecord]) -> Table:
    """Seconds, tokens, operations and forward passes, as far as they were logged; lengths of answers."""
    rows = []
    for run in runs:
        lengths = run.lengths
        rows.append(
            (
                run.name,
                _number(seconds(run), "{:,.0f} s"),
                _number(run.last("num_tokens"), "{:,.0f}"),
                _number(run.last("total_flos"), "{:.2e}"),
                _number(run.last("num_forwards"), "{:,.0f}"),
                f"{lengths.own:.1f} / {lengths.other:.1f} {lengths.unit}" if lengths else UNKNOWN,
            )
        )
    return Table(["run", "wall time", "tokens read", "FLOP", "forwards", "answer length, own / other"], rows)


def missing(run: RunRecord) -> list[str]:
    """Parts that this run's folder does not have, in words."""
    found = list(run.unread)
    if not run.rates and not run.unread:
        found.append("no win rate (no compare.json; `unveil compare --output_dir` writes one)")
    if not run.logs:
        found.append("no curves (no metrics.jsonl)")
    elif not run.series("rewards/chosen")[0]:
        found.append("no rewards in metrics.jsonl")
    if displacement(run) is None:
        found.append("no margins against a reference")
    return found + run.notes


def seconds(run: RunRecord) -> float | None:
    """Wall time of the run."""
    known = (run.record.get("results") or {}).get("seconds")
    return float(known) if known is not None else run.last("train_runtime")


def judges_of(rates: list[RunRate]) -> list[str]:
    """Names in order of first appearance."""
    return list(dict.fromkeys(rate.judge for rate in rates))


def interval(found: tuple[float, float, float] | None) -> str:
    """`0.604 [0.571, 0.637]`."""
    return f"{found[0]:.3f} [{found[1]:.3f}, {found[2]:.3f}]" if found else UNKNOWN


def p_text(p_value: float) -> str:
    """`0.041`, `<0.0001`."""
    return "<0.0001" if p_value < 1e-4 else f"{p_value:.2g}"


def signed(value: float) -> str:
    """With a real minus sign."""
    return f"{value:+.2f}".replace("-", "−")


def _words(found: tuple[float, float, str] | None) -> str:
    if found is None:
        return UNKNOWN
    up, down, _ = found
    gap = "the gap opened" if up > down else "the gap closed"
    if up < 0 and down < 0:
        return f"both sank; {gap}"
    if up >= 0 and down >= 0:
        return f"both rose; {gap}"
    return "liked rose, disliked sank" if up >= 0 else "liked sank, disliked rose"


def _change(run: RunRecord, name: str) -> float | None:
    _, values = run.series(name)
    return values[-1] - values[0] if len(values) > 1 else None


def _number(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else form.format(value)
