"""`run.json`: what ran, on what, with which settings, and what came out."""

from typing import Any

import sklearn

from unveil.demo.base import Base
from unveil.demo.experiment import Experiment
from unveil.demo.judge import human_rating_judge, judge_quality
from unveil.demo.recipe import Recipe, Split
from unveil.training import versions


def run_record(
    base: Base, recipe: Recipe, found: Experiment, split: Split, shuffled: bool, stages: dict[str, float], command: str
) -> dict[str, Any]:
    """The record of a run, ready for JSON; `stages`: seconds of each."""
    evidence = found.evidence
    return {
        "command": command,
        "versions": {**versions(), "scikit-learn": str(sklearn.__version__)},
        "base": {"name": base.name, "shipped": base.shipped, "parameters": base.parameters},
        "settings": recipe.as_dict(),
        "seeds": {
            "training": recipe.seed,
            "base_answers": recipe.base_seed,
            "null_answers": recipe.null_seed,
            "aligned_answers": recipe.aligned_seed,
        },
        "fingerprints": base.fingerprints,
        "data": {
            "split": split,
            "shuffled_thumbs": shuffled,
            "thumbs_up": evidence.thumbs_up,
            "thumbs_down": evidence.thumbs_down,
            "prompts": len(evidence.prompts),
        },
        "judge": {"name": human_rating_judge().name, "tie_margin": human_rating_judge().tie_margin}
        | judge_quality(split),
        "results": found.results.as_dict(),
        "stages": stages,
        "warnings": evidence.warnings,
    }
