"""Logits a chunk of rows at a time: log p of the true tokens, and the gradients of their weighted sum.

`LinearHead` knows the gradient of logits = softcap(hidden @ weight^T + bias) in closed form; `ModuleHead` asks
autograd, one chunk at a time, so that any head (LoRA, wrapped, with hooks) will do. `unveil.likelihood.head` puts them
in the graph.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

CHUNK_BYTES = 64 * 2**20
"""Float32 logits that exist at a time (beside them their softmax)."""


def sweep_of(
    head: nn.Module, softcap: float | None, hidden_ND: Tensor, targets_N: Tensor, chunk_bytes: int | None
) -> "Sweep":
    """The cheapest sweep that computes what `head` (then `softcap`: cap tanh(. / cap)) does."""
    kind = LinearHead if _is_linear(head) else ModuleHead
    return kind(head, softcap, hidden_ND, targets_N, chunk_bytes)


class Sweep:
    """One pass over the chunks of the hidden states; subclasses know how to compute and pull back logits."""

    def __init__(
        self, head: nn.Module, softcap: float | None, hidden_ND: Tensor, targets_N: Tensor, chunk_bytes: int | None
    ) -> None:
        self.head, self.softcap, self.targets_N = head, softcap, targets_N
        self.autocast = _autocast_dtype(hidden_ND)
        self.dtype = self.autocast or hidden_ND.dtype
        self.wide = torch.promote_types(self.dtype, torch.float32)
        self.parameters = self._parameters()
        self.vocab = self._vocab(hidden_ND)
        if chunk_bytes is None:
            trained = [p.nbytes for p in self.parameters if p.requires_grad and torch.is_grad_enabled()]
            chunk_bytes = max(CHUNK_BYTES, *(size // 4 for size in trained), 0)
        count = len(hidden_ND)
        most = max(1, chunk_bytes // (self.vocab * self.wide.itemsize))
        chunks = -(-count // most)
        self.rows = -(-count // max(chunks, 1)) or 1  # chunks of even size

    def values(self, hidden_ND: Tensor) -> Tensor:
        """log p `[N]`, no graph."""
        with torch.no_grad():
            return self.run(hidden_ND, None, [False] * (1 + len(self.parameters)))[0]

    def run(
        self, hidden_ND: Tensor, weights_N: Tensor | None, needed: Sequence[bool]
    ) -> tuple[Tensor, list[Tensor | None]]:
        """log p `[N]` and, given weights, the gradients of their weighted sum in hidden states and parameters.

        `needed` says which of (hidden states, *parameters) want one. Call it without gradient mode.
        """
        log_p_N = hidden_ND.new_empty(len(hidden_ND), dtype=self.wide)
        gradients: list[Tensor | None] = [None] * len(needed)
        if needed[0] and weights_N is not None:
            gradients[0] = torch.empty_like(hidden_ND)
        softmax_nV = hidden_ND.new_empty(self.rows, self.vocab, dtype=self.wide)
        self.prepare(hidden_ND)
        for start in range(0, len(hidden_ND), self.rows):
            part = slice(start, min(start + self.rows, len(hidden_ND)))
            targets_n1, size = self.targets_N[part, None], part.stop - start
            logits_nV = self.logits_of_chunk(hidden_ND[part], weights_N is not None, needed)
            log_p_N[part], p_nV = softmax_of(logits_nV, targets_n1, softmax_nV[:size])
            if weights_N is not None:
                self.pull_back(_gradient(p_nV, targets_n1, weights_N[part, None]), part, gradients, needed)
        self.forget()
        return log_p_N, gradients

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """All of them, as the model computes them, with graph."""
        return _capped(self.head(hidden_ND), self.softcap, self.wide)

    def _parameters(self) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def _vocab(self, hidden_ND: Tensor) -> int:
        raise NotImplementedError

    def prepare(self, hidden_ND: Tensor) -> None:
        """Called once before the chunks."""

    def forget(self) -> None:
        """Called once after them: drops what they needed (a graph may keep the sweep until its backward pass)."""
        raise NotImplementedError

    def logits_of_chunk(self, hidden_nD: Tensor, with_gradient: bool, needed: Sequence[bool]) -> Tensor:
        """Logits `[n, V]`, detached; remembers what `pull_back` needs."""
        raise NotImplementedError

    def pull_back(self, d_nV: Tensor, part: slice, gradients: list[Tensor | None], needed: Sequence[bool]) -> None:
        """Add the chunk's share, given the gradient in its logits (may be overwritten), to `gradients`."""
        raise NotImplementedError


