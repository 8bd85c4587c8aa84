"""How often the intervals of kappa and alpha hold the truth: `python -m benchmarks.agreement_coverage`.

Two judges whose labels are equal with probability kappa by copying, else independent with given margins, so that kappa
= alpha = that probability. For each number of prompts the lowest, mean and highest coverage over kappa in {0, 0.3, 0.6,
0.8, 0.9} and the margins. Experiments whose interval is not known (agreement on all prompts) do not count.
"""

import argparse

import numpy as np

from unveil.judging import cohen_kappa, krippendorff_alpha
from unveil.judging.kappa import Agreement

PROMPTS = (20, 50, 100, 400)
TRUTHS = (0.0, 0.3, 0.6, 0.8, 0.9)
MARGINS = {"50 / 15 / 35 %": (0.5, 0.15, 0.35), "50 / 50 %": (0.5, 0.5), "80 / 10 / 10 %": (0.8, 0.1, 0.1)}


def two_judges(generator: np.random.Generator, prompts: int, same: float, margins: tuple[float, ...]) -> np.ndarray:
    """Labels [2, prompts] of two judges with kappa `same`."""
    one, own = generator.choice(len(margins), p=margins, size=(2, prompts))
    return np.stack([one, np.where(generator.random(prompts) < same, one, own)])


def coverage(
    kind: str, prompts: int, same: float, margins: tuple[float, ...], experiments: int, seed: int = 0
) -> tuple[float, float]:
    """Share of the known intervals at 95 % that hold the truth, and the share that is known."""
    generator = np.random.default_rng(seed)
    hits = known = 0
    for _ in range(experiments):
        labels = two_judges(generator, prompts, same, margins).tolist()
        found: Agreement = cohen_kappa(*labels) if kind == "kappa" else krippendorff_alpha(labels)
        if found.low is not None and found.high is not None:
            known += 1
            hits += found.low <= same <= found.high
    return hits / max(known, 1), known / experiments


def main() -> None:
    """Print the table of docs/judging.md."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--experiments", type=int, default=1000)
    experiments = parser.parse_args().experiments
    print("| coefficient | margins | " + " | ".join(f"n = {prompts}" for prompts in PROMPTS) + " |")
    print("|---|---|" + "---|" * len(PROMPTS))
    for kind in ("kappa", "alpha"):
        for name, margins in MARGINS.items():
            cells = []
            for prompts in PROMPTS:
                shares = [coverage(kind, prompts, same, margins, experiments)[0] for same in TRUTHS]
                cells.append(f"{min(shares):.3f} to {max(shares):.3f}")
            print(f"| {kind} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
