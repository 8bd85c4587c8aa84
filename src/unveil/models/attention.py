"""Rotary positions and bidirectional attention over a flat stream of tokens.

Every batch is a flat stream `[N, ...]` of tokens cut into *runs*: `(count, length)` says that the next
`count * length` tokens are `count` segments of `length` tokens. A padded batch [B, T] is the single run
`(B, T)`; a packed batch has one run per stretch of equal-length neighbours. Attention never crosses a segment,
and each run is one call of scaled-dot-product attention without mask. Pieces are cut with `split` (backward: one
`cat`), never by slicing, whose backward writes a stream-sized tensor of zeros for every piece.
"""

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor
from torch.nn import functional as F

Runs = tuple[tuple[int, int], ...]


class Layout:
    """What all blocks of one forward share: runs, the mask of a padded batch, the rotary tables.

    A plain class on purpose: FSDP casts the floating-point tensors that it finds in the arguments of a block, and
    the tables must keep their precision.
    """

    def __init__(self, runs: Runs, mask: Tensor | None, cos: Tensor, sin: Tensor) -> None:
        self.runs = runs
        self.mask = mask  # [B, 1, 1, T], True = visible key; None when all are
        self.cos, self.sin = cos, sin  # [N, 1, head_dim / 2]


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
    if len(layout.runs) == 1:
        return _attend_run(q_NHD, k_NGD, v_NGD, layout.runs[0], layout.mask, dropout)
    sizes = [count * length for count, length in layout.runs]
    pieces = zip(q_NHD.split(sizes), k_NGD.split(sizes), v_NGD.split(sizes), layout.runs)
    return torch.cat([_attend_run(q, k, v, run, None, dropout) for q, k, v, run in pieces])


def _attend_run(q: Tensor, k: Tensor, v: Tensor, run: tuple[int, int], mask: Tensor | None, dropout: float) -> Tensor:
    q, k, v = (x.view(*run, *x.shape[1:]).transpose(1, 2) for x in (q, k, v))
    if mask is not None:
        mask = mask.to(q.device)
    shared = q.shape[1] != k.shape[1]
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, enable_gqa=shared)
    return out.transpose(1, 2).reshape(run[0] * run[1], -1)
