"""Rotary positions and bidirectional attention over a flat stream of tokens.

Every batch is a flat stream `[N, ...]` of tokens cut into *runs*: `(count, length)` says that the next
`count * length` tokens are `count` segments of `length` tokens. A padded batch [B, T] is the single run
`(B, T)`; a packed batch has one run per stretch of equal-length neighbours. Attention never crosses a segment.

Two back ends compute it. Scaled-dot-product attention, one call without mask per run, works on any device and is
what the other is measured against. On CUDA, in bfloat16 or float16, a variable-length flash kernel (`varlen`) takes
all segments in one call; a stream of many different lengths needs it. Pieces are cut with `split` (backward: one
`cat`), never by slicing, whose backward writes a stream-sized tensor of zeros for every piece.

Queries may be a part of their segments: with `KeyValues` from an earlier forward each segment has its own number of
queries and of keys, and a run is a stretch of neighbours that agree in both.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, groupby
from typing import ParamSpec, TypeVar, cast, overload

import torch
from torch import Tensor
from torch.nn import functional as F

from unveil.models.key_values import KeyValues
from unveil.models.varlen import refusal, varlen_attention

Runs = tuple[tuple[int, int], ...]

P = ParamSpec("P")
R = TypeVar("R")


def untraced(function: Callable[P, R]) -> Callable[P, R]:
    """`torch.compile` calls it as it is: what depends on the lengths of a batch would be a graph for each of them."""
    return cast(Callable[P, R], torch.compiler.disable(function))


class Segments(Sequence[int]):
    """Lengths of a stream's segments, opaque to `torch.compile`, which makes a graph per length of a list or tuple."""

    def __init__(self, lengths: Iterable[int]) -> None:
        self._lengths = tuple(lengths)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[int, ...]: ...
    def __getitem__(self, index: int | slice) -> int | tuple[int, ...]:
        return self._lengths[index]

    def __len__(self) -> int:
        return len(self._lengths)


class Layout:
    """What all blocks of one forward share: runs, the mask of a padded batch, the rotary tables, the back end.

    `attention` is "auto", "sdpa" or a name that `varlen` knows; the kernels of the latter read `cu_seqlens`
    (int32 [segments + 1]: where segments start and end) and `longest`.

    A plain class on purpose: FSDP casts the floating-point tensors that it finds in the arguments of a block, and
    the tables must keep their precision.
    """

    def __init__(
        self,
        runs: Runs,
        mask: Tensor | None,
        cos: Tensor,
        sin: Tensor,
        attention: str = "sdpa",
        key_values: KeyValues | None = None,
        key_index: Tensor | None = None,
        key_runs: Runs | None = None,
    ) -> None:
        self.runs = runs
        self.key_runs = runs if key_runs is None else key_runs
        self.key_values, self.key_index = key_values, key_index
        self.one_run = len(runs) == 1
        self.mask = mask  # [B, 1, 1, T], True = visible key; None when all are
        self.cos, self.sin = cos, sin  # [N, 1, head_dim / 2]
        self.attention = attention
        self.longest = max(length for _, length in runs)
        self.longest_key = max(length for _, length in self.key_runs)
        self.cu_seqlens = self.cu_seqlens_k = None
        if attention != "sdpa" and mask is None and (cos.is_cuda or attention != "auto"):
            self.cu_seqlens = self.cu_seqlens_k = _ends(runs, cos.device)
            if key_runs is not None:
                self.cu_seqlens_k = _ends(key_runs, cos.device)

    def with_kept(self, layer: int, k_MGD: Tensor, v_MGD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values that the queries meet: those just computed, among the kept ones if there are any."""
        if self.key_values is None:
            return k_MGD, v_MGD
        return self.key_values.put(layer, k_MGD, v_MGD, self.key_index)


def _ends(runs: Runs, device: torch.device) -> Tensor:
    ends = accumulate((length for count, length in runs for _ in range(count)), initial=0)
    return torch.tensor(list(ends), dtype=torch.int32, device=device)


def paired_runs(query_lengths: Sequence[int], key_lengths: Sequence[int]) -> tuple[Runs, Runs]:
    """Runs of neighbours with as many queries and as many keys each; `ValueError` when the lengths do not fit."""
    if len(query_lengths) != len(key_lengths) or any(q > k for q, k in zip(query_lengths, key_lengths)):
        raise ValueError("key_values: segment_lengths must name every segment, with at most as many tokens as it has")
    groups = [(len(list(group)), lengths) for lengths, group in groupby(zip(query_lengths, key_lengths))]
    return tuple((n, q) for n, (q, _) in groups), tuple((n, k) for n, (_, k) in groups)


def lay_out(
    batch: int,
    length: int,
    segment_lengths: Sequence[int] | None,
    attention_mask: Tensor | None,
    position_ids: Tensor | None,
    device: torch.device,
) -> tuple[Runs, Tensor | None, Tensor]:
    """Runs, mask and positions [N] of an input [batch, length]; `ValueError` when the arguments do not fit.

    By default each segment counts its positions from 0, and only real tokens count, so that padding changes nothing.
    """
    mask = None
    if segment_lengths is not None:
        if attention_mask is not None:
            raise ValueError("packed input (segment_lengths) has no padding: attention_mask must be None")
        if batch != 1 or sum(segment_lengths) != length or min(segment_lengths, default=0) < 1:
            raise ValueError(
                "packed input must be [1, sum(segment_lengths)] with positive lengths, not "
                f"[{batch}, {length}] with {len(segment_lengths)} lengths that sum to {sum(segment_lengths)}"
            )
        runs = tuple((len(list(group)), size) for size, group in groupby(segment_lengths))
    else:
        runs = ((batch, length),)
        if attention_mask is not None:
            if attention_mask.shape != (batch, length):
                raise ValueError(f"attention_mask has shape {tuple(attention_mask.shape)}, not {(batch, length)}")
            visible = attention_mask.bool()
            mask = None if bool(visible.all()) else visible[:, None, None, :]
    if position_ids is not None:
        positions = position_ids.expand(batch, length).reshape(-1)
    elif mask is not None:
        positions = (mask.long().cumsum(-1) - 1).clamp(min=0).view(-1)
    else:
        positions = torch.cat([torch.arange(size, device=device).repeat(count) for count, size in runs])
    return runs, mask, positions


def rotary_tables(positions_N: Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines [N, 1, head_dim / 2] of `position * theta^(-2i / head_dim)`, computed in float32 or wider."""
    wide = torch.promote_types(dtype, torch.float32)
    exponents = torch.arange(0, head_dim, 2, dtype=wide, device=positions_N.device) / head_dim
    angles = positions_N.to(wide)[:, None, None] * theta**-exponents
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x_NHD: Tensor, layout: Layout) -> Tensor:
    """RoPE, rotate-half layout: channel i is paired with channel i + D/2. Computed in the dtype of the tables."""
    cos, sin = layout.cos.to(x_NHD.device), layout.sin.to(x_NHD.device)
    first, second = x_NHD.to(cos.dtype).chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x_NHD.dtype)


