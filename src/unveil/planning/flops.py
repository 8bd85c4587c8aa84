"""Floating-point operations of a pass: body, attention, head. A multiply and an add are two.

Forward, for rows of T tokens of which l are hidden (d width, P weights of the blocks' matrices, V vocabulary):

    body       2 P per token; in the last block what follows attention runs at hidden places only
    attention  4 T^2 d per row and block (scores and their product with the values)
    head       2 d V per hidden place

Backward costs twice the forward pass: once for inputs, once for weights. Frozen matrices cost the inputs' part alone,
and nothing below the first adapter costs anything. What kernels recompute inside (flash attention, chunks of logits) is
not counted, nor are norms, rotations and softmax, which are a fraction of a per cent.
"""

from typing import NamedTuple

from unveil.planning.shape import Adapters, Linear, Shape


class Work(NamedTuple):
    """What a pass reads: sums over its rows of T, T^2 and l (places where the head runs)."""

    tokens: float
    squares: float
    hidden: float

    def times(self, factor: float) -> "Work":
        """So many times as much."""
        return Work(*(factor * part for part in self))

    def plus(self, other: "Work") -> "Work":
        """Both together."""
        return Work(*(mine + theirs for mine, theirs in zip(self, other)))

    def less(self, other: "Work") -> "Work":
        """What is left without the other."""
        return self.plus(other.times(-1))


NOTHING = Work(0.0, 0.0, 0.0)


class Flops(NamedTuple):
    """Floating-point operations of a pass, by part."""

    body: float = 0.0
    attention: float = 0.0
    head: float = 0.0

    @property
    def total(self) -> float:
        """All parts."""
        return sum(self)

    def times(self, factor: float) -> "Flops":
        """So many times as many."""
        return Flops(*(factor * part for part in self))

    def plus(self, other: "Flops") -> "Flops":
        """Both together."""
        return Flops(*(mine + theirs for mine, theirs in zip(self, other)))


def forward(shape: Shape, work: Work, adapters: Adapters | None = None) -> Flops:
    """One forward pass."""
    body = 0.0
    for layer in range(shape.layers):
        for linear in shape.linears:
            extra = _rank(adapters, layer, linear) * (linear.inputs + linear.outputs)
            body += 2 * _places(shape, work, layer, linear) * (linear.weights + extra)
    head = 2 * work.hidden * shape.width * shape.vocab
    if adapters and adapters.head:
        head += 2 * work.hidden * adapters.rank * (shape.width + shape.vocab)
    return Flops(body, 4 * work.squares * shape.width * shape.layers, head)


def backward(shape: Shape, work: Work, adapters: Adapters | None = None) -> Flops:
    """The backward pass that follows; without adapters all weights are trained."""
    if adapters is None:
        return forward(shape, work).times(2)
    lowest = adapters.lowest(shape)
    body = 0.0
    for layer in range(shape.layers):
        for linear in shape.linears:
            places, rank = _places(shape, work, layer, linear), _rank(adapters, layer, linear)
            above = (layer, linear.stage) > lowest
            body += 2 * places * rank * (linear.inputs + 2 * linear.outputs)  # weights of A, both of B
            body += 2 * places * above * (linear.weights + rank * linear.inputs)
    crossed = shape.layers - lowest[0] - (lowest[1] > 0)
    head = 2 * work.hidden * shape.width * shape.vocab
    if adapters.head:
        head += 4 * work.hidden * adapters.rank * (shape.width + shape.vocab)
    return Flops(body, 8 * work.squares * shape.width * max(crossed, 0), head)


def recomputed(shape: Shape, work: Work, adapters: Adapters | None = None) -> Flops:
    """The second forward pass of the blocks under activation checkpointing."""
    return forward(shape, work, adapters)._replace(head=0.0)


def padded(shape: Shape, rows: float, length: int, adapters: Adapters | None = None) -> Flops:
    """Forward, recomputation and backward of the published step (arXiv 2510.23658).

    Rows padded to `length`, logits at every place, activation checkpointing. What follows attention runs everywhere in
    the last block too.
    """
    work = Work(rows * length, rows * length**2, rows * length)
    parts = [recomputed(shape, work, adapters), forward(shape, work, adapters), backward(shape, work, adapters)]
    return parts[0].plus(parts[1]).plus(parts[2])


def _places(shape: Shape, work: Work, layer: int, linear: Linear) -> float:
    late = layer == shape.layers - 1 and linear.stage > 0
    return work.hidden if late else work.tokens


def _rank(adapters: Adapters | None, layer: int, linear: Linear) -> int:
    return adapters.rank if adapters and linear.name in adapters.blocks[layer] else 0
