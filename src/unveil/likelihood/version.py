"""The version of the numbers: what cached likelihoods are worth after the code has changed."""

ESTIMATOR_VERSION = 2
"""Raise it in every change after which the same model, tokens and flags give other log-probabilities or other draws
(more than rounding): what was cached under another version is refused."""
