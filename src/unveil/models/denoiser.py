"""`Denoiser`: the one way the rest of the package calls a masked diffusion language model.

It hides what differs between architectures: which id is the mask, whether the logits of a token sit at its own
position (LLaDA) or one before (models adapted from autoregressive ones, such as Dream), whether the network takes
packed input, and how deep it is wrapped (LoRA, distributed, compiled).
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from unveil.errors import UserError
from unveil.models.attention import Segments
from unveil.models.key_values import KeyValues

# model_type -> how many positions before a token its logits sit.
_LOGIT_SHIFT = {"llada": 0, "Dream": 1, "dream": 1}


def unwrap(model: nn.Module) -> PreTrainedModel:
    """The architecture inside LoRA, distributed and `torch.compile` wrappers."""
    while not isinstance(model, PreTrainedModel):
        if hasattr(model, "get_base_model"):  # peft
            model = cast(nn.Module, model.get_base_model())  # type: ignore[operator]
        elif hasattr(model, "_orig_mod"):  # torch.compile
            model = cast(nn.Module, model._orig_mod)
        elif hasattr(model, "module"):  # DDP, FSDP, DeepSpeed
            model = cast(nn.Module, model.module)
        else:
            raise TypeError(f"{type(model).__name__} is neither a transformers model nor a known wrapper of one")
    return model


class Denoiser:
    """A masked diffusion language model, as likelihood, training and generation see it.

    Attributes: `model` (as given, wrappers included), `mask_token_id`, `logit_shift`, `vocab_size` (columns of the
    logits), `max_length` (longest segment the model was made for, None if it does not say), `packs`, `device`.

    Raises `UserError` when neither the argument nor the model's config names the mask token.
    """

    def __init__(self, model: nn.Module, mask_token_id: int | None = None, logit_shift: int | None = None) -> None:
        self.model = model
        config = unwrap(model).config
        if mask_token_id is None:
            mask_token_id = getattr(config, "mask_token_id", None)
        if mask_token_id is None:
            raise UserError("--mask_token_id: the model's config names no mask_token_id; give the id of the mask token")
        self.vocab_size: int = getattr(config, "embedding_size", None) or config.vocab_size
        if not 0 <= mask_token_id < self.vocab_size:
            raise UserError(
                f"--mask_token_id {mask_token_id}: the model has {self.vocab_size} embedding rows; "
                "give the id of its mask token"
            )
        self.mask_token_id: int = mask_token_id
        self.logit_shift = _LOGIT_SHIFT.get(config.model_type, 0) if logit_shift is None else logit_shift
        self.max_length: int | None = getattr(config, "max_position_embeddings", None)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def packs(self) -> bool:
        """Whether the network takes packed input (`segment_lengths`)."""
        return self._accepts("segment_lengths")

    @property
    def keeps_keys(self) -> bool:
        """Whether the network can keep keys and values between forwards (`KeyValues`)."""
        return self.logit_shift == 0 and self._accepts("key_values")

    def hidden_states(
        self,
        input_ids_BT: Tensor,
        attention_mask: Tensor | None = None,
        segment_lengths: Sequence[int] | None = None,
    ) -> Tensor:
        """What the head reads, [B, T, D]. Calls the inner network: hooks of distributed wrappers do not fire."""
        extra = {} if segment_lengths is None else {"segment_lengths": Segments(segment_lengths)}
        out = unwrap(self.model).base_model(input_ids=input_ids_BT, attention_mask=attention_mask, **extra)
        return out.last_hidden_state

    def head(self, hidden_ND: Tensor) -> Tensor:
        """Logits [N, V] of hidden states [N, D]."""
        return cast(nn.Module, unwrap(self.model).get_output_embeddings())(hidden_ND)

    def logits_at(self, input_ids_1T: Tensor, segment_lengths: Sequence[int], index_N: Tensor) -> Tensor:
        """Logits [N, V] that predict the tokens at positions `index_N` of the packed stream `input_ids_1T`.

        Only those positions meet the head. Goes through the model as given, so that the hooks of distributed wrappers
        fire. A model that does not pack is run once per segment length, on unpadded batches.
        """
        if self.logit_shift:
            index_N = self._shifted(index_N, segment_lengths)
        if self.packs:
            out = self.model(input_ids=input_ids_1T, segment_lengths=Segments(segment_lengths), logits_to_keep=index_N)
            return out.logits[0]
        return self._logits_by_length(input_ids_1T, segment_lengths, index_N)

    def logits_with(
        self,
        key_values: KeyValues,
        input_ids_1M: Tensor,
        segment_lengths: Sequence[int],
        index_N: Tensor,
        key_index_M: Tensor | None = None,
        position_ids_1M: Tensor | None = None,
    ) -> Tensor:
        """`logits_at` for a part of a stream whose other keys and values are kept; `index_N` counts in the part.

        key_index_M: ascending stream positions of the part, with their places in their segments; None = the whole
        stream. Only for networks with `keeps_keys`.
        """
        out = self.model(
            input_ids=input_ids_1M,
            segment_lengths=Segments(segment_lengths),
            position_ids=position_ids_1M,
            logits_to_keep=index_N,
            key_values=key_values,
            key_index=key_index_M,
        )
        return out.logits[0]

    def read_out_at(
        self,
        input_ids_1T: Tensor,
        segment_lengths: Sequence[int],
        index_N: Tensor,
        read_out: Callable[[nn.Module, Tensor], Any],
    ) -> Any:
        """`read_out(head, hidden [..., D])` at positions `index_N` of the packed stream, called inside `forward`.

        A network that does not take `read_out` computes its logits [N, V], and an `Identity` stands for its head.
        """
        if not (self.packs and self._accepts("read_out")):
            return read_out(nn.Identity(), self.logits_at(input_ids_1T, segment_lengths, index_N))
        if self.logit_shift:
            index_N = self._shifted(index_N, segment_lengths)
        lengths = Segments(segment_lengths)
        out = self.model(input_ids=input_ids_1T, segment_lengths=lengths, logits_to_keep=index_N, read_out=read_out)
        return out.logits

    @contextmanager
    def checkpointed(self, on: bool = True) -> Iterator[None]:
        """Inside, a training-mode forward keeps the inputs of its blocks only; backward (in or out of the context)
        recomputes the rest: for a row that does not fit by itself.

        A network without transformers' checkpointing layers, or one where checkpointing is on already, stays as it is.
        """
        modules = unwrap(self.model).modules() if on else ()
        layers: list[Any] = [m for m in modules if getattr(m, "gradient_checkpointing", None) is False]
        replaced = [layer.__dict__.get("_gradient_checkpointing_func") for layer in layers]
        for layer in layers:
            layer.gradient_checkpointing = True
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
        try:
            yield
        finally:
            for layer, function in zip(layers, replaced):
                layer.gradient_checkpointing = False
                if function is None:
                    del layer._gradient_checkpointing_func
                else:
                    layer._gradient_checkpointing_func = function

    def _accepts(self, argument: str) -> bool:
        # The class's own forward: accelerate replaces the instance's by a wrapper without signature.
        return argument in inspect.signature(type(unwrap(self.model)).forward).parameters

    def _shifted(self, index_N: Tensor, segment_lengths: Sequence[int]) -> Tensor:
        """The positions that predict `index_N`; the first token of a segment has only itself to be read from."""
        _, within_N = _locate(index_N, segment_lengths)
        return index_N - within_N.clamp(max=self.logit_shift)

    def _logits_by_length(self, input_ids_1T: Tensor, segment_lengths: Sequence[int], index_N: Tensor) -> Tensor:
        segment_N, within_N = _locate(index_N, segment_lengths)
        segments = input_ids_1T[0].split(list(segment_lengths))
        groups: dict[int, list[int]] = {}
        for number, length in enumerate(segment_lengths):
            groups.setdefault(length, []).append(number)
        row_of = torch.empty(len(segments), dtype=torch.long)  # segment -> its row in its batch
        length_of = torch.tensor(list(segment_lengths))
        for members in groups.values():
            row_of[members] = torch.arange(len(members))
        row_of, length_of = row_of.to(index_N.device), length_of.to(index_N.device)

        pieces, places = [], []
        for length, members in groups.items():
            wanted = (length_of[segment_N] == length).nonzero()[:, 0]
            if len(wanted) == 0:
                continue
            rows, columns = row_of[segment_N[wanted]], within_N[wanted]
            batch = torch.stack([segments[number] for number in members])
            if self._accepts("logits_to_keep"):
                kept, columns = columns.unique(return_inverse=True)
                logits = self.model(input_ids=batch, logits_to_keep=kept).logits
            else:
                logits = self.model(input_ids=batch).logits
            pieces.append(logits[rows, columns])
            places.append(wanted)
        return torch.cat(pieces)[torch.cat(places).argsort()]


def _locate(index_N: Tensor, segment_lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Segment number and position inside it of each stream position."""
    ends = torch.tensor(list(accumulate(segment_lengths)), device=index_N.device)
    segment_N = torch.bucketize(index_N, ends, right=True)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    return segment_N, index_N - starts[segment_N]
