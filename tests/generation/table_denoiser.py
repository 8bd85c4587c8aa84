"""A denoiser whose predictions are a lookup table, so that a sampler's exact law can be enumerated."""

from itertools import combinations, product

import torch
from torch import nn


class TableDenoiser:
    """Logits of canvas position i are `table[state of the canvas, i] + prompt_effect[sum of prompt ids mod 7, i]`.

    Tokens are 0..vocab-1 and the mask is `vocab`, which the table finds likelier than any token.
    """

    def __init__(self, vocab: int, length: int, seed: int = 0, spread: float = 1.5):
        generator = torch.Generator().manual_seed(seed)
        self.vocab, self.length, self.mask_token_id, self.vocab_size = vocab, length, vocab, vocab + 1
        self.table = spread * torch.randn((vocab + 1) ** length, length, vocab + 1, generator=generator)
        self.table[..., vocab] = 5.0
        self.prompt_effect = torch.randn(7, length, vocab + 1, generator=generator)
        self.max_length = 64
        self.device = torch.device("cpu")
        self.model = nn.Dropout(0.5)
        self.modes: list[bool] = []
        self.calls: list[tuple[torch.Tensor, torch.Tensor]] = []  # canvases [N, L], index per call

    def logits_at(self, input_ids_1T, segment_lengths, index_N):
        stream_T = input_ids_1T[0]
        ends_N = torch.tensor(segment_lengths).cumsum(0)
        first_N = ends_N - self.length
        canvas_NL = stream_T[first_N[:, None] + torch.arange(self.length)]
        state_N = (canvas_NL * (self.vocab + 1) ** torch.arange(self.length)).sum(1)
        total = torch.cat([torch.zeros(1, dtype=torch.long), stream_T.cumsum(0)])
        prompt_N = (total[first_N] - total[ends_N - torch.tensor(segment_lengths)]) % 7
        self.calls.append((canvas_NL.clone(), index_N.clone()))
        self.modes.append(self.model.training)
        segment = torch.bucketize(index_N, ends_N, right=True)
        position = index_N - first_N[segment]
        return self.table[state_N[segment], position] + self.prompt_effect[prompt_N[segment], position]

    def probabilities(self, canvas, prompt, temperature=1.0):
        """What the model says of a canvas (a tuple of ids): [L, V] without the mask, at a temperature."""
        state = sum(token * (self.vocab + 1) ** position for position, token in enumerate(canvas))
        logits = self.table[state] + self.prompt_effect[sum(prompt) % 7]
        return torch.softmax(logits[:, : self.vocab].double() / temperature, dim=1)

    def law(self, prompt, config):
        """The exact probability of every canvas under `config`, {ids: probability}, by enumeration."""
        start = (self.mask_token_id,) * self.length
        size = self.length // config.num_blocks
        current = {start: 1.0}
        for block in range(config.num_blocks):
            for count in config.commits_per_step:
                following: dict[tuple[int, ...], float] = {}
                for canvas, mass in current.items():
                    inside = range(block * size, (block + 1) * size)
                    masked = [position for position in inside if canvas[position] == self.mask_token_id]
                    for filled, share in self._step(canvas, masked, count, prompt, config):
                        following[filled] = following.get(filled, 0.0) + mass * share
                current = following
        return current

    def _step(self, canvas, masked, count, prompt, config):
        tempered = self.probabilities(canvas, prompt, config.temperature)
        plain = self.probabilities(canvas, prompt)
        if config.remasking == "random":
            subsets = list(combinations(masked, count))
            for subset in subsets:
                for tokens in product(range(self.vocab), repeat=count):
                    share = 1.0 / len(subsets)
                    for position, token in zip(subset, tokens, strict=True):
                        share *= float(tempered[position, token])
                    yield _filled(canvas, dict(zip(subset, tokens, strict=True))), share
            return
        for tokens in product(range(self.vocab), repeat=len(masked)):
            share = 1.0
            for position, token in zip(masked, tokens, strict=True):
                share *= float(tempered[position, token])
            drawn = dict(zip(masked, tokens, strict=True))
            surest = sorted(masked, key=lambda position: -float(plain[position, drawn[position]]))[:count]
            yield _filled(canvas, {position: drawn[position] for position in surest}), share


def _filled(canvas, tokens):
    return tuple(tokens.get(position, token) for position, token in enumerate(canvas))
