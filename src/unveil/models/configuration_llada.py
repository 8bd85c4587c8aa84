"""The configuration of LLaDA (arXiv 2502.09992), under the field names of the published `config.json`.

The defaults are those of LLaDA-8B. A published field that this package cannot honour is refused by name
rather than ignored: a model that silently computes something else is worse than none.
"""

import math
from types import UnionType
from typing import Any, ClassVar, get_args

from transformers import PretrainedConfig

from unveil.errors import UserError, shortened

# Published field -> the values this implementation computes. The first one is the default.
_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "block_type": ("llama",),
    "block_group_size": (1,),
    "activation_type": ("silu",),
    "layer_norm_type": ("rms",),
    "layer_norm_with_affine": (True,),
    "attention_layer_norm": (False,),
    "alibi": (False,),
    "rope": (True,),
    "clip_qkv": (None,),
    "init_fn": ("mitchell", "normal"),
}


_UNTYPED = ("model_type", "attribute_map", *_SUPPORTED)


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value of JSON has the type of a field; a whole number may stand where a fraction may."""
    kinds = get_args(kind) or (kind,)
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, list):
        return list[int] in kinds and bool(value) and all(type(item) is int for item in value)
    if isinstance(value, int) and (int in kinds or float in kinds):
        return True
    if isinstance(value, float) and float in kinds:
        return math.isfinite(value)
    return (value is None and type(None) in kinds) or (isinstance(value, str) and str in kinds)


class LLaDAConfig(PretrainedConfig):
    """Architecture of a LLaDA model: a Llama-like encoder without causal mask.

    `mlp_hidden_size` may be None (then `mlp_ratio * d_model`), `n_kv_heads` may be None (then `n_heads`, or 1 with
    `multi_query_attention`), `embedding_size` may be None (then `vocab_size`): all are filled in here, so that
    readers find numbers. The ids of special tokens have no default: they belong to a tokenizer.

    Raises `UserError` naming the field for a value that is not supported or does not fit the others.
    """

    model_type = "llada"
    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "d_model",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "num_key_value_heads": "n_kv_heads",
        "intermediate_size": "mlp_hidden_size",
        "max_position_embeddings": "max_sequence_length",
        "tie_word_embeddings": "weight_tying",
    }

    d_model: int = 4096
    n_layers: int = 32
    n_heads: int = 32
    n_kv_heads: int | None = None
    multi_query_attention: bool | None = None
    mlp_hidden_size: int | None = 12288
    mlp_ratio: int | float = 4
    activation_type: str = "silu"
    block_type: str = "llama"
    block_group_size: int = 1
    layer_norm_type: str = "rms"
    layer_norm_with_affine: bool = True
    attention_layer_norm: bool = False
    rms_norm_eps: float = 1e-5
    alibi: bool = False
    clip_qkv: float | None = None
    rope: bool = True
    rope_theta: int | float = 500000.0
    rope_full_precision: bool = True
    max_sequence_length: int = 4096
    vocab_size: int = 126464
    embedding_size: int | None = None
    weight_tying: bool = False
    scale_logits: bool = False
    input_emb_norm: bool = False
    include_bias: bool = False
    include_qkv_bias: bool | None = False
    bias_for_layer_norm: bool | None = False
    attention_dropout: float = 0.0
    residual_dropout: float = 0.0
    embedding_dropout: float = 0.0
    init_fn: str = "mitchell"
    init_std: float = 0.02
    use_cache: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None
    mask_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        # A local `auto_map` points at code files beside the weights that this package neither needs nor saves;
        # one qualified with its repository ("owner/name--module.Class") stays true wherever the config goes.
        auto_map = kwargs.pop("auto_map", None)
        if auto_map and all("--" in str(target) for target in auto_map.values()):
            kwargs["auto_map"] = auto_map
        super().__post_init__(**kwargs)
        self._refuse_wrong_types()
        if self.n_kv_heads is None:
            self.n_kv_heads = 1 if self.multi_query_attention else self.n_heads
        if self.mlp_hidden_size is None:
            self.mlp_hidden_size = int(self.mlp_ratio * self.d_model)
        if self.embedding_size is None:
            self.embedding_size = self.vocab_size
        if self.bias_for_layer_norm is None:
            self.bias_for_layer_norm = self.include_bias
        self._refuse_unsupported()

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.n_heads

    def _refuse_wrong_types(self) -> None:
        """JSON holds anything; what is no number fails far from here, and NaN does not fail at all."""
        for field, kind in LLaDAConfig.__annotations__.items():
            value = getattr(self, field)
            if field not in _UNTYPED and not _is_of(value, kind):
                wanted = (str(kind) if isinstance(kind, UnionType) else kind.__name__).replace(" | ", " or ")
                raise UserError(f"LLaDA config: {field}={shortened(value)} is no {wanted}; correct config.json")
        for field in ("max_sequence_length", "rope_theta", "mlp_ratio"):
            if getattr(self, field) <= 0:
                raise UserError(f"LLaDA config: {field}={getattr(self, field)!r}; give a number above 0")
        for field in ("rms_norm_eps", "init_std"):
            if getattr(self, field) < 0:
                raise UserError(f"LLaDA config: {field}={getattr(self, field)!r}; give a number of at least 0")
        for field in ("attention_dropout", "residual_dropout", "embedding_dropout"):
            if not 0 <= getattr(self, field) < 1:
                raise UserError(f"LLaDA config: {field}={getattr(self, field)!r}; give a number from 0 to below 1")

    def _refuse_unsupported(self) -> None:
        for field, supported in _SUPPORTED.items():
            value = getattr(self, field)
            if value not in supported:
                choices = " or ".join(repr(choice) for choice in supported)
                raise UserError(
                    f"LLaDA config: {field}={value!r} is not supported; use a checkpoint with {field}={choices}"
                )
        for field in ("d_model", "n_layers", "n_heads", "n_kv_heads", "mlp_hidden_size", "vocab_size"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < 1:
                raise UserError(f"LLaDA config: {field}={value!r}; give a positive integer")
        if self.d_model % self.n_heads or self.head_dim % 2:
            raise UserError(
                f"LLaDA config: d_model={self.d_model} does not give n_heads={self.n_heads} heads of an even width; "
                "change one of them"
            )
        if self.n_heads % (self.n_kv_heads or 1):
            raise UserError(
                f"LLaDA config: n_kv_heads={self.n_kv_heads} does not divide n_heads={self.n_heads}; change one of them"
            )
        if (self.embedding_size or 0) < self.vocab_size:
            raise UserError(
                f"LLaDA config: embedding_size={self.embedding_size} is below vocab_size={self.vocab_size}; "
                "raise embedding_size"
            )
