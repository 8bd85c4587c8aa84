"""Variable-length flash attention: all segments of a packed stream in one kernel, on CUDA, bfloat16 or float16.

Two sources: "varlen" is torch's own `torch.nn.attention.varlen`; every other name is given to transformers, which
finds flash-attention ("flash_attention_2", "flash_attention_3") or, through the `kernels` package, a kernel on the hub
("kernels-community/flash-attn2"). No other device needs any of it.
"""

import inspect
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # before torch 2.10
    varlen_attn = None
_SHARES_HEADS = varlen_attn is not None and "enable_gqa" in inspect.signature(varlen_attn).parameters


def refusal(name: str, q_NHD: Tensor, dropout: float) -> str | None:
    """Why the kernel `name` ("auto" stands for torch's) cannot take these queries; None when it can."""
    if q_NHD.device.type != "cuda":
        return f"needs a CUDA device, the model is on {q_NHD.device.type}"
    if q_NHD.dtype not in (torch.bfloat16, torch.float16):
        return f"needs bfloat16 or float16, attention is computed in {q_NHD.dtype}"
    if q_NHD.shape[-1] % 8 or q_NHD.shape[-1] > 256:
        return f"needs heads of a multiple of 8 channels and at most 256, they have {q_NHD.shape[-1]}"
    if dropout:
        return f"has no dropout, attention_dropout is {dropout}"
    if name in ("auto", "varlen") and varlen_attn is None:
        return "needs torch.nn.attention.varlen, which this torch lacks"
    return None


def varlen_attention(
    name: str,
    q_NHD: Tensor,
    k_NGD: Tensor,
    v_NGD: Tensor,
    cu_seqlens: tuple[Tensor, Tensor],
    longest: tuple[int, int],
) -> Tensor:
    """Bidirectional attention [N, H, D] inside segments.

    `cu_seqlens` (int32 [segments + 1]) delimits them, for queries and for keys; `longest` is their largest length.
    """
    if name not in ("auto", "varlen"):
        return _flash_attention(name, q_NHD, k_NGD, v_NGD, cu_seqlens, longest)
    extra = {}
    if q_NHD.shape[1] != k_NGD.shape[1]:
        if _SHARES_HEADS:
            extra["enable_gqa"] = True
        else:
            k_NGD, v_NGD = (x.repeat_interleave(q_NHD.shape[1] // x.shape[1], dim=1) for x in (k_NGD, v_NGD))
    assert varlen_attn is not None  # `refusal` said so
    out = varlen_attn(q_NHD, k_NGD, v_NGD, *cu_seqlens, *longest, **extra)
    return out if isinstance(out, Tensor) else out[0]


def _flash_attention(
    name: str,
    q_NHD: Tensor,
    k_NGD: Tensor,
    v_NGD: Tensor,
    cu_seqlens: tuple[Tensor, Tensor],
    longest: tuple[int, int],
) -> Tensor:
    out = flash_kernel(name)(
        q_NHD,
        k_NGD,
        v_NGD,
        cu_seqlens_q=cu_seqlens[0],
        cu_seqlens_k=cu_seqlens[1],
        max_seqlen_q=longest[0],
        max_seqlen_k=longest[1],
        causal=False,
    )
    return out[0] if isinstance(out, tuple) else out  # some versions return the log-normalisers too


@cache
def flash_kernel(name: str) -> Callable:
    """The variable-length function of a flash-attention that transformers knows by `name`."""
    from transformers.modeling_flash_attention_utils import lazy_import_flash_attention

    return lazy_import_flash_attention(name)[0][1]
