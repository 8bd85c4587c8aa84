"""The matrices of a LLaDA, read off its configuration: what they weigh, and where adapters sit on them.

Parameters, with d the width, g the width of keys and values, f that of the feed-forward, V the rows of the embedding:

    block      2 d^2 + 2 d g + 3 d f + 2 d (norms)        [+ biases]
    rest       V d (embedding) + V d (head, if not tied) + d (last norm)
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

from unveil.models import LORA_TARGETS, LLaDAConfig

HEAD = "model.transformer.ff_out"


class Linear(NamedTuple):
    """A linear layer of every block.

    `stage` is its place in the order of computation: 0 reads the block's input, 1 the attention's output, 2 the second
    norm's, 3 the feed-forward's. In the last block stages 1 to 3 run at hidden places only.
    """

    name: str
    inputs: int
    outputs: int
    bias: bool
    stage: int

    @property
    def weights(self) -> int:
        """Entries of the matrix."""
        return self.inputs * self.outputs

    @property
    def parameters(self) -> int:
        """Entries of the matrix and of the bias."""
        return self.weights + self.bias * self.outputs


@dataclass(frozen=True)
class Shape:
    """Sizes of a LLaDA; `vocab` counts rows of the embedding, which may be more than the tokenizer has."""

    width: int
    layers: int
    heads: int
    kv_width: int
    mlp_width: int
    vocab: int
    tied: bool
    bias: bool
    qkv_bias: bool
    norm_bias: bool

    @classmethod
    def of(cls, config: LLaDAConfig) -> "Shape":
        """Sizes as the network is built from this configuration."""
        return cls(
            width=config.d_model,
            layers=config.n_layers,
            heads=config.n_heads,
            kv_width=config.head_dim * cast(int, config.n_kv_heads),
            mlp_width=cast(int, config.mlp_hidden_size),
            vocab=cast(int, config.embedding_size),
            tied=config.weight_tying,
            bias=config.include_bias,
            qkv_bias=bool(config.include_bias or config.include_qkv_bias),
            norm_bias=bool(config.bias_for_layer_norm),
        )

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The linear layers of one block, in the order of computation."""
        d, g, f, bias, qkv_bias = self.width, self.kv_width, self.mlp_width, self.bias, self.qkv_bias
        return (
            Linear("q_proj", d, d, qkv_bias, 0),
            Linear("k_proj", d, g, qkv_bias, 0),
            Linear("v_proj", d, g, qkv_bias, 0),
            Linear("attn_out", d, d, bias, 1),
            Linear("ff_proj", d, f, bias, 2),
            Linear("up_proj", d, f, bias, 2),
            Linear("ff_out", f, d, bias, 3),
        )

    @property
    def norm(self) -> int:
        """Parameters of one norm."""
        return self.width * (1 + self.norm_bias)

    @property
    def block_linears(self) -> int:
        """Parameters of the linear layers of one block."""
        return sum(linear.parameters for linear in self.linears)

    @property
    def block(self) -> int:
        """Parameters of one block."""
        return self.block_linears + 2 * self.norm

    @property
    def embedding(self) -> int:
        """Parameters of the embedding."""
        return self.vocab * self.width

    @property
    def head(self) -> int:
        """Parameters that the head has of its own."""
        return (0 if self.tied else self.embedding) + self.bias * self.vocab

    @property
    def root(self) -> int:
        """Parameters outside the blocks."""
        return self.embedding + self.head + self.norm

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.layers * self.block + self.root


@dataclass(frozen=True)
class Adapters:
    """LoRA of rank `rank`: the adapted linear layers of each block by name, and whether the head is one of them."""

    rank: int
    blocks: tuple[frozenset[str], ...]
    head: bool

    @classmethod
    def on(cls, shape: Shape, rank: int, target_modules: Sequence[str] | str | None = None) -> "Adapters":
        """Those that peft would add: a string is a pattern of the whole name, a list holds ends of names.

        By default every linear layer of the blocks, as in `unveil train`.
        """
        targets = target_modules or LORA_TARGETS
        blocks = [
            frozenset(
                linear.name
                for linear in shape.linears
                if _matches(f"model.transformer.blocks.{layer}.{linear.name}", targets)
            )
            for layer in range(shape.layers)
        ]
        return cls(rank, tuple(blocks), targets != "all-linear" and _matches(HEAD, targets))

    def parameters(self, shape: Shape) -> int:
        """Parameters of A `[rank, inputs]` and B `[outputs, rank]` of every adapted layer."""
        sizes = {linear.name: linear.inputs + linear.outputs for linear in shape.linears}
        blocks = sum(sizes[name] for names in self.blocks for name in names)
        return self.rank * (blocks + self.head * (shape.width + shape.vocab))

    def lowest(self, shape: Shape) -> tuple[int, int]:
        """(block, stage) of the first adapted layer: no gradient is computed below it."""
        stages = {linear.name: linear.stage for linear in shape.linears}
        for layer, names in enumerate(self.blocks):
            if names:
                return layer, min(stages[name] for name in names)
        return shape.layers, 0


def _matches(name: str, targets: Sequence[str] | str) -> bool:
    if targets == "all-linear":
        return True
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)
