"""The oracle of the training room: one graph over every answer and draw, a forward pass each, no packing, no weights.

Also rows of every shape over the tiny vocabulary, and the first optimizer step of a trainer as its gradient.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unveil.draws import Plan, plan
from unveil.likelihood import Response
from unveil.objectives import Feedback, Likelihoods, Objective, PositionWeights, total_loss

MASK = 1
SEED = 42  # of transformers.TrainingArguments

Row = dict[str, Any]


def make_groups(
    count: int, shape: str = "pairs", seed: int = 0, parts: str | None = None, longest: int = 9
) -> list[Row]:
    """Prompts with their candidates: pairs, or ragged lists of 2 to 4 with grades 0 to 3, scores and displayed ranks.

    `parts` adds position weights: `steps` (numbers in [0.5, 1.5]), or `spans`, where all items are of one answer.
    """
    generator = np.random.default_rng(seed)
    rows, name = [], 0
    for prompt in range(count):
        size = 2 if shape == "pairs" else 2 + prompt % 3
        prompt_ids = generator.integers(4, 20, generator.integers(1, 5)).tolist()
        answers = [[*generator.integers(4, 20, generator.integers(2, longest)).tolist(), 0] for _ in range(size)]
        names = [name + i for i in range(size)]
        relevance = [1.0, 0.0] if shape == "pairs" else [0.0, *generator.permutation([1.0, 2.0, 3.0])][:size]
        row: Row = {
            "example_id": name,
            "relevance": relevance if shape == "pairs" else generator.permutation(relevance).tolist(),
            "score": generator.normal(size=size).tolist(),
            "rank": (1 + generator.permutation(size)).tolist(),
        }
        if parts == "steps":
            row["position_weights"] = [(0.5 + generator.random(len(answer))).tolist() for answer in answers]
        if parts == "spans":
            answers, names = [generator.integers(4, 20, 2 * size + 1).tolist()] * size, [name] * size
            row["position_weights"] = [
                [float(2 * item <= place < 2 * item + 2) for place in range(2 * size + 1)] for item in range(size)
            ]
        row["responses"] = [
            {"example_id": n, "prompt_ids": prompt_ids, "completion_ids": ids, "tail_ids": [], "truncated": False}
            for n, ids in zip(names, answers)
        ]
        rows.append(row)
        name += size
    return rows


def perturbed(model: torch.nn.Module, seed: int = 1, size: float = 0.05) -> Any:
    """A policy a little away from its reference."""
    moved = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return moved


def draw_log_probs(model: Any, response: Response, drawn: Plan) -> list[Tensor]:
    """log p of the hidden tokens of each draw."""
    ids = torch.tensor([[*response.prompt_ids, *response.completion_ids, *response.tail_ids]])
    found = []
    for draw, positions in enumerate(drawn.positions):
        hidden = len(response.prompt_ids) + torch.from_numpy(positions)
        masked = ids.clone()
        masked[0, hidden] = MASK
        if drawn.also_hidden:
            masked[0, len(response.prompt_ids) + torch.from_numpy(drawn.also_hidden[draw])] = MASK
        log_p = model(input_ids=masked).logits[0, hidden].double().log_softmax(dim=-1)
        found.append(log_p.gather(1, ids[0, hidden][:, None])[:, 0])
    return found


Surrogate = Callable[["OnePass", int, int, list[Tensor]], Tensor]
"""(oracle, prompt, candidate, log p of each draw) -> B, a scalar, or one estimate per draw."""


def horvitz_thompson(weighting: PositionWeights | None = None) -> Surrogate:
    """`sum_k W_k sum_(i in M_k) a_i log p_i`, written out."""

    def surrogate(case: "OnePass", prompt: int, candidate: int, log_p: list[Tensor]) -> Tensor:
        drawn, by_place = case.plans[prompt][candidate], case.position_weights(prompt, candidate, weighting)
        return torch.stack(
            [w * (by_place[m] * p).sum() for w, m, p in zip(drawn.weights, drawn.positions, log_p)]
        ).sum()

    return surrogate


def each_draw(case: "OnePass", prompt: int, candidate: int, log_p: list[Tensor]) -> Tensor:
    """`(L / l_k) S(M_k)`, `[D]`."""
    drawn = case.plans[prompt][candidate]
    length = case.responses[prompt][candidate].length
    return torch.stack([length / len(m) * p.sum() for m, p in zip(drawn.positions, log_p)])


class OnePass:
    """All answers of some rows under policy and reference."""

    def __init__(self, policy: Any, reference: Any, rows: Sequence[Row], num_draws: int = 3, **design: Any) -> None:
        self.rows = rows
        self.policy = copy.deepcopy(policy)
        self.responses = [[Response.from_row(one) for one in row.get("responses") or [row]] for row in rows]
        self.plans = [
            [
                plan(
                    SEED, one.example_id, 0, one.length, num_draws,
                    size_id=row["example_id"] if len(members) > 1 else None, **design,
                )
                for one in members
            ]
            for row, members in zip(rows, self.responses)
        ]  # fmt: skip
        self.log_p = self._score(self.policy)
        with torch.no_grad():
            self.reference_log_p = self._score(reference)

    def _score(self, model: Any) -> list[list[list[Tensor]]]:
        return [
            [draw_log_probs(model, one, drawn) for one, drawn in zip(members, plans)]
            for members, plans in zip(self.responses, self.plans)
        ]

    def position_weights(self, prompt: int, candidate: int, wanted: PositionWeights | None) -> Tensor:
        """a_i of an answer's tokens."""
        row, length = self.rows[prompt], self.responses[prompt][candidate].length
        found = torch.ones(length, dtype=torch.float64)
        if wanted is not None and wanted.kind == "ld":
            shared = min(one.length for one in self.responses[prompt])
            found = torch.tensor([1.0 if i < shared else wanted.alpha for i in range(length)], dtype=torch.float64)
        if "position_weights" in row:
            found = found * torch.tensor(row["position_weights"][candidate], dtype=torch.float64)
        return found

    def filled(self, values: Sequence[Sequence[Tensor]]) -> Tensor:
        """`[P, K]` (or `[D, P, K]`), filled up with zeros."""
        width = max(len(members) for members in values)
        nothing = torch.zeros_like(values[0][0])
        stacked = torch.stack([torch.stack([*m, *[nothing] * (width - len(m))]) for m in values])
        return stacked if stacked.dim() == 2 else stacked.permute(2, 0, 1)

    def surrogates(self, log_p: list[list[list[Tensor]]], surrogate: Surrogate) -> Tensor:
        return self.filled(
            [[surrogate(self, p, k, one) for k, one in enumerate(members)] for p, members in enumerate(log_p)]
        )

    def likelihoods(self, surrogate: Surrogate, spans: bool = False) -> Likelihoods:
        lengths = [
            [
                torch.tensor(float(np.count_nonzero(row["position_weights"][k]) if spans else one.length)).double()
                for k, one in enumerate(members)
            ]
            for row, members in zip(self.rows, self.responses)
        ]
        return Likelihoods(
            self.surrogates(self.log_p, surrogate),
            self.surrogates(self.reference_log_p, surrogate).detach(),
            self.filled(lengths),
        )

    def feedback(self) -> Feedback:
        def column(name: str) -> Tensor:
            return self.filled([[torch.tensor(float(v), dtype=torch.float64) for v in row[name]] for row in self.rows])

        if "responses" not in self.rows[0]:
            return Feedback(torch.tensor([[float(row["label"])] for row in self.rows], dtype=torch.float64))
        mask = self.filled([[torch.tensor(1.0) for _ in members] for members in self.responses]).bool()
        return Feedback(column("relevance"), mask, column("rank"), column("score"))

    def loss_of(self, objective: Objective, surrogate: Surrogate | None = None) -> Tensor:
        """The mean loss; a stateful objective sees the batch as its first."""
        wanted = objective.position_weights
        surrogate = surrogate or (each_draw if objective.per_draw else horvitz_thompson(wanted))
        likelihoods = self.likelihoods(surrogate, spans=wanted is not None and wanted.kind == "spans")
        feedback = self.feedback()
        state = objective.update(objective.initial_state(), likelihoods, feedback)
        return total_loss(objective.given(state) if state else objective, likelihoods, feedback)

    def gradient(self, loss: Tensor) -> list[Tensor]:
        parameters = list(self.policy.parameters())
        return list(torch.autograd.grad(loss, parameters))


