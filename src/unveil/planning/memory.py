"""Memory of one device: weights, gradients, optimizer states, activations, a chunk of logits.

What a graph keeps per token of a micro-batch, counted from the operations of `unveil.models.modeling_llada` as they run
(eager; d width, g that of keys and values, f of the feed-forward, H heads; s bytes per number of the residual stream,
c of matrix products; full training / LoRA on frozen matrices):

    norm (two per block)   4 d  its input in float32, and s d its output before the weight / only 4 d
    inputs of products     c d each where autocast casts them; s d once where nothing is cast; LoRA: d per adapter,
                           its own cast copy
    attention              c (2 d + 2 g) + 4 H   queries, keys, values, result, log-sum-exp
    feed-forward           c 4 f  gate, its silu, up, product / c 3 f and the copy that the adapter of ff_out reads

In the last block what follows attention, and the last norm, exist at hidden places only. The count is checked against
saved tensors in the tests. Norms that keep their input and their output alone (fused kernels) make it
`c (6 d + 2 g + 4 f) + 4 H` per block: `fused_bytes_per_token`. Backward needs the buffers of one block on top.
"""

from dataclasses import dataclass
from typing import NamedTuple

from unveil.likelihood.logit_chunks import CHUNK_BYTES
from unveil.planning.shape import Adapters, Linear, Shape

NF4_BYTES = 0.5 + 4 / 64
"""Bytes per weight of 4-bit matrices: half a byte, and a float32 scale for every 64."""
ADAPTER_BYTES = 4
"""peft holds adapters in float32."""


class Precision(NamedTuple):
    """Bytes per number of the weights as loaded, and whether products run under bfloat16 autocast."""

    weights: int = 4
    autocast: bool = False

    @property
    def products(self) -> int:
        """Bytes per number of matrix products."""
        return 2 if self.autocast else self.weights

    @property
    def casts(self) -> bool:
        """Whether autocast makes copies of weights."""
        return self.products < self.weights


@dataclass(frozen=True)
class Method:
    """How the weights are trained. `adapters` None trains all; `quantised`: the blocks' frozen matrices in 4 bits."""

    name: str
    precision: Precision
    adapters: Adapters | None = None
    quantised: bool = False
    second_model: bool = False
    """A reference with weights of its own stays in memory."""
    optimizer_bytes: int = 8
    """Of both AdamW moments of a float32 parameter: 8, or 2 for 8-bit states."""


class Memory(NamedTuple):
    """Bytes on one device at the peak of a step."""

    weights: float
    gradients: float
    optimizer: float
    reference: float
    buffers: float
    """Gathered or cast weights, gradient buckets, a chunk of logits and the gradient of the head."""
    activations: float

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self)


def saved_bytes_per_token(shape: Shape, method: Method, hidden_share: float) -> float:
    """Bytes that the graph of the blocks keeps per token; `hidden_share` of the tokens are hidden."""
    total = hidden_share * _norm(shape, method)
    for layer in range(shape.layers):
        early, late = _block(shape, method, layer)
        total += early + late * (hidden_share if layer == shape.layers - 1 else 1.0)
    tables = 4 * shape.width // shape.heads  # cosines and sines, shared by all blocks
    return total + tables


def fused_bytes_per_token(shape: Shape, precision: Precision) -> float:
    """The same with fused norms, for full training in one number format."""
    d, g, f = shape.width, shape.kv_width, shape.mlp_width
    return shape.layers * (precision.products * (6 * d + 2 * g + 4 * f) + 4 * shape.heads)


def checkpoint_bytes_per_token(shape: Shape, method: Method) -> float:
    """Under activation checkpointing: the input of every block, and the whole of one block."""
    stream = _stream(method)
    return shape.layers * stream * shape.width + sum(_block(shape, method, 0))


def backward_bytes_per_token(shape: Shape, method: Method) -> float:
    """Gradients that exist at a time while one block is pulled back."""
    return method.precision.products * 4 * shape.mlp_width + 4 * shape.width * _stream(method)


