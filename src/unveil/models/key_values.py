"""Keys and values kept between forwards of one packed stream, for samplers that recompute a part of it only.

A bidirectional network has no cache that is exact: when one token of a segment changes, the keys and values of all the
others change in every layer but the first. What is kept here is therefore as old as the forward that computed it, and
whoever asks decides when that is good enough (Fast-dLLM, arXiv 2505.22618; `unveil.generation.network`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class KeyValues:
    """Keys (rotated) and values of every token of a stream of T tokens, each [T, G, D], layer by layer.

    `lengths`: tokens of each segment of the whole stream, in order. A forward that is given these reads all tokens of
    a segment and overwrites those that it computes. The first forward must compute all.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = list(lengths)
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def filled(self) -> bool:
        """Whether a forward has been here."""
        return bool(self._layers)

    def put(self, layer: int, k_MGD: Tensor, v_MGD: Tensor, index_M: Tensor | None) -> tuple[Tensor, Tensor]:
        """Write at stream positions `index_M` (None = everywhere); returns keys and values of the whole stream."""
        if index_M is None:
            self._layers[layer] = (k_MGD, v_MGD)
        elif layer not in self._layers:
            raise ValueError("the first forward with these key_values must compute every token of the stream")
        else:
            for kept, fresh in zip(self._layers[layer], (k_MGD, v_MGD)):
                kept.index_copy_(0, index_M, fresh)
        return self._layers[layer]

    def keep(self, segments: Sequence[int]) -> None:
        """Forget all segments but these, which stay in their order."""
        if not self._layers:
            self.lengths = [self.lengths[segment] for segment in segments]
            return
        pieces = torch.arange(sum(self.lengths)).split(self.lengths)
        index = torch.cat([pieces[segment] for segment in segments])
        for layer, pair in self._layers.items():
            k_TGD, v_TGD = (kept.index_select(0, index.to(kept.device)) for kept in pair)
            self._layers[layer] = (k_TGD, v_TGD)
        self.lengths = [self.lengths[segment] for segment in segments]
