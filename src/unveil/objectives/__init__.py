"""What loss, and what weight per response? Pure functions of surrogates and feedback; torch only."""

from unveil.objectives.interface import Feedback, Likelihoods, Objective, WeightedSum, total_loss, weights
from unveil.objectives.kto import KTO, Baseline, kto
from unveil.objectives.sft import SFT, sft

__all__ = [
    "KTO",
    "SFT",
    "Baseline",
    "Feedback",
    "Likelihoods",
    "Objective",
    "WeightedSum",
    "kto",
    "sft",
    "total_loss",
    "weights",
]
