"""The published ELBO-KTO step (arXiv 2510.23658), re-enacted from its description on our LLaDA network.

One example at a time: its row is padded with EOS to the full context, and the padding is visible (no attention mask);
8 draws of (size, positions) are run one after the other, each a forward of the whole padded row with logits of the
whole vocabulary at every position; per draw the mean log-probability of the hidden tokens is multiplied by L; all
graphs live until the loss, under per-block activation checkpointing; the baseline is the mean margin of the
micro-batch, and the gradient is accumulated over the optimizer batch. The reference was scored before, on the same
draws, and is read from a table.

In its favour: sharding traffic is left out, the float32 log-softmax is taken at hidden positions only, and draws come
from the same integer plan as ours.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.proportional import Batch, checkpointed
from unveil.draws import Plan, plan
from unveil.likelihood import Response
from unveil.models import LLaDAModelLM

BETA = 0.1


def published_plans(batch: Batch, num_draws: int, epoch: int = 0) -> list[Plan]:
    """Independent sizes and sets, as published."""
    return [plan(0, r.example_id, epoch, r.length, num_draws, "iid") for r in batch.responses]


def published_value(
    model: LLaDAModelLM, response: Response, draws: Plan, padded_length: int, hidden_logits: bool = False
) -> Tensor:
    """B of one response: mean over draws of L times the mean hidden log-probability, nats.

    hidden_logits: not in the published step; the head runs at hidden tokens only.
    """
    check_length(response, padded_length)
    eos, mask = model.config.eos_token_id, model.config.mask_token_id
    ids = torch.full((1, padded_length), eos)  # type: ignore[arg-type]
    real = torch.tensor([*response.prompt_ids, *response.completion_ids])
    ids[0, : len(real)] = real
    values = []
    for positions in draws.positions:
        hidden = torch.from_numpy(positions) + len(response.prompt_ids)
        masked = ids.clone()
        masked[0, hidden] = mask  # type: ignore[assignment]
        logits_1TV = model(input_ids=masked, logits_to_keep=hidden if hidden_logits else 0).logits
        logits_NV = logits_1TV[0] if hidden_logits else logits_1TV[0, hidden]
        log_p = logits_NV.float().log_softmax(dim=-1).gather(1, ids[0, hidden, None])
        values.append(log_p.mean() * response.length)
    return torch.stack(values).mean()


def check_length(response: Response, padded_length: int) -> None:
    """The published step would cut it; the benchmark's batches have no such row."""
    if len(response.prompt_ids) + response.length > padded_length:
        raise ValueError(f"example {response.example_id} is longer than the padded length {padded_length}")


def published_reference(model: LLaDAModelLM, batch: Batch, plans: Sequence[Plan], padded_length: int) -> list[float]:
    """The reference pass: B of every response, without gradient."""
    with torch.no_grad():
        return [float(published_value(model, r, p, padded_length)) for r, p in zip(batch.responses, plans)]


def published_step(
    model: LLaDAModelLM,
    batch: Batch,
    plans: Sequence[Plan],
    reference: Sequence[float],
    padded_length: int,
    hidden_logits: bool = False,
) -> float:
    """Accumulate the gradient of one optimizer batch in micro-batches of one example; returns the mean loss."""
    total = 0.0
    for response, desirable, draws, ref in zip(batch.responses, batch.desirable, plans, reference, strict=True):
        with checkpointed(model):
            margins = (published_value(model, response, draws, padded_length, hidden_logits) - ref)[None]
        baseline = margins.detach().mean()
        sign = 1.0 if desirable else -1.0
        loss = (1 - torch.sigmoid(sign * BETA * (margins - baseline))).mean() / len(batch.responses)
        loss.backward()
        total += float(loss.detach())
    return total
