"""The figures of `unveil report`: win rates of all runs, and their curves of training."""

from unveil.cli.report_tables import beta_of, judges_of
from unveil.cli.run_records import RunRecord
from unveil.report import Line, Picture, Rate, rate_dots, run_lines

_BOTH = {"chosen": "rewards/chosen", "rejected": "rewards/rejected"}


def figures(runs: list[RunRecord]) -> dict[str, Picture]:
    """What can be drawn from these runs, by file name."""
    found = {}
    rates = [Rate(run.row_of(rate), rate.judge, rate.rate, rate.low, rate.high) for run in runs for rate in run.rates]
    if rates:
        nulls = [
            Rate(f"{run.row_of(rate)} (null)", rate.judge, *rate.null, hollow=True)
            for run in runs
            for rate in run.rates
            if rate.null
        ]
        judges = judges_of([rate for run in runs for rate in run.rates])
        found["win_rates"] = Picture(
            rate_dots(rates + nulls), "Win rates", f"By {', '.join(judges)}; 95 % intervals over prompts."
        )
    for name, (metrics, scales, axis, title, caption) in _curves(runs).items():
        lines = []
        for run in runs:
            for kind, metric in metrics.items():
                steps, values = run.series(metric)
                if values and run.name in scales:
                    lines.append(Line(run.name, kind, steps, [value / scales[run.name] for value in values]))
        if lines:
            found[name] = Picture(run_lines(lines, axis=axis), title, caption)
    return found


def _curves(runs: list[RunRecord]) -> dict[str, tuple[dict[str, str], dict[str, float], str, str, str]]:
    """By file name: metrics by what they are, what each run's values are divided by, axis, title, caption."""
    as_logged = {run.name: 1.0 for run in runs}
    in_nats = {run.name: beta for run in runs if (beta := beta_of(run)) is not None}
    return {
        "rewards": (
            _BOTH,
            as_logged,
            "implicit reward of the batch",
            "Rewards",
            "As logged: beta times the margin against the reference. The gap is what preference losses ask for.",
        ),
        "margins": (
            {"margin": "rewards/margins"},
            as_logged,
            "chosen minus rejected",
            "Reward margin",
            "The gap between the rewards of chosen and rejected answers.",
        ),
        "displacement": (
            _BOTH,
            in_nats,
            "log-likelihood against the reference, nats",
            "Likelihood displacement",
            "Mean margin r of the answers of each batch: the rewards without beta. Below 0 they became less likely, "
            "chosen ones too.",
        ),
    }
