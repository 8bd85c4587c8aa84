"""The demo's figures: which of the run's numbers go where, and what each picture says."""

from collections.abc import Callable

import numpy as np

from unveil.demo.experiment import Experiment
from unveil.demo.recipe import Recipe
from unveil.report import Interval, Picture, before_after, curves, histograms, interval_bars


def _win_rate(found: Experiment, recipe: Recipe) -> Picture:
    results = found.results
    rows = [
        Interval("aligned\nagainst base", results.adjusted_win_rate, *results.interval, main=True),
        Interval("base\nagainst itself", results.null_win_rate, *results.null_interval),
    ]
    return Picture(
        interval_bars(rows, even=0.5, even_name="no difference", axis="win rate (wins + half ties)"),
        "Win rate",
        f"Share of {results.n} held-out prompts on which the judge prefers the first model's answer, with 95 % "
        "intervals over prompts.",
    )


def _rewards(found: Experiment, recipe: Recipe) -> Picture:
    steps, series = _series(found, {"liked": "rewards/chosen", "disliked": "rewards/rejected"})
    nats = {name: [value / recipe.beta for value in values] for name, values in series.items()}
    return Picture(
        curves(steps, nats, axis="mean margin of the batch, nats"),
        "Rewards during training",
        "Margin r = ELBO(policy) - ELBO(base) of the thumbs in each batch. The gap is what ELBO-KTO asks for; its "
        "centred loss does not see whether both curves sink together, which is why both are shown.",
    )


def _margins(found: Experiment, recipe: Recipe) -> Picture:
    evidence = found.evidence
    groups = {"liked": evidence.margins[evidence.thumbs], "disliked": evidence.margins[~evidence.thumbs]}
    return Picture(
        histograms(groups, axis="margin r of a held-out review, nats", zero=True),
        "Margins on held-out reviews",
        f"Reviews with human thumbs that nothing was trained on. A liked one has the larger margin in "
        f"{found.results.auc:.1%} of the pairs.",
    )


def _saturation(found: Experiment, recipe: Recipe) -> Picture:
    steps, series = _series(
        found, {"mean |sigmoid argument|": "saturation/mean_abs", "share beyond 2": "saturation/above_2"}
    )
    return Picture(
        curves(steps, series, axis="in the batch", zero=False),
        "Saturation",
        "The argument of the loss's sigmoid, beta (r - baseline). Beyond about 2 the slope of an answer fades and it "
        "teaches little; near 0 the loss is still linear.",
    )


def _nelbo(found: Experiment, recipe: Recipe) -> Picture:
    names = {"film": "film reviews\n(held out)", "product": "product reviews\n(no feedback)"}
    rows = {names[name]: (change.before, change.after) for name, change in found.results.nelbo.items()}
    return Picture(
        before_after(rows, names=("base", "aligned"), axis="NELBO, nats per token (lower is better)"),
        "Held-out likelihood before and after",
        "Negative ELBO per token of texts that no training saw, on the same draws for both models. A rise is "
        "forgetting.",
    )


def _lengths(found: Experiment, recipe: Recipe) -> Picture:
    evidence = found.evidence
    groups = {"aligned": evidence.aligned.lengths, "base": evidence.base.lengths}
    bins = np.arange(0, recipe.canvas_length + 2, max(1, recipe.canvas_length // 20)) - 0.5
    return Picture(
        histograms(groups, axis="tokens per answer", bins=bins, quiet="base"),
        "Length of answers",
        "Judged answers. A policy can please a judge, or a likelihood, by answering shorter or longer.",
    )


def _series(found: Experiment, names: dict[str, str]) -> tuple[list[float], dict[str, list[float]]]:
    """Steps, and logged values by title; steps that lack one of them are left out."""
    lines = [line for line in found.evidence.history if all(metric in line for metric in names.values())]
    return [line["step"] for line in lines], {
        title: [line[metric] for line in lines] for title, metric in names.items()
    }


# Every figure by its file name (without `.png`), in the order of the report.
FIGURES: dict[str, Callable[[Experiment, Recipe], Picture]] = {
    "win_rate": _win_rate,
    "rewards": _rewards,
    "margins": _margins,
    "saturation": _saturation,
    "nelbo": _nelbo,
    "lengths": _lengths,
}
