"""From easy to hard (Curry-DPO, arXiv 2403.07230): pairs in the order of how clear the comparison is, in stages.

One run per stage; the model of a stage is the start and the reference of the next. A large gap is easy.
"""

import numpy as np
from datasets import Dataset

from unveil.data.columns import EXAMPLE_ID
from unveil.errors import UserError, name_rows


def curriculum(dataset: Dataset, by: str = "gap", stages: int = 3) -> list[Dataset]:
    """Stages of (nearly) equal size, easiest first; gaps never increase, equal gaps keep the order of the data.

    `by` is "gap" (the column `gap`; else the difference of the `score` of a pair, signed, so that pairs which the
    scorer orders the other way are hardest; else the range of `relevance`) or the name of a column with one number
    per prompt. Works before and after tokenising. Raises `UserError` if all are equally hard or too few.
    """
    if isinstance(stages, bool) or stages < 1:
        raise UserError(f"--curriculum_stages {stages}: at least 1 is needed")
    if stages > len(dataset):
        raise UserError(f"--curriculum_stages {stages}: there are only {len(dataset)} rows; give at most that many")
    gaps = _gaps(dataset, by)
    if (bad := np.flatnonzero(~np.isfinite(gaps))).size:
        raise UserError(
            f"column {by!r}: not a finite number ({EXAMPLE_ID} {name_rows([dataset[int(i)][EXAMPLE_ID] for i in bad])})"
            "; correct or remove them"
        )
    if stages > 1 and (gaps == gaps[0]).all():
        raise UserError(
            f"curriculum by {by}: is {gaps[0]:g} in every row, so that there is no order from easy to hard; give "
            "graded data (completions with scores, or score_chosen and score_rejected), or another column"
        )
    order = np.argsort(-gaps, kind="stable")
    return [dataset.select(part.tolist()) for part in np.array_split(order, stages)]


def _gaps(dataset: Dataset, by: str) -> np.ndarray:
    names = dataset.column_names
    if by in names:
        values = dataset.with_format(None)[by][:]
        if not all(isinstance(value, int | float) for value in values):
            raise UserError(f"curriculum by {by}: the column does not hold one number per row; give one that does")
        return np.array(values, dtype=np.float64)
    if by != "gap":
        raise UserError(f"curriculum by {by}: there is no such column; use gap, or one of {', '.join(names)}")
    if "relevance" not in names:
        raise UserError("--curriculum_stages: needs pairs or lists; make them with unveil.data.pair_rows or list_rows")
    if "score" in names and all(len(scores) == 2 for scores in dataset["score"]):
        return np.array([first - second for first, second in dataset["score"]])
    return np.array([max(values) - min(values) for values in dataset["relevance"]])
