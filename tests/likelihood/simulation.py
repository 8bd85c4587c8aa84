"""Estimates of one response under many real plans, and how far their moments are from the exact ones."""

import torch
from table_predictor import Subset, TablePredictor

from unveil.draws import plan
from unveil.likelihood import Response, Surrogates, score


def simulate(predictor: TablePredictor, completion: Subset, repeats: int, *arguments, **keywords) -> Surrogates:
    """`score` under the plans of examples 0..repeats-1: `plan(5, example, 0, L, *arguments, **keywords)`."""
    plans = [plan(5, example, 0, len(completion), *arguments, **keywords) for example in range(repeats)]
    return score(predictor, [Response(0, (), completion)] * repeats, plans, tokens_per_batch=2**16)  # type: ignore


def z_of_mean(values: torch.Tensor, exact: float) -> float:
    return ((values.mean() - exact) / (values.std() / len(values) ** 0.5)).item()


def z_of_variance(values: torch.Tensor, exact: float) -> float:
    """Against the sampling error of a sample variance, sqrt((m4 - s^4) / n)."""
    variance = values.var()
    fourth = (values - values.mean()).pow(4).mean()
    return ((variance - exact) / ((fourth - variance**2) / len(values)).sqrt()).item()
