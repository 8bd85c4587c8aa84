"""How good is the model on benchmarks? lm-eval's tasks for masked diffusion language models, and grids of runs.

lm-eval is an extra: nothing here imports it before a task is loaded (`unveil.evaluation.model` and `.harness` do).
"""

from unveil.evaluation.likelihoods import Estimate, Target, score_targets
from unveil.evaluation.presets import PRESETS, Preset, preset_named
from unveil.evaluation.request_cache import RequestCache
from unveil.evaluation.settings import ModelSettings, parse_model_args, settings_of

__all__ = [
    "PRESETS",
    "Estimate",
    "ModelSettings",
    "Preset",
    "RequestCache",
    "Target",
    "parse_model_args",
    "preset_named",
    "score_targets",
    "settings_of",
]
