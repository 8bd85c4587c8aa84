"""LLaDA (arXiv 2502.09992): a Llama-like encoder that predicts every masked token at once.

Pre-norm blocks, `x + attn_out(attention(x))` then `x + ff_out(silu(ff_proj(x)) * up_proj(x))`; no causal mask, no
time input. Module names are those of the published checkpoints (`model.transformer.blocks.0.q_proj.weight`, ...),
so that published weights load as they are. Inside the network a batch is a flat stream of tokens (`attention`).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput

from unveil.models.attention import Layout, attend, lay_out, paired_runs, rotary_tables, rotate, untraced
from unveil.models.configuration_llada import LLaDAConfig
from unveil.models.key_values import KeyValues

# The linear layers of the blocks, for `peft.LoraConfig(target_modules=LORA_TARGETS)`. The bare name `ff_out` would
# also match the language-model head.
LORA_TARGETS = r".*\.blocks\.\d+\.(q_proj|k_proj|v_proj|attn_out|ff_proj|up_proj|ff_out)"


class LLaDARMSNorm(nn.Module):
    """x / rms(x), computed in at least float32 and cast back, then times `weight`."""

    def __init__(self, config: LLaDAConfig) -> None:
        super().__init__()
        self.eps = config.rms_norm_eps
        self.weight = nn.Parameter(torch.ones(config.d_model))
        self.bias = nn.Parameter(torch.zeros(config.d_model)) if config.bias_for_layer_norm else None

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        out = self.weight * wide.to(x.dtype)
        return out if self.bias is None else out + self.bias


class LLaDABlock(GradientCheckpointingLayer):
    """One transformer block over a flat stream: [N, d_model] -> [N, d_model], or [M, d_model] with `keep_M`."""

    def __init__(self, config: LLaDAConfig, layer: int) -> None:
        super().__init__()
        self.config = config
        self.layer = layer
        width, kv_width = config.d_model, config.head_dim * cast(int, config.n_kv_heads)
        mlp_width = cast(int, config.mlp_hidden_size)
        bias, qkv_bias = config.include_bias, bool(config.include_bias or config.include_qkv_bias)
        self.attn_norm = LLaDARMSNorm(config)
        self.q_proj = nn.Linear(width, width, bias=qkv_bias)
        self.k_proj = nn.Linear(width, kv_width, bias=qkv_bias)
        self.v_proj = nn.Linear(width, kv_width, bias=qkv_bias)
        self.attn_out = nn.Linear(width, width, bias=bias)
        self.ff_norm = LLaDARMSNorm(config)
        self.ff_proj = nn.Linear(width, mlp_width, bias=bias)
        self.up_proj = nn.Linear(width, mlp_width, bias=bias)
        self.ff_out = nn.Linear(mlp_width, width, bias=bias)
        for writes_to_stream in (self.attn_out, self.ff_out):
            writes_to_stream.init_scale = 1 / math.sqrt(2 * (layer + 1))  # type: ignore[assignment]

    def forward(
        self,
        x_ND: Tensor,
        layout: Layout,
        keep_M: Tensor | None = None,
    ) -> Tensor:
        config = self.config
        normed = self.attn_norm(x_ND)
        q_NHD, k_NGD, v_NGD = (
            projection(normed).unflatten(-1, (-1, config.head_dim))
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        dropout = config.attention_dropout if self.training else 0.0
        k_NGD, v_NGD = layout.with_kept(self.layer, rotate(k_NGD, layout), v_NGD)
        attended = attend(rotate(q_NHD, layout), k_NGD, v_NGD, layout, dropout)
        if keep_M is not None:  # what follows works token by token: the other tokens are no longer needed
            attended, x_ND = attended.index_select(0, keep_M), x_ND.index_select(0, keep_M)
        x_ND = x_ND + self._dropout(self.attn_out(attended))
        normed = self.ff_norm(x_ND)
        return x_ND + self._dropout(self.ff_out(F.silu(self.ff_proj(normed)) * self.up_proj(normed)))

    def _dropout(self, x: Tensor) -> Tensor:
        rate = self.config.residual_dropout
        return F.dropout(x, rate, self.training) if rate else x


class LLaDAModel(nn.Module):
    """Embedding, blocks and final norm; it also owns the head `transformer.ff_out`, as published checkpoints do."""

    def __init__(self, config: LLaDAConfig) -> None:
        super().__init__()
        self.config = config
        rows = cast(int, config.embedding_size)
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(rows, config.d_model),
                "blocks": nn.ModuleList([LLaDABlock(config, layer) for layer in range(config.n_layers)]),
                "ln_f": LLaDARMSNorm(config),
                "ff_out": nn.Linear(config.d_model, rows, bias=config.include_bias),
            }
        )

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        segment_lengths: Sequence[int] | None = None,
        output_hidden_states: bool = False,
        keep: Tensor | None = None,
        key_values: KeyValues | None = None,
        key_index: Tensor | None = None,
    ) -> BaseModelOutput:
        """Hidden states before the head, [B, T, D], or [B, M, D] for the positions `keep` [M] of each row."""
        config = self.config
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        x_BTD = self.transformer["wte"](input_ids) if inputs_embeds is None else inputs_embeds
        batch, length, width = x_BTD.shape
        layout = self._lay_out(x_BTD, segment_lengths, attention_mask, position_ids, key_values, key_index)

        x_ND = x_BTD.reshape(-1, width)
        if config.input_emb_norm:
            x_ND = x_ND * math.sqrt(width)
        if config.embedding_dropout:
            x_ND = F.dropout(x_ND, config.embedding_dropout, self.training)
        flat_keep = None
        if keep is not None:
            flat_keep = (
                keep if batch == 1 else (length * torch.arange(batch, device=keep.device)[:, None] + keep).view(-1)
            )

        collected = []
        for layer, block in enumerate(cast(nn.ModuleList, self.transformer["blocks"])):
            if output_hidden_states:
                collected.append(x_ND.view(batch, length, width))
            x_ND = block(x_ND, layout, flat_keep if layer == config.n_layers - 1 else None)
        x_ND = self.transformer["ln_f"](x_ND)
        if config.scale_logits:  # the head is linear: scaling its input scales the logits
            x_ND = x_ND / math.sqrt(width)
        hidden = x_ND.view(batch, -1, width)
        return BaseModelOutput(
            last_hidden_state=hidden, hidden_states=(*collected, hidden) if output_hidden_states else None
        )

    @untraced
    def _lay_out(
        self,
        x_BTD: Tensor,
        segment_lengths: Sequence[int] | None,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        key_values: KeyValues | None,
        key_index: Tensor | None,
    ) -> Layout:
        config, (batch, length, _) = self.config, x_BTD.shape
        runs, mask, positions_N = lay_out(batch, length, segment_lengths, attention_mask, position_ids, x_BTD.device)
        dtype = torch.promote_types(x_BTD.dtype, torch.float32) if config.rope_full_precision else x_BTD.dtype
        tables = rotary_tables(positions_N, config.head_dim, config.rope_theta, dtype)
        key_runs = None
        if key_values is not None:
            if segment_lengths is None or (key_index is not None and position_ids is None):
                raise ValueError("key_values need segment_lengths, and with key_index position_ids too")
            runs, key_runs = paired_runs(segment_lengths, key_values.lengths)
        attention = cast(str, config._attn_implementation)
        return Layout(runs, mask, *tables, attention, key_values, key_index, key_runs)


class LLaDAModelLM(PreTrainedModel):
    """LLaDA with its head, as `AutoModel`, `AutoModelForMaskedLM` and `AutoModelForCausalLM` load it."""

    config: LLaDAConfig
    config_class = LLaDAConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _no_split_modules = ["LLaDABlock"]  # noqa: RUF012 (transformers' name and type)
    _tied_weights_keys = {"model.transformer.ff_out.weight": "model.transformer.wte.weight"}  # noqa: RUF012

    def __init__(self, config: LLaDAConfig) -> None:
        super().__init__(config)
        self.model = LLaDAModel(config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        segment_lengths: Sequence[int] | None = None,
        logits_to_keep: int | Tensor = 0,
        labels: None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        read_out: Callable[[nn.Module, Tensor], Any] | None = None,
        key_values: KeyValues | None = None,
        key_index: Tensor | None = None,
    ) -> MaskedLMOutput | tuple[Tensor, ...]:
        """Logits of every token given all the others.

        Padded: `input_ids` [B, T] and, if rows differ in length, `attention_mask` [B, T] (1 = real token, padding on
        either side): a true mask, positions count real tokens only, so that padding changes nothing. Packed:
        `input_ids` [1, T] and `segment_lengths` summing to T: attention inside each segment, positions restarting.

        `logits_to_keep`: 0 keeps all positions, n > 0 the last n, a LongTensor [M] those positions of every row;
        logits are computed only there, [B, M, embedding_size].
        `read_out(head, hidden [B, M, d_model])` replaces the head, and what it returns the logits: a likelihood that
        never holds all logits can so run inside `forward`, where the hooks of distributed wrappers expect it.
        `key_values` (packed input) keeps the keys and values of a whole stream between forwards. With `key_index` [M],
        ascending stream positions, the input is those tokens only: `segment_lengths` counts them segment by segment,
        `position_ids` [1, M] are their places in their segments, and they attend to all tokens of their segments.
        `labels` and `output_attentions` exist for wrappers that pass None (the loss lives in `unveil.objectives`).
        """
        if labels is not None or output_attentions:
            raise ValueError(
                "LLaDAModelLM computes neither a loss nor attention maps: leave labels and output_attentions"
            )
        keep = _positions_to_keep(logits_to_keep, input_ids if inputs_embeds is None else inputs_embeds)
        out = self.model(
            input_ids,
            attention_mask,
            position_ids,
            inputs_embeds,
            segment_lengths,
            bool(output_hidden_states),
            None if output_hidden_states else keep,
            key_values,
            key_index,
        )
        hidden = out.last_hidden_state
        if output_hidden_states and keep is not None:
            hidden = hidden.index_select(1, keep)
        head = self.get_output_embeddings()
        logits = head(hidden) if read_out is None else read_out(head, hidden)
        result = MaskedLMOutput(logits=logits, hidden_states=out.hidden_states)
        return result if return_dict is None or return_dict else result.to_tuple()

    def get_input_embeddings(self) -> nn.Embedding:
        return cast(nn.Embedding, self.model.transformer["wte"])

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.transformer["wte"] = value

    def get_output_embeddings(self) -> nn.Linear:
        return cast(nn.Linear, self.model.transformer["ff_out"])

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.model.transformer["ff_out"] = new_embeddings

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Embedding:
        """Give embedding and head so many rows, as transformers does, and say so in `embedding_size` too."""
        embedding = super().resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
        self.config.embedding_size = embedding.num_embeddings
        return embedding

    @staticmethod
    def knows_attention(name: str | None) -> bool:
        """Whether `attn_implementation` may have this name."""
        return name in (None, "auto", "sdpa", "varlen") or "flash" in name

    def get_correct_attn_implementation(self, requested_attention: str | None, is_init_check: bool = False) -> str:
        """Of nothing "auto"; otherwise "auto", "sdpa", "varlen" or a flash-attention as transformers names it."""
        if requested_attention in (None, "auto", "sdpa", "varlen"):
            return requested_attention or "auto"
        if not self.knows_attention(requested_attention):
            raise ValueError(
                f"attn_implementation={requested_attention!r} is not known to LLaDA; leave it out or give sdpa, "
                "varlen, flash_attention_2, flash_attention_3 or a flash-attention kernel of the hub"
            )
        return super().get_correct_attn_implementation(requested_attention, is_init_check)

    @classmethod
    def can_generate(cls) -> bool:
        return False  # not from left to right, which is what transformers means

    def prepare_inputs_for_generation(self, *_: object, **__: object) -> NoReturn:
        """Exists because peft asks for it in adapters of task type CAUSAL_LM, as published ones are."""
        raise NotImplementedError("LLaDA does not generate from left to right; use unveil.generation.generate")

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Normal, cut at three standard deviations: `init_std` everywhere with init_fn "normal"; with "mitchell"
        1/sqrt(fan-in), times 1/sqrt(2(layer+1)) for the two matrices that write to the residual stream."""
        if isinstance(module, LLaDARMSNorm):
            init.ones_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            # transformers skips modules without parameters of their own, so a layer carries its depth factor.
            self._init_matrix(module, module.in_features, getattr(module, "init_scale", 1.0))
        elif isinstance(module, nn.Embedding):
            self._init_matrix(module, self.config.d_model)

    def _init_matrix(self, module: nn.Module, fan_in: int, scale: float = 1.0) -> None:
        std = scale / math.sqrt(fan_in) if self.config.init_fn == "mitchell" else self.config.init_std
        init.trunc_normal_(cast(Tensor, module.weight), std=std, a=-3 * std, b=3 * std)
        bias = getattr(module, "bias", None)
        if bias is not None:
            init.zeros_(bias)


def _positions_to_keep(logits_to_keep: int | Tensor, inputs: Tensor | None) -> Tensor | None:
    if isinstance(logits_to_keep, Tensor):
        return logits_to_keep
    if not logits_to_keep or inputs is None:
        return None
    return torch.arange(inputs.shape[1], device=inputs.device)[-logits_to_keep:]
