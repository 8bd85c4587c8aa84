"""The table, the figure and the JSON record of `unveil variance`."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from unveil.diagnostics.estimator_comparison import Comparison, Ratio, record
from unveil.diagnostics.estimator_variance import Measured
from unveil.diagnostics.recommendation import exponent_advice, recommend
from unveil.report import Dot, ratio_dots
from unveil.terminal import PlainConsole

QUANTITIES = {"elbo": "B", "margin": "margin r", "gradient": "gradient"}


def report_of(comparison: Comparison, measured: Sequence[Measured], num_draws: int) -> dict[str, Any]:
    """Everything that was found, as plain numbers."""
    found: dict[str, Any] = {
        "estimators": [record(comparison, e) for e in comparison.estimators if e.draws.num_draws == num_draws],
        "recommendation": recommend(comparison, num_draws).as_dict(),
    }
    own = [m for m in measured if m.draws.num_draws == num_draws]
    split = next((m.split for m in own if m.split), None)
    if split:
        found["split_of_one_draw"] = {
            name: {"across": part.across, "within": part.within} for name, part in zip(("elbo", "margin"), split)
        }
        gradient = _gradient_split(own, num_draws)
        if gradient:
            found["split_of_one_draw"]["gradient"] = gradient
    default = next((m for m in own if m.draws.name == "quadratic_tiling" and m.strata), None)
    if default and default.strata and num_draws > 2:
        strata = {k: v.tolist() for k, v in default.strata._asdict().items() if v is not None}
        found["strata"] = {**strata, **exponent_advice(default.strata)}
    return found


def _gradient_split(measured: Sequence[Measured], num_draws: int) -> dict[str, float] | None:
    """Across and within sizes from two designs: K sizes vary by (V_t + V_y) / K, K/2 sizes with two masks each by
    (2 V_t + V_y) / K."""
    single, double = (
        next((m.gradient for m in measured if m.draws.design == "iid" and m.draws.masks_per_size == per_size), None)
        for per_size in (1, 2)
    )
    if single is None or double is None:
        return None
    one, two = float(single.trace_CN[0].mean()), float(double.trace_CN[0].mean())
    return {"across": num_draws * (two - one), "within": num_draws * (2 * one - two)}


def figure(report: Mapping[str, Any]) -> bytes:
    """Ratios to `iid`, one panel per quantity, PNG."""
    panels: dict[str, list[Dot]] = {}
    for quantity, name in QUANTITIES.items():
        key = f"{quantity}_mse_over_iid"
        dots = [
            Dot(row["name"], row["combiner"], *row[key].values(), hollow=not row["unbiased"])
            for row in report["estimators"]
            if key in row
        ]
        if dots and quantity != "elbo":
            panels[f"error of the {name} over iid, {report['num_draws']} passes"] = dots
    return ratio_dots(panels, even_name="iid")


def print_page(report: Mapping[str, Any]) -> None:
    """For terminals of 118 columns."""
    console = PlainConsole(width=118, highlight=False)
    rows = report["estimators"]
    gradients = "gradient_mse_over_iid" in rows[0]
    console.print(
        f"{report['answers']} answers, {report['replicates']} plans each of {report['num_draws']} forward passes; "
        f"reference: {report['reference']}",
    )
    heads = [f"{name} / iid" for quantity, name in QUANTITIES.items() if gradients or quantity != "gradient"]
    table = Table("design", "combiner", "exact", *heads, "sd of r", "Psi")
    for column in table.columns[3:]:
        column.justify = "right"
    for row in rows:
        cells = [Ratio(**row[f"{q}_mse_over_iid"]).text() for q in QUANTITIES if f"{q}_mse_over_iid" in row]
        spread = f"{max(row['margin_mse'], 0.0) ** 0.5:.3g}"
        table.add_row(
            row["name"], row["combiner"], "yes" if row["unbiased"] else "no", *cells, spread, f"{row['psi']['psi']:.3g}"
        )
    console.print(table)
    for line in sentences(report):
        console.print(line)


def sentences(report: Mapping[str, Any]) -> list[str]:
    """What the table means; squared errors with 95 % bootstrap intervals over answers."""
    lines = [
        "Mean squared errors over those of iid at equal forward passes, with 95 % bootstrap intervals over answers; "
        "sd of r and Psi in nats and nats squared."
    ]
    split = report.get("split_of_one_draw")
    if split:
        shares = [f"{QUANTITIES[name]} {_share(part)}" for name, part in split.items()]
        lines.append(
            f"Of one iid draw's variance, V_t (which mask size) is: {', '.join(shares)}; V_y (which mask) the rest."
        )
    iid = report["estimators"][0]["psi"]
    lines.append(
        f"iid: v = {iid['v']:.3g} (mean variance of a margin), c = {iid['c']:.3g} (mean covariance of two; draws of "
        f"different answers are independent), Psi = {iid['psi']:.3g}."
    )
    if "strata" in report:
        lines.append(report["strata"]["text"])
    lines.append(report["recommendation"]["text"])
    return lines


def _share(part: Mapping[str, float]) -> str:
    return f"{part['across'] / (part['across'] + part['within']):.0%}"
