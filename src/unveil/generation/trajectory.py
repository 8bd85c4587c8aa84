"""How an answer came to be: which positions each step revealed, from which every state of the canvas can be rebuilt."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unveil.errors import UserError
from unveil.files import write_text
from unveil.generation.config import GenerationConfig
from unveil.generation.reveals import Step


@dataclass(frozen=True)
class Reveal:
    """What one step committed: canvas positions, token ids, and confidences (see `Step`), in no particular order."""

    positions: list[int]
    tokens: list[int]
    confidences: list[float]


@dataclass(frozen=True)
class Trajectory:
    """One answer, step by step. index and seed fix its randomness; an answer that left early stays partly masked."""

    index: int
    seed: int
    prompt_ids: list[int]
    gen_length: int
    mask_token_id: int
    remasking: str
    steps: list[Reveal]

    def state(self, step: int) -> list[int]:
        """The canvas after `step` steps, from 0 (all masks) to `len(steps)`; `gen_length` ids."""
        if not 0 <= step <= len(self.steps):
            raise IndexError(f"step {step} of a trajectory of {len(self.steps)} steps")
        canvas = [self.mask_token_id] * self.gen_length
        for reveal in self.steps[:step]:
            for position, token in zip(reveal.positions, reveal.tokens, strict=True):
                canvas[position] = token
        return canvas

    def states(self) -> list[list[int]]:
        """Every state from all masks to the last."""
        return [self.state(step) for step in range(len(self.steps) + 1)]

    def revealed_at(self) -> list[int | None]:
        """Of every canvas position the step that committed it, counted from 0; None where it is still masked."""
        found: list[int | None] = [None] * self.gen_length
        for step, reveal in enumerate(self.steps):
            for position in reveal.positions:
                found[position] = step
        return found


class Recorder:
    """An observer of `generate` that keeps every step; give it what `generate` is given."""

    def __init__(
        self,
        prompts_ids: Sequence[Sequence[int]],
        config: GenerationConfig,
        mask_token_id: int,
        indices: Sequence[int] | None = None,
    ) -> None:
        numbers = range(len(prompts_ids)) if indices is None else indices
        self.trajectories = [
            Trajectory(index, config.seed, list(ids), config.gen_length, mask_token_id, config.remasking, [])
            for index, ids in zip(numbers, prompts_ids, strict=True)
        ]

    def __call__(self, step: Step) -> None:
        """Remember what was committed."""
        reveals = {row: Reveal([], [], []) for row in step.rows}
        columns = (step.row.tolist(), step.position.tolist(), step.token.tolist(), step.confidence.tolist())
        for row, position, token, confidence in zip(*columns, strict=True):
            reveal = reveals[step.rows[row]]
            reveal.positions.append(position)
            reveal.tokens.append(token)
            reveal.confidences.append(confidence)
        for row, reveal in reveals.items():
            self.trajectories[row].steps.append(reveal)


def as_row(trajectory: Trajectory) -> dict[str, Any]:
    """Plain values, ready for a line of JSON."""
    return asdict(trajectory)


def write_trajectories(path: str | Path, trajectories: Iterable[Trajectory]) -> None:
    """JSON lines, whole or not at all."""
    write_text(path, "".join(json.dumps(as_row(trajectory), allow_nan=False) + "\n" for trajectory in trajectories))


def read_trajectories(path: str | Path) -> list[Trajectory]:
    """What `write_trajectories` wrote.

    Raises:
        UserError: a line that is no trajectory, named by its number.
    """
    found = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            row.pop("example_id", None)
            steps = [Reveal(**reveal) for reveal in row.pop("steps")]
            found.append(Trajectory(**row, steps=steps))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"{path}: line {number} is no trajectory ({' '.join(str(error).split())[:120]}); "
                "give a file that `unveil generate --trajectories` wrote"
            ) from error
    return found