class LinearHead(Sweep):
    """logits = softcap(hidden @ weight^T + bias), in closed form and in two buffers."""

    def _parameters(self) -> tuple[Tensor, ...]:
        weight, bias = self.head.weight, self.head.bias
        return (weight,) if bias is None else (weight, bias)  # type: ignore[return-value]

    def _vocab(self, hidden_ND: Tensor) -> int:
        return self.parameters[0].shape[0]

    def prepare(self, hidden_ND: Tensor) -> None:
        self.weight_VD, *self.bias = (p.detach().to(self.dtype) for p in self.parameters)
        self.buffer = hidden_ND.new_empty(self.rows, self.vocab, dtype=self.dtype)

    def forget(self) -> None:
        del self.weight_VD, self.bias, self.buffer, self.hidden, self.capped

    def logits_of_chunk(self, hidden_nD: Tensor, with_gradient: bool, needed: Sequence[bool]) -> Tensor:
        self.hidden = hidden_nD.to(self.dtype)
        out = self.buffer[: len(hidden_nD)]
        if self.bias:
            torch.addmm(self.bias[0], self.hidden, self.weight_VD.t(), out=out)
        else:
            torch.mm(self.hidden, self.weight_VD.t(), out=out)
        if self.softcap is not None:
            out = out.to(self.wide).div_(self.softcap).tanh_().mul_(self.softcap)
        self.capped = out
        return out

    def pull_back(self, d_nV: Tensor, part: slice, gradients: list[Tensor | None], needed: Sequence[bool]) -> None:
        if self.softcap is not None:
            d_nV.mul_(self.capped.div_(self.softcap).square_().neg_().add_(1))
        d_nV = d_nV.to(self.dtype)
        if gradients[0] is not None:
            gradients[0][part] = d_nV @ self.weight_VD
        if needed[1]:
            gradients[1] = _plus_product(gradients[1], d_nV, self.hidden, self.parameters[0].dtype)
        if self.bias and needed[2]:
            gradients[2] = _plus(gradients[2], d_nV.sum(0, dtype=self.wide).to(self.parameters[1].dtype))


class ModuleHead(Sweep):
    """Any other head (LoRA, wrapped, with hooks): a graph of one chunk at a time."""

    def _parameters(self) -> tuple[Tensor, ...]:
        return tuple(p for p in self.head.parameters() if p.requires_grad)

    def _vocab(self, hidden_ND: Tensor) -> int:
        if isinstance(self.head, nn.Identity):
            return hidden_ND.shape[-1]
        size = getattr(self.head, "out_features", None)
        if isinstance(size, int):
            return size
        with torch.no_grad():
            return self.head(hidden_ND[:1]).shape[-1]

    def forget(self) -> None:
        del self.hidden, self.chunk_logits

    def logits_of_chunk(self, hidden_nD: Tensor, with_gradient: bool, needed: Sequence[bool]) -> Tensor:
        device = hidden_nD.device.type
        with torch.set_grad_enabled(with_gradient and any(needed)), _autocast(device, self.autocast):
            self.hidden = hidden_nD.detach().requires_grad_(needed[0])
            self.chunk_logits = self.logits(self.hidden)
        return self.chunk_logits.detach()

    def pull_back(self, d_nV: Tensor, part: slice, gradients: list[Tensor | None], needed: Sequence[bool]) -> None:
        inputs = (self.hidden, *self.parameters)
        wanted = [i for i, wants in enumerate(needed) if wants]
        found = torch.autograd.grad(
            self.chunk_logits, [inputs[i] for i in wanted], d_nV.to(self.chunk_logits.dtype), allow_unused=True
        )
        for i, gradient in zip(wanted, found):
            if i == 0 and gradients[0] is not None:
                gradients[0][part] = gradient
            elif gradient is not None:
                gradients[i] = _plus(gradients[i], gradient)


def softmax_of(logits_nV: Tensor, targets_n1: Tensor, out_nV: Tensor) -> tuple[Tensor, Tensor]:
    """log p of the targets `[n]` and the softmax `[n, V]` (in `out_nV`), one pass of exponentials.

    The largest probability is 1 / sum exp(z - max z) and at least 1 / V, so its logarithm is exact where that of the
    target's own probability may underflow.
    """
    p_nV = torch.softmax(logits_nV, -1, dtype=out_nV.dtype, out=out_nV)
    above_n1 = logits_nV.gather(1, targets_n1).to(p_nV.dtype) - logits_nV.amax(-1, keepdim=True).to(p_nV.dtype)
    return (above_n1 + p_nV.amax(-1, keepdim=True).log())[:, 0], p_nV


def _gradient(p_nV: Tensor, targets_n1: Tensor, weights_n1: Tensor) -> Tensor:
    """w (onehot - softmax), in place of the softmax."""
    return p_nV.mul_(-weights_n1).scatter_add_(1, targets_n1, weights_n1)


def _plus(total: Tensor | None, part: Tensor) -> Tensor:
    if total is None:
        return part
    return total.add_(part) if total.is_contiguous() else total + part


def _plus_product(total: Tensor | None, d_nV: Tensor, hidden_nD: Tensor, dtype: torch.dtype) -> Tensor:
    """total + d^T hidden `[V, D]`, in the dtype of the weight."""
    if total is not None and total.dtype == d_nV.dtype:
        return total.addmm_(d_nV.t(), hidden_nD)
    return _plus(total, (d_nV.t() @ hidden_nD).to(dtype))


def _capped(logits: Tensor, softcap: float | None, wide: torch.dtype) -> Tensor:
    return logits if softcap is None else softcap * torch.tanh(logits.to(wide) / softcap)


def _is_linear(head: nn.Module) -> bool:
    """A plain linear layer that nothing watches or replaces."""
    return (
        type(head).forward is nn.Linear.forward
        and "forward" not in vars(head)
        and not (head._forward_hooks or head._forward_pre_hooks or head._backward_hooks or head._backward_pre_hooks)
        and type(head.weight) in (nn.Parameter, Tensor)
    )


def _autocast_dtype(hidden: Tensor) -> torch.dtype | None:
    device = hidden.device.type
    on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if on and hidden.dtype != torch.float64 else None


def _autocast(device: str, dtype: torch.dtype | None) -> Any:
    """As it was when the forward pass ran; a backward pass runs without."""
    return torch.autocast(device, dtype=dtype, enabled=dtype is not None)
