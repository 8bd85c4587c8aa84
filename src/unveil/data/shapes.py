"""Which shape a data set has: thumbs, pairs, lists, graded answers or ranked spans. Read off its columns.

    unpaired   prompt, completion, label                   one answer, thumb up or down
    pairs      [prompt,] chosen, rejected                  two answers, the first is better
    lists      prompt, completions, scores | relevance     several answers, each with a number, larger is better
    graded     prompt, completion, score                   one answer with a number; rows of one prompt make a list
    spans      prompt, completion, spans, relevance        items of one ranked answer, each with a number

What `pair_rows` and `list_rows` write (`response_ids` beside `completions` and `relevance`) has the shape of lists.
"""

from typing import Literal, get_args

from datasets import Dataset

from unveil.data.columns import require_columns
from unveil.data.formats import IMPLICIT_PAIR, PAIRED, UNPAIRED

Shape = Literal["unpaired", "pairs", "lists", "graded", "spans"]

LISTED = ("prompt", "completions", "scores")
GROUPED = ("prompt", "completions", "relevance")
GRADED = ("prompt", "completion", "score")
SPANNED = ("prompt", "completion", "spans", "relevance")

# The first whose columns are all there counts.
_FORMATS: tuple[tuple[Shape, tuple[str, ...]], ...] = (
    ("unpaired", UNPAIRED),
    ("pairs", IMPLICIT_PAIR),
    ("lists", GROUPED),
    ("lists", LISTED),
    ("spans", SPANNED),
    ("graded", GRADED),
)
_CALLED = {
    "unpaired": "thumbs (prompt, completion, label)",
    "pairs": "pairs (prompt, chosen, rejected)",
    "lists": "lists (prompt, completions, scores)",
    "graded": "graded answers (prompt, completion, score)",
    "spans": "ranked spans (prompt, completion, spans, relevance)",
}
SHAPES: tuple[str, ...] = get_args(Shape)


def shape_of(dataset: Dataset, source: str = "the data set") -> Shape:
    """The shape that the columns have. Raises `UserError` (columns there, columns missing) if they have none."""
    shape = find_shape(dataset)
    if shape is not None:
        return shape
    require_columns(dataset, (PAIRED, IMPLICIT_PAIR, UNPAIRED, LISTED, GROUPED, GRADED, SPANNED), source)
    raise AssertionError("unreachable: every format was looked for")


def find_shape(dataset: Dataset) -> Shape | None:
    """The shape that the columns have, or None."""
    present = set(dataset.column_names)
    return next((shape for shape, columns in _FORMATS if present >= set(columns)), None)


def call(shape: str) -> str:
    """The shape and its columns, for a message: `thumbs (prompt, completion, label)`."""
    return _CALLED[shape]
