"""The world of `benchmarks.coverage`: Markov chains whose conditionals, and hence every log p and the ELBO, are exact.

log p(y_i | what is visible) depends on the nearest visible token on either side alone, so that one table per answer
holds all of them, whatever its length: `table[i, left + 1, right]`, left = -1 and right = L where nothing is visible.
"""

from collections.abc import Sequence
from math import comb
from typing import NamedTuple

import numpy as np

from unveil.draws import Plan

VOCABULARY = 6


class Case(NamedTuple):
    """An answer under a policy and its reference: tables of log p, nats, and what is estimated."""

    policy: np.ndarray
    reference: np.ndarray
    elbo: float
    margin: float


def cases(length: int, count: int) -> list[Case]:
    """`count` answers of `length` tokens; the reference is the policy with noise on its transitions."""
    found = []
    for seed in range(count):
        generator = np.random.default_rng([seed, length])
        steps = 0.98 * generator.dirichlet(np.full(VOCABULARY, 0.3), size=VOCABULARY) + 0.02 / VOCABULARY
        noisy = steps * np.exp(0.7 * generator.standard_normal(steps.shape))
        noisy /= noisy.sum(axis=1, keepdims=True)
        start = np.full(VOCABULARY, 1 / VOCABULARY)
        answer = [int(generator.choice(VOCABULARY))]
        for _ in range(length - 1):
            answer.append(int(generator.choice(VOCABULARY, p=steps[answer[-1]])))
        policy, reference = (table(start, law, answer) for law in (steps, noisy))
        elbo = exact_elbo(policy)
        found.append(Case(policy, reference, elbo, elbo - exact_elbo(reference)))
    return found


def table(start: np.ndarray, steps: np.ndarray, answer: Sequence[int]) -> np.ndarray:
    """log p(y_i | nearest visible neighbours), `[L, L + 1, L + 1]`; 0 where left and right do not enclose i."""
    length = len(answer)
    powers = [np.eye(len(start))]
    for _ in range(length):
        powers.append(powers[-1] @ steps)
    found = np.zeros((length, length + 1, length + 1))
    for i in range(length):
        for left in range(-1, i):
            before = start @ powers[i] if left < 0 else powers[i - left][answer[left]]
            for right in range(i + 1, length + 1):
                law = before if right == length else before * powers[right - i][:, answer[right]]
                found[i, left + 1, right] = np.log(law[answer[i]] / law.sum())
    return found


def exact_elbo(log_p: np.ndarray) -> float:
    """B, nats: every set of hidden tokens with its weight 1 / (l C(L, l)), gathered by the gap around each token."""
    length, total = len(log_p), 0.0
    for left in range(-1, length):
        for right in range(left + 2, length + 1):
            hidden, visible = right - left - 1, (left >= 0) + (right < length)
            chance = sum(
                comb(length - hidden - visible, size - hidden) / comb(length, size) / size
                for size in range(hidden, length - visible + 1)
            )
            total += chance * log_p[left + 1 : right, left + 1, right].sum()
    return float(total)


def log_p_of(log_p: np.ndarray, hidden_RL: np.ndarray) -> np.ndarray:
    """log p of each hidden token of R draws, `[R, L]` nats; 0 where it is visible."""
    length = len(log_p)
    place = np.arange(length)
    left = np.maximum.accumulate(np.where(hidden_RL, -1, place), axis=1)
    right = np.minimum.accumulate(np.where(hidden_RL, length, place)[:, ::-1], axis=1)[:, ::-1]
    return np.where(hidden_RL, log_p[place, left + 1, right], 0.0)


def hidden_of(plans: Sequence[Plan], length: int) -> np.ndarray:
    """Which tokens each draw of all plans hides, bool `[draws, L]`."""
    positions = [part for drawn in plans for part in drawn.positions]
    hidden_RL = np.zeros((len(positions), length), dtype=bool)
    hidden_RL[np.repeat(np.arange(len(positions)), [len(part) for part in positions]), np.concatenate(positions)] = True
    return hidden_RL