@dataclass
class Step:
    """What the first optimizer step of a trainer saw."""

    grads: list[Tensor]
    logs: dict[str, float]
    trainer: Any

    @property
    def loss(self) -> float:
        return self.logs["loss"]


def first_step(trainer_of: Any, policy: Any, reference: Any, rows: Sequence[Row], **arguments: Any) -> Step:
    """Run one step on all rows in their order; gradients as the optimizer gets them."""
    policy = copy.deepcopy(policy)
    caught: list[Tensor] = []
    cut = {"per_device_train_batch_size": len(rows)}
    given = arguments.pop("trainer_arguments", {})
    if reference is not None:
        given = {"ref_model": copy.deepcopy(reference)} | given
    trainer = trainer_of(
        list(rows), policy, trainer_arguments=given, max_steps=1, max_grad_norm=0.0,
        train_sampling_strategy="sequential", **(cut | arguments),
    )  # fmt: skip
    trainer.create_optimizer()
    trained = [p for p in policy.parameters() if p.requires_grad]
    trainer.optimizer.register_step_pre_hook(lambda *_: caught.extend(p.grad.clone() for p in trained))
    trainer.train()
    return Step(caught, trainer.state.log_history[0], trainer)


def relative_gap(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """`|one - other| / |other|` over all parameters; the other must not vanish."""
    flat = [torch.cat([g.flatten() for g in grads]) for grads in (one, other)]
    assert flat[1].norm() > 0
    return ((flat[0] - flat[1]).norm() / flat[1].norm()).item()