def head_bytes(shape: Shape, method: Method, hidden: float) -> float:
    """A chunk of float32 logits, its copies in the dtype of products, and the gradient of the head where it is
    trained (it exists beside the one that it is added to)."""
    trained = method.adapters is None
    weight = shape.embedding * method.precision.weights
    chunk = max(CHUNK_BYTES, weight // 4 if trained else 0)
    chunk = min(chunk, 4.0 * hidden * shape.vocab)
    states = hidden * shape.width * (method.precision.products + _stream(method))
    return chunk * (1 + 2 * method.precision.products / 4) + states + trained * weight


def static_memory(shape: Shape, method: Method, sharding: str = "one", devices: int = 1) -> Memory:
    """What does not depend on the data. `sharding` is "one" (device), "ddp" or "fsdp2"."""
    precision, adapters = method.precision, method.adapters
    trained = shape.parameters if adapters is None else adapters.parameters(shape)
    trained_bytes = precision.weights if adapters is None else ADAPTER_BYTES
    frozen = _frozen_bytes(shape, method) if adapters else 0.0
    weights, gradients = frozen + trained * trained_bytes, float(trained * trained_bytes)
    optimizer = trained * trained_bytes / 4 * method.optimizer_bytes
    reference = shape.parameters * precision.weights * method.second_model
    buffers = _dequantised(shape, method)
    if sharding == "fsdp2":
        weights, gradients, optimizer, reference = (x / devices for x in (weights, gradients, optimizer, reference))
        gathered = precision.products * (shape.root + 2 * shape.block)
        pending = precision.products * (shape.root + shape.block) if adapters is None else 0
        return Memory(weights, gradients, optimizer, reference, buffers + gathered + pending, 0.0)
    if precision.casts:
        matrices = shape.layers * shape.block_linears * (not method.quantised) + shape.embedding  # blocks and head
        buffers += precision.products * matrices
    if sharding == "ddp":
        buffers += gradients  # buckets
    return Memory(weights, gradients, optimizer, reference, buffers, 0.0)


def peak_memory(
    static: Memory,
    shape: Shape,
    method: Method,
    live_tokens: float,
    hidden_share: float,
    checkpointed_tokens: float = 0.0,
) -> Memory:
    """With the activations of `live_tokens`, or of a row of `checkpointed_tokens` where that is more."""
    per_token = saved_bytes_per_token(shape, method, hidden_share) + backward_bytes_per_token(shape, method)
    alone = checkpoint_bytes_per_token(shape, method) + backward_bytes_per_token(shape, method)
    activations = max(live_tokens * per_token, checkpointed_tokens * alone)
    head = head_bytes(shape, method, hidden_share * max(live_tokens, checkpointed_tokens))
    return static._replace(buffers=static.buffers + head, activations=activations)


def _frozen_bytes(shape: Shape, method: Method) -> float:
    if not method.quantised:
        return float(shape.parameters * method.precision.weights)
    matrices = shape.layers * sum(linear.weights for linear in shape.linears)
    return matrices * NF4_BYTES + (shape.parameters - matrices) * method.precision.weights


def _dequantised(shape: Shape, method: Method) -> float:
    """One 4-bit matrix at a time is computed with."""
    if not method.quantised:
        return 0.0
    return float(method.precision.products * max(linear.weights for linear in shape.linears))


def _stream(method: Method) -> int:
    """Bytes per number of the residual stream, which has the dtype of the embedding."""
    return method.precision.weights


def _norm(shape: Shape, method: Method) -> float:
    """Input in float32; before the weight, where that is trained."""
    return shape.width * (4 + (_stream(method) if method.adapters is None else 0))


def _block(shape: Shape, method: Method, layer: int) -> tuple[float, float]:
    """Bytes per token of what precedes and what follows attention's result."""
    d, g, f, c = shape.width, shape.kv_width, shape.mlp_width, method.precision.products
    inputs = [0.0, 0.0, 0.0, 0.0]
    for linear in shape.linears:
        inputs[linear.stage] += _input(method, layer, linear, inputs[linear.stage])
    early = _norm(shape, method) + inputs[0] + c * (2 * d + 2 * g) + 4 * shape.heads
    late = inputs[1] + _norm(shape, method) + inputs[2] + c * 3 * f + inputs[3]
    return early, late


def _input(method: Method, layer: int, linear: Linear, before: float) -> float:
    """Bytes per token that one product keeps of its input, `before` being what others keep of the same input.

    Attention keeps its result anyway, so attn_out (stage 1) adds only copies that are cast.
    """
    precision, adapters, size = method.precision, method.adapters, linear.inputs
    if adapters is None:
        if linear.stage == 1 or (before and not precision.casts):
            return 0.0
        return precision.products * size  # under autocast each product casts the norm's output for itself
    if linear.name not in adapters.blocks[layer]:
        return 0.0  # of a frozen product the matrix is enough
    rank = precision.products * adapters.rank
    if precision.autocast:
        return rank + precision.products * size
    rank = ADAPTER_BYTES * adapters.rank
    alias = precision.weights == ADAPTER_BYTES and (linear.stage == 1 or before)
    return rank + (0.0 if alias else ADAPTER_BYTES * size)
