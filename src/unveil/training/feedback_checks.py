"""Whether the data can teach the objective: looked at before a model is loaded or trained, on the feedback alone.

Without these checks an objective falls back on something else: tree_po without step weights would be LiPO, and DisCO on
grades above 0 would have no negatives.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset

from unveil.data import shape_of
from unveil.data.candidates import PER_CANDIDATE
from unveil.errors import UserError, warn_user
from unveil.objectives import Feedback, Likelihoods, Objective, weights
from unveil.objectives.per_draw import jackknives_of

_PAIR_SCORES = {"score_chosen", "score_rejected"}
_OPTIONAL = (*PER_CANDIDATE, *_PAIR_SCORES, "margin", "gap")
_COMPARED_AT_ONCE = 2**20
_LENGTH = 8.0

# What a column holds, and how a user gives it.
_NEEDED = {
    "score": ("a scorer's number for every answer", "score", "score_chosen and score_rejected (for lists: score)"),
    "rank": ("the place where every item was shown", "rank", "rank"),
    "steps": ("weights of the steps of every answer", "step_weights", "steps and step_weights"),
    "spans": ("items that are parts of one answer", "spans", "spans"),
}  # fmt: skip


def refuse_missing_columns(objective: Objective, name: str, columns: Sequence[str], source: str) -> None:
    """Refuse rows without a column that the objective cannot do without; `columns` before or after tokenising.

    Raises:
        UserError: naming the column, the objective and how to give it.
    """
    for column in objective.columns:
        weighted = objective.position_weights
        kind = weighted.kind if column == "position_weights" and weighted is not None else column
        if kind not in _NEEDED:
            continue
        what, key, remedy = _NEEDED[kind]
        if key not in columns and column not in columns:
            raise UserError(f"{source}: --objective {name} needs {what}, and there is no column {key}; add {remedy}")


def tell_of_idle_columns(objective: Objective, name: str, given: Dataset, ordered: bool, source: str) -> None:
    """Warn once of optional columns in our form that the run does not read; `ordered`: it goes from easy to hard.

    A column that has one of our names and another form is the user's own, as `id` and `meta` are.
    """
    has = {column for column in _OPTIONAL if column in given.column_names and _is_ours(given, column)}
    if not has >= _PAIR_SCORES:
        has -= _PAIR_SCORES
    idle = sorted(has - _read(objective, shape_of(given, source), has, ordered))
    if idle:
        plural = "s" if len(idle) > 1 else ""
        warn_user(
            f"{source}: --objective {name} does not read the column{plural} {', '.join(idle)}: without effect",
            stacklevel=4,
        )


def _read(objective: Objective, shape: str, has: set[str], ordered: bool) -> set[str]:
    """The optional columns that an objective reads of data of a shape."""
    if shape == "graded":
        return {"score"}
    if shape == "unpaired" or objective.shape == "unpaired":
        return set()
    read = {"spans"} | ({"rank"} & set(objective.columns))
    if shape == "spans":
        return read
    read |= {"margin"} | ({"gap"} if ordered else set())
    if ordered or "score" in objective.columns:
        read |= {"score", *_PAIR_SCORES}
    return read | ({"steps", "step_weights"} if has >= {"steps", "step_weights"} else set())


def _is_ours(given: Dataset, column: str) -> bool:
    """Whether a column has the form of ours: a number per prompt, or a list with something for every answer."""
    kind = given.features.arrow_schema.field(column).type
    if column in PER_CANDIDATE and not (column == "score" and "completion" in given.column_names):
        return isinstance(kind, pa.ListType | pa.LargeListType | pa.FixedSizeListType)
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def refuse_what_teaches_nothing(objective: Objective, name: str, dataset: Dataset, source: str) -> None:
    """Refuse rows from which the objective learns nothing, whatever the model says: no answer would have a slope.

    The objective is asked for the slopes of its feedback at surrogates of no meaning, so that feedback which it cannot
    take is told here as well, and not in the middle of the run.

    Raises:
        UserError: no row teaches anything, with the reason; or what the objective says of its feedback.
    """
    if "label" not in dataset.column_names and "relevance" not in dataset.column_names:
        return
    rows = _columns(dataset)
    width = max((len(values) for values in rows["relevance"]), default=0)
    if not width:
        return
    parts = -(-len(dataset) * width**2 // _COMPARED_AT_ONCE)
    moved = mixed = False
    liked: set[bool] = set()
    for places in np.array_split(np.arange(len(dataset)), parts):
        feedback = _feedback(rows, places, width)
        _, slopes = weights(objective, _some_likelihoods(objective, feedback), feedback)
        moved = moved or bool((slopes != 0).any())
        up = feedback.real() & (feedback.relevance > 0)
        down = feedback.real() & (feedback.relevance <= 0)
        mixed = mixed or bool((up.any(dim=-1) & down.any(dim=-1)).any())
        liked |= {bool(kind) for kind, found in ((True, up), (False, down)) if found.any()}
    if objective.splits_at_zero and "relevance" in dataset.column_names:
        _refuse_grades_of_one_kind(objective, name, mixed, liked, source)
    if not moved:
        raise UserError(f"{source}: no row teaches --objective {name} anything: {_why(objective, rows)}")


def _refuse_grades_of_one_kind(objective: Objective, name: str, mixed: bool, liked: set[bool], source: str) -> None:
    if mixed or (objective.shape != "lists" and len(liked) == 2):
        return
    where = "in one and the same prompt" if len(liked) == 2 else f"at all: every relevance is {_side(liked)}"
    raise UserError(
        f"{source}: --objective {name} sets liked answers (relevance above 0) against disliked ones, and there are not "
        f"both {where}; give --threshold NUMBER, above which an answer is liked, or grades of 1 and 0"
    )


def _side(liked: set[bool]) -> str:
    return "above 0" if True in liked else "0 or less"


def _why(objective: Objective, rows: dict[str, list]) -> str:
    """The reason in words that nothing has a slope."""
    if "weight" in rows and not any(rows["weight"]):
        return "every weight is 0; correct the column weight"
    if objective.shape != "unpaired" and all(len(set(values)) < 2 for values in rows["relevance"]):
        return "no prompt has a better and a worse answer; give answers that differ in what was said of them"
    if "score" in objective.columns and all(len(set(values)) < 2 for values in rows["score"]):
        return "the scores of a prompt's answers are always the same; correct the column score"
    if objective.shape == "unpaired" and not any(value > 0 for values in rows["relevance"] for value in values):
        return "no answer is liked; give thumbs up too"
    return "its loss is the same whatever the model says; check the labels and --objective_args"


def _columns(dataset: Dataset) -> dict[str, list]:
    """What was said of the answers of every row, thumbs as lists of one."""
    plain = dataset.with_format(None)
    rows = {name: plain[name][:] for name in ("relevance", "rank", "score", "weight") if name in dataset.column_names}
    if "relevance" not in rows:
        rows = {name: values for name, values in rows.items() if name == "weight"}
        rows["relevance"] = [[float(bool(label))] for label in plain["label"][:]]
    return rows


def _feedback(rows: dict[str, list], places: np.ndarray, width: int) -> Feedback:
    def filled(name: str) -> torch.Tensor | None:
        if name not in rows:
            return None
        values = [rows[name][place] for place in places]
        return torch.tensor([[*one, *[1] * (width - len(one))] for one in values], dtype=torch.float64)

    sizes = torch.tensor([len(rows["relevance"][place]) for place in places])
    relevance = filled("relevance")
    assert relevance is not None
    weight = torch.tensor([rows["weight"][place] for place in places]).double() if "weight" in rows else None
    return Feedback(relevance, torch.arange(width) < sizes[:, None], filled("rank"), filled("score"), weight)


def _some_likelihoods(objective: Objective, feedback: Feedback) -> Likelihoods:
    """A policy a little away from its reference, the same for all data."""
    generator = torch.Generator().manual_seed(0)
    draws = 2 * max((found.draws_per_group for found in jackknives_of(objective)), default=1)
    shape = (draws, *feedback.relevance.shape) if objective.per_draw else feedback.relevance.shape
    margins = torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5
    reference = torch.full_like(margins, -2 * _LENGTH)
    return Likelihoods(
        reference + margins, reference, torch.full_like(feedback.relevance, _LENGTH), torch.zeros_like(margins[..., 0])
    )
