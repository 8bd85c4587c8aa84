"""A number that is not finite stops the run before it reaches the weights, and names the rows that it came from."""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import TrainerCallback

from unveil.errors import UserError, name_rows


def bad_rows(example_ids: Sequence[int], values: Sequence[float] | torch.Tensor) -> list[int]:
    """Example ids whose value is NaN or infinite."""
    finite = torch.isfinite(torch.as_tensor(values, dtype=torch.float64))
    return [example for example, good in zip(example_ids, finite.tolist()) if not good]


def weights_are_finite(model: nn.Module) -> bool:
    """Whether every parameter of the model is a finite number."""
    return all(bool(torch.isfinite(p).all()) for p in model.parameters())


def diverged(rows: Sequence[int], step: int, kept: str) -> UserError:
    """The message of a run that stops."""
    return UserError(
        f"step {step}: the likelihood of row {name_rows(list(rows))} is not a finite number; training stopped, {kept}; "
        "look at these rows, lower --learning_rate or try --bf16 False"
    )


def require_finite_weights(model: nn.Module, step: int) -> None:
    """Refuse to write weights that are lost: they would take the place of the last good checkpoint."""
    if not weights_are_finite(model):
        raise UserError(
            f"step {step}: a weight is not a finite number any more; training stopped without saving it, earlier "
            "checkpoints are kept; resume from one of them with a lower --learning_rate"
        )


class GradientGuard(TrainerCallback):
    """Stops before an optimizer step whose gradient is not finite: the weights are still good."""

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs) -> None:
        gradients = [p.grad for p in model.parameters() if p.grad is not None] if model is not None else []
        if gradients and not torch.isfinite(torch.stack([g.abs().max().float().cpu() for g in gradients])).all():
            raise UserError(
                f"step {state.global_step + 1}: the gradient is not a finite number; training stopped before the "
                "update; resume from the last checkpoint with a lower --learning_rate or --max_grad_norm"
            )
