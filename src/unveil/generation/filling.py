"""Filling the canvases of one batch, step by step, until every answer is settled.

On a schedule all rows are at the same step of the same block. Where confidence decides, each row goes at its own pace:
every step asks for logits at the masked positions of each row's current block, whatever block that is. Either way a
row's randomness and choices depend on nothing but the row, so its companions, and when they leave, change nothing.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unveil.errors import UserError, name_rows
from unveil.generation.canvas import Canvas
from unveil.generation.config import GenerationConfig, Remasking
from unveil.generation.network import Network
from unveil.generation.noise import subkeys
from unveil.generation.prediction import Measure, predict
from unveil.generation.reveals import Observer, Step, chosen
from unveil.generation.statistics import Tally

if TYPE_CHECKING:
    from unveil.models import Denoiser

_MEASURES: dict[Remasking, Measure | None] = {
    "low_confidence": "probability",
    "entropy": "entropy",
    "margin": "margin",
    "random": None,
}


class Filling:
    """The canvas of one batch while it is being filled."""

    def __init__(
        self,
        denoiser: "Denoiser",
        canvas: Canvas,
        config: GenerationConfig,
        end_ids: list[int],
        tally: Tally,
        advance: Callable[[int], None],
        observer: Observer | None,
    ) -> None:
        self.canvas, self.config, self.tally = canvas, config, tally
        self.advance, self.observer = advance, observer
        self.network = Network(denoiser, canvas, config, tally)
        device = canvas.stream.device
        self.ends = torch.tensor(end_ids, dtype=torch.int64, device=device)
        never = end_ids if config.eos_rule == "never" else []
        self.forbidden = torch.tensor([denoiser.mask_token_id, *never], device=device)
        # A random order does not depend on the logits, so they are computed at the chosen positions only; except that
        # "late" must see which positions predict an end token before it can hold them back.
        self.choose_first = config.remasking == "random" and config.eos_rule != "late"
        measure = _MEASURES[config.remasking]
        self.measure: Measure | None = "probability" if observer and measure is None else measure
        self.order = self._random_order() if config.remasking == "random" else None
        # Of each row: its block, the steps that it made in the block, and those that it made in all.
        self.block = torch.zeros(len(canvas.rows), dtype=torch.int64)
        self.step, self.steps = self.block.clone(), self.block.clone()

    def run(self, take: Callable[[int, list[int]], None]) -> None:
        """Until nobody is left; `take(row, canvas tokens)` is called for every row that leaves."""
        while self.canvas.rows:
            self._step()
            self._leave(take)

    def _random_order(self) -> Tensor:
        """Canvas positions [N, gen_length]: block after block, each in its random order."""
        config, canvas = self.config, self.canvas
        # Counters below gen_length are for the order, those above for the tokens.
        position_G = torch.arange(config.gen_length, device=canvas.first.device)
        key_NG = subkeys(canvas.keys[:, None], position_G)
        order_NBS = key_NG.unflatten(1, (config.num_blocks, config.block_size)).argsort(dim=2)
        start_B1 = torch.arange(0, config.gen_length, config.block_size, device=canvas.first.device)[:, None]
        return (order_NBS + start_B1).flatten(1)

    def _step(self) -> None:
        canvas, config = self.canvas, self.config
        commits, device = config.commits_per_step, canvas.stream.device
        if self.choose_first:
            step = int(self.step[0])
            start = int(self.block[0]) * config.block_size + sum(commits[:step])
            position_NC = self.order[:, start : start + commits[step]]  # type: ignore[index]
            row_M = torch.arange(len(canvas.rows), device=device).repeat_interleave(position_NC.shape[1])
            position_M = position_NC.flatten()
        else:
            within_S = torch.arange(config.block_size)
            position_NS = (self.block[:, None] * config.block_size + within_S).to(device)
            masked_NS = canvas.masked.gather(1, position_NS)
            row_M, column_M = masked_NS.nonzero(as_tuple=True)
            position_M = position_NS[row_M, column_M]
        counter_M = (self.steps.to(device)[row_M] + 1) * config.gen_length + position_M
        token_M, confidence_M, finite_M = predict(
            self.network.logits(row_M, position_M, self.block.tolist(), self.step.tolist()),
            subkeys(canvas.keys[row_M], counter_M),
            temperature=config.temperature,
            top_p=config.top_p,
            top_k=config.top_k,
            forbidden=self.forbidden,
            measure=self.measure,
        )
        if not bool(finite_M.all()):
            self._refuse(row_M[~finite_M])
        if not self.choose_first:
            scores_M = confidence_M if self.order is None else self._earliness(position_NS)[row_M, column_M]
            picked_M = self._pick(masked_NS, row_M, column_M, token_M, scores_M)
            row_M, position_M, token_M, confidence_M = (x[picked_M] for x in (row_M, position_M, token_M, confidence_M))
        canvas.commit(row_M, position_M, token_M)
        self._go_on(len(row_M), commits)
        if self.observer:
            self.observer(
                Step(list(canvas.rows), canvas.tokens, canvas.masked.clone(), row_M, position_M, token_M, confidence_M)
            )

    def _earliness(self, position_NS: Tensor) -> Tensor:
        """Of a random order, from 1 (first in the block) down: what "late" sorts instead of confidence."""
        assert self.order is not None
        place_NG = self.order.argsort(dim=1)  # the order is a permutation: this is its inverse
        return 1 - (place_NG.gather(1, position_NS) % self.config.block_size) / self.config.block_size

    def _pick(self, masked_NS: Tensor, row_M: Tensor, column_M: Tensor, token_M: Tensor, scores_M: Tensor) -> Tensor:
        """Bool [M]: which of the predicted tokens are committed."""
        scores_NS = torch.zeros(masked_NS.shape, dtype=torch.float64, device=masked_NS.device)
        scores_NS[row_M, column_M] = scores_M.double()
        is_end_NS = None
        if self.config.eos_rule == "late":
            is_end_NS = torch.zeros_like(masked_NS)
            is_end_NS[row_M, column_M] = torch.isin(token_M, self.ends)
        commits = torch.tensor(self.config.commits_per_step)
        counts_N = commits[self.step.clamp(max=len(commits) - 1)].to(masked_NS.device)
        return chosen(self.config, scores_NS, masked_NS, is_end_NS, counts_N)[row_M, column_M]

    def _go_on(self, committed: int, commits: list[int]) -> None:
        self.tally.committed += committed
        self.advance(committed)
        self.steps += 1
        self.step += 1
        if self.config.by_confidence:
            left_NB = self.canvas.masked.unflatten(1, (self.config.num_blocks, -1)).any(2).cpu()
            full = ~left_NB.gather(1, self.block[:, None])[:, 0]
        else:
            full = self.step == len(commits)
        self.block += full
        self.step[full] = 0

    def _leave(self, take: Callable[[int, list[int]], None]) -> None:
        canvas, config = self.canvas, self.config
        early = config.early_exit and len(self.ends) > 0
        # Without early exit it is known without asking the device.
        done_N = canvas.settled(self.ends).cpu() if early else self.block == config.num_blocks
        if not bool(done_N.any()):
            return
        canvases = canvas.tokens.tolist()
        for row in done_N.nonzero()[:, 0].tolist():
            take(canvas.rows[row], canvases[row])
        self.advance(int(canvas.masked[done_N.to(canvas.masked.device)].sum()))
        staying = (~done_N).nonzero()[:, 0]
        if len(staying) == 0:
            canvas.rows = []
            return
        canvas.keep(staying.tolist())
        self.network.keep(staying.tolist())
        self.block, self.step, self.steps = self.block[staying], self.step[staying], self.steps[staying]
        if self.order is not None:
            self.order = self.order[staying.to(self.order.device)]

    def _refuse(self, row_M: Tensor) -> None:
        bad = sorted({self.canvas.rows[row] for row in row_M.tolist()})
        raise UserError(
            f"prompts {name_rows(bad)}: the model's logits are not finite; "
            "check the checkpoint, and try --dtype float32 or bfloat16"
        )