def attend(q_NHD: Tensor, k_NGD: Tensor, v_NGD: Tensor, layout: Layout, dropout: float = 0.0) -> Tensor:
    """Bidirectional attention inside each segment; returns [N, H * D].

    Fewer key-value heads than query heads (G < H) are shared, each by H / G neighbouring query heads.
    """
    if _takes_varlen(q_NHD, layout, dropout):
        ends = [cu.to(q_NHD.device) for cu in (layout.cu_seqlens, layout.cu_seqlens_k)]  # type: ignore[union-attr]
        longest = (layout.longest, layout.longest_key)
        return varlen_attention(layout.attention, q_NHD, k_NGD, v_NGD, (ends[0], ends[1]), longest).flatten(1)
    if layout.one_run:
        return _attend_run(q_NHD, k_NGD, v_NGD, layout.runs[0], layout.key_runs[0], layout.mask, dropout)
    return _attend_by_run(q_NHD, k_NGD, v_NGD, layout, dropout)


def _takes_varlen(q_NHD: Tensor, layout: Layout, dropout: float) -> bool:
    """A kernel asked for by name is used or refused; on its own it is taken where it works and lengths differ."""
    if layout.cu_seqlens is None:
        return False
    reason = refusal(layout.attention, q_NHD, dropout)
    if layout.attention == "auto":
        return reason is None and not layout.one_run
    if reason is not None:
        raise ValueError(f"attn_implementation={layout.attention!r} {reason}; leave it out or give sdpa")
    return True


@untraced
def _attend_by_run(q: Tensor, k: Tensor, v: Tensor, layout: Layout, dropout: float) -> Tensor:
    sizes, key_sizes = ([count * length for count, length in runs] for runs in (layout.runs, layout.key_runs))
    pieces = zip(q.split(sizes), k.split(key_sizes), v.split(key_sizes), layout.runs, layout.key_runs)
    return torch.cat([_attend_run(*piece, None, dropout) for piece in pieces])


def _attend_run(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    run: tuple[int, int],
    key_run: tuple[int, int],
    mask: Tensor | None,
    dropout: float,
) -> Tensor:
    q = q.view(*run, *q.shape[1:]).transpose(1, 2)
    k, v = (x.view(*key_run, *x.shape[1:]).transpose(1, 2) for x in (k, v))
    if mask is not None:
        mask = mask.to(q.device)
    shared = q.shape[1] != k.shape[1]
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, enable_gqa=shared)
    return out.transpose(1, 2).reshape(run[0] * run[1], -1)
