"""log p(true token) at hidden places, without ever holding all logits.

The head (a linear map to V logits, V some 10^5) is cheap to run and dear to remember: N hidden places need N x V
numbers, and as much again for the gradient. Here they exist a chunk of rows at a time. For a weighted sum of log-
probabilities the gradient of a row is known as soon as its logits are,

    d / d logits  sum_n w_n log softmax(logits_n)[y_n]  =  w_n (onehot(y_n) - softmax(logits_n)),

so where the weights are known beforehand (`weighted_log_probs`: the second pass) the chunk's gradients are taken in
the forward pass and its logits forgotten; only the gradients of hidden states and head are kept. Where they are not
(`hidden_log_probs`) the backward pass computes the logits again. Sums and softmax are float32 or wider.

The head runs inside the model's `forward`, where distributed wrappers have its weights ready, and its gradients leave
through autograd, so that their hooks see them. It must compute one function: no dropout in it.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from unveil.likelihood.logit_chunks import Sweep, softmax_of, sweep_of
from unveil.likelihood.packing import PackedRows
from unveil.models import Denoiser
from unveil.models.attention import untraced


class WeightedLogProbs(NamedTuple):
    """`total`: sum_n w_n log p_n, nats, with gradient; `log_p_N`: float32 or wider, detached."""

    total: Tensor
    log_p_N: Tensor


def hidden_log_probs(denoiser: Denoiser, packed: PackedRows, chunk_bytes: int | None = None) -> Tensor:
    """log p of the true token at every hidden place of the stream, `[N]` nats, float32 or wider.

    Differentiable for any upstream gradient when gradients are on; more than one chunk of logits is then computed a
    second time in the backward pass.
    """
    read_out = _ReadOut(packed.targets_N, None, chunk_bytes)
    found = denoiser.read_out_at(packed.input_ids_1T, packed.segment_lengths, packed.index_N, read_out)
    return read_out.exact(found, read_out.log_p_N)


def weighted_log_probs(
    denoiser: Denoiser, packed: PackedRows, weights_N: Tensor, chunk_bytes: int | None = None
) -> WeightedLogProbs:
    """sum_n w_n log p_n with its gradient, and the log-probabilities themselves.

    Args:
        denoiser: the model.
        packed: one micro-batch.
        weights_N: constants, one per hidden place in the order of the stream (`PackedRows.in_stream`).
        chunk_bytes: float32 logits that may exist at a time; None for `CHUNK_BYTES`, or a quarter of the gradient of
            the head's weight where that exists and is more.

    Backward is allowed once: it scales the gradients found in the forward pass in place.
    """
    if weights_N.shape != packed.targets_N.shape:
        raise ValueError(f"{len(weights_N)} weights for {len(packed.targets_N)} hidden places")
    read_out = _ReadOut(packed.targets_N, weights_N.detach(), chunk_bytes)
    found = denoiser.read_out_at(packed.input_ids_1T, packed.segment_lengths, packed.index_N, read_out)
    return WeightedLogProbs(read_out.exact(found, read_out.total), read_out.log_p_N)


class _ReadOut:
    """What `forward` calls in place of the head. Numbers also leave by attribute: FSDP casts what `forward` takes and
    returns, to bfloat16 if need be."""

    log_p_N: Tensor
    total: Tensor

    def __init__(self, targets_N: Tensor, weights_N: Tensor | None, chunk_bytes: int | None) -> None:
        self.targets_N, self.weights_N, self.chunk_bytes = targets_N, weights_N, chunk_bytes

    def __call__(self, head: nn.Module, hidden: Tensor, softcap: float | None = None) -> Tensor:
        """log p `[N]`, or their weighted sum, of hidden states `[..., D]`; `softcap`: logits are cap tanh(. / cap)."""
        return self._read(head, hidden, softcap)

    @untraced
    def _read(self, head: nn.Module, hidden: Tensor, softcap: float | None) -> Tensor:
        hidden_ND = hidden.reshape(-1, hidden.shape[-1])
        sweep = sweep_of(head, softcap, hidden_ND, self.targets_N.to(hidden.device), self.chunk_bytes)
        inputs = (hidden_ND, *sweep.parameters)
        graph = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
        weights_N = None if self.weights_N is None else self.weights_N.to(hidden.device, sweep.wide)
        if weights_N is None:
            if graph and sweep.rows >= len(hidden_ND):
                found = _PickedLogProbs.apply(sweep.logits(hidden_ND), sweep.targets_N, sweep.wide)
            else:
                found = _LogProbs.apply(sweep, *inputs) if graph else sweep.values(hidden_ND)
            self.log_p_N = found.detach()
        elif graph:
            found, self.log_p_N = _WeightedSum.apply(sweep, weights_N, *inputs)
            self.total = found.detach()
        else:
            self.log_p_N = sweep.values(hidden_ND)
            self.total = found = (weights_N * self.log_p_N).sum()
        return found

    @staticmethod
    def exact(found: Tensor, value: Tensor) -> Tensor:
        """`found` with its graph, but with the value that it had before a wrapper cast it."""
        if found.dtype == value.dtype:
            return found
        return value + (found - found.detach()).to(value.dtype) if found.requires_grad else value


class _WeightedSum(torch.autograd.Function):
    """sum_n w_n log p_n; all gradients are found in the forward pass."""

    @staticmethod
    def forward(ctx: Any, sweep: Sweep, weights_N: Tensor, hidden_ND: Tensor, *parameters: Tensor):
        log_p_N, gradients = sweep.run(hidden_ND, weights_N, ctx.needs_input_grad[2:])
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(log_p_N)
        return (weights_N * log_p_N).sum(), log_p_N

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor, _: Tensor):
        # In place: they are the largest tensors here. A second backward would be refused by autograd's own check.
        return None, None, *(g if g is None else g.mul_(upstream.to(g.dtype)) for g in ctx.saved_tensors)


class _LogProbs(torch.autograd.Function):
    """log p `[N]`; the backward pass computes the logits again."""

    @staticmethod
    def forward(ctx: Any, sweep: Sweep, hidden_ND: Tensor, *parameters: Tensor) -> Tensor:
        ctx.sweep = sweep
        ctx.save_for_backward(hidden_ND, *parameters)
        return sweep.run(hidden_ND, None, [False] * (1 + len(parameters)))[0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream_N: Tensor):
        hidden_ND, *_ = ctx.saved_tensors
        return None, *ctx.sweep.run(hidden_ND, upstream_N.to(ctx.sweep.wide), ctx.needs_input_grad[1:])[1]


class _PickedLogProbs(torch.autograd.Function):
    """log softmax(logits)[targets] `[N]` of one chunk; keeps the softmax."""

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, targets_N: Tensor, wide: torch.dtype) -> Tensor:
        log_p_N, p_NV = softmax_of(logits_NV, targets_N[:, None], torch.empty_like(logits_NV, dtype=wide))
        ctx.save_for_backward(p_NV, targets_N)
        ctx.dtype = logits_NV.dtype
        return log_p_N

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream_N: Tensor):
        p_NV, targets_N = ctx.saved_tensors
        d_NV = p_NV * -upstream_N[:, None]
        return d_NV.scatter_add_(1, targets_N[:, None], upstream_N[:, None]).to(ctx.dtype), None, None
