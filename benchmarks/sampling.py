"""How many forward passes does an answer need? Fewer steps and parallel decoding against one token per forward.

    python -m benchmarks.sampling --output_dir runs/sampling

The shipped model answers the demo's held-out prompts under several samplers. Each is judged, prompt by prompt, by the
demo's judge (fitted to human ratings) against the sampler of the same family that commits one token per forward; wins
plus half the ties, 95 % intervals over prompts. A row "again" is the same sampler with another seed: what no difference
looks like. A sampler is *not worse* where its whole interval is above 0.45: few prompts show nothing, so they prove
nothing. `forwards_ratio_equal_quality` is the largest ratio of forwards among those.

The judge reads a bag of words, so it may miss what parallel decoding spoils. Beside it stand what the model itself says
of its answers (the ELBO per token, nats: higher is likelier text), their lengths and their distinct word pairs.

`--cache` rows commit on the same rules with keys and values kept inside blocks; `tokens` are what the network computed
per answer. `differ` is the share of answer positions that differ from the same sampler without a cache, same seed.

Throughput is wall time on all cores (`--threads`), batched against one prompt at a time, in turns; the ratio is taken
inside each repeat. The last line printed is one JSON object.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from benchmarks.figures import families
from benchmarks.intervals import Estimate
from benchmarks.measuring import Spread, machine, progress, ratios, table
from unveil.demo.answers import Answers
from unveil.demo.base import Base, load_base
from unveil.demo.experiment import judged
from unveil.demo.order import in_hash_order
from unveil.demo.recipe import Recipe
from unveil.demo.reviews import prompts
from unveil.draws import plan
from unveil.errors import UserError
from unveil.files import write_bytes, write_json
from unveil.generation import GenerationConfig, Samples, Statistics, sample
from unveil.host_memory import keep_freed_memory
from unveil.judging import WinRate
from unveil.likelihood import Response, score

FIGURE = "sampling.png"
BLOCK = 8
MARGIN = 0.05
_ELBO_SEED, _ELBO_DRAWS = 40_000, 2
_CHUNK = 80


@dataclass(frozen=True)
class Sampler:
    """A configuration and the name of the family whose one-token-per-forward sampler it is judged against."""

    name: str
    family: str
    config: GenerationConfig


@dataclass(frozen=True)
class Measured:
    """Answers of a sampler, what they cost and what was found about them."""

    answers: Answers
    ids: list[list[int]]
    statistics: Statistics
    elbo: float
    against: WinRate | None = None


def samplers(quick: bool) -> list[Sampler]:
    """All that are compared; the first of a family is its one-token-per-forward sampler."""
    own = Recipe()
    plain = GenerationConfig(
        gen_length=own.canvas_length, block_length=None, temperature=own.temperature, top_p=own.top_p, seed=1
    )
    random = replace(plain, remasking="random")
    blocks = replace(plain, block_length=BLOCK)
    steps = [4] if quick else [20, 10, 8, 5, 4, 2]
    bars = [0.3] if quick else [0.9, 0.7, 0.5, 0.3, 0.2, 0.1]
    found = [Sampler("random, 1 per forward", "random", random)]
    found += [Sampler(f"random, {n} steps", "random", replace(random, steps=n, seed=3)) for n in steps]
    found.append(Sampler("random, again", "random", replace(random, seed=2)))
    found.append(Sampler("confidence, 1 per forward", "confidence", blocks))
    found += [
        Sampler(f"confidence above {bar}", "confidence", replace(blocks, confidence_threshold=bar, seed=3))
        for bar in bars
    ]
    if not quick:
        for factor in (1.0, 2.0):
            found.append(Sampler(f"factor {factor:g}", "confidence", replace(blocks, confidence_factor=factor, seed=3)))
        for name in ("entropy", "margin"):
            config = replace(blocks, remasking=name, confidence_threshold=0.3, seed=3)
            found.append(Sampler(f"{name} above 0.3", "confidence", config))
    found.append(Sampler("confidence, again", "confidence", replace(blocks, seed=2)))
    for cache in ("prefix", "dual"):
        found.append(Sampler(f"confidence, {cache} cache", "confidence", replace(blocks, cache=cache)))
    return found


def answered(base: Base, ids: list[list[int]], config: GenerationConfig, tokens_per_batch: int = 1024) -> Samples:
    """Answers to prompts given as ids."""
    eos: Any = base.tokenizer.eos_token_id
    return sample(base.denoiser, ids, config, eos, tokens_per_batch=tokens_per_batch)


def measured(base: Base, ids: list[list[int]], config: GenerationConfig) -> Measured:
    """Sample, and ask the model what it thinks of its answers."""
    samples = answered(base, ids, config)
    texts = [str(base.tokenizer.decode(answer, skip_special_tokens=True)) for answer in samples.answers]
    answers = Answers(texts, [len(answer) for answer in samples.answers])
    return Measured(answers, samples.answers, samples.statistics, elbo_per_token(base, ids, samples.answers))


def elbo_per_token(base: Base, ids: list[list[int]], answers: list[list[int]]) -> float:
    """The ELBO of answers and their end, given their prompts, in nats per token."""
    eos: Any = base.tokenizer.eos_token_id
    length = Recipe().canvas_length
    responses = [
        Response(number, tuple(prompt), (*answer, *[eos] * (length - len(answer))))
        for number, (prompt, answer) in enumerate(zip(ids, answers, strict=True))
    ]
    total = 0.0
    for start in range(0, len(responses), _CHUNK):
        part = responses[start : start + _CHUNK]
        plans = [plan(_ELBO_SEED, r.example_id, 0, r.length, _ELBO_DRAWS) for r in part]
        total += float(score(base.denoiser, part, plans).values.double().sum())
    return total / sum(len(answer) + 1 for answer in answers)


def not_worse(rate: WinRate) -> bool:
    """Non-inferiority: shown to lose by less than `MARGIN` to the sampler that it is judged against."""
    return rate.low > 0.5 - MARGIN


def differing(answers: Sequence[Sequence[int]], others: Sequence[Sequence[int]]) -> float:
    """Share of positions at which two lists of answers differ, the longer of each pair counted."""
    pairs = [pair for a, b in zip(answers, others, strict=True) for pair in zip_longest(a, b)]
    return sum(a != b for a, b in pairs) / max(1, len(pairs))


def quality(args: argparse.Namespace, base: Base) -> dict[str, Any]:
    """Part (a): table, figure, and what the last line shows of it."""
    asked = in_hash_order(prompts(args.split), str)[: args.num_prompts]
    ids = encoded(base, asked)
    found: dict[str, Measured] = {}
    first: dict[str, str] = {}
    all_samplers = samplers(args.quick)
    for sampler in all_samplers:
        started = time.perf_counter()
        one = measured(base, ids, sampler.config)
        reference = first.setdefault(sampler.family, sampler.name)
        if reference != sampler.name:
            one = replace(one, against=judged(asked, one.answers, found[reference].answers).win_rate)
        found[sampler.name] = one
        progress(f"{sampler.name}: {one.statistics.describe()} ({time.perf_counter() - started:.0f} s)")
    rows, records = [], []
    for sampler in all_samplers:
        one, reference = found[sampler.name], found[first[sampler.family]]
        forwards = one.statistics.forwards_per_answer
        ratio = reference.statistics.forwards_per_answer / forwards
        tokens = one.statistics.token_forwards / len(ids)
        cached = sampler.config.cache != "none"
        differ = differing(one.ids, reference.ids) if cached else None
        rate = one.against
        same_sampler = sampler.name.endswith("again") or cached
        rows.append([
            sampler.name, f"{forwards:.1f}", f"{ratio:.2f}", f"{tokens:.0f}",
            "" if rate is None else f"{rate.rate:.3f} ({rate.low:.3f} to {rate.high:.3f})",
            "" if rate is None else "yes" if not_worse(rate) else "no",
            f"{one.elbo:.3f}", f"{one.answers.mean_length:.1f}", f"{one.answers.distinct_bigrams:.3f}",
            "" if differ is None else f"{differ:.1%}",
        ])  # fmt: skip
        records.append({
            "sampler": sampler.name, "family": sampler.family, "forwards_per_answer": forwards, "ratio": ratio,
            "tokens_per_forward": one.statistics.tokens_per_forward, "network_tokens_per_answer": tokens,
            "win_rate": None if rate is None else [rate.rate, rate.low, rate.high],
            "not_worse": rate is not None and not_worse(rate), "counts": rate is not None and not same_sampler,
            "elbo_per_token": one.elbo, "answer_tokens": one.answers.mean_length,
            "distinct_bigrams": one.answers.distinct_bigrams, "differ": differ,
        })  # fmt: skip
    head = [
        "sampler", "forwards per answer", "times fewer", "tokens", "win rate", "not worse", "ELBO per token", "length",
        "distinct bigrams", "differ",
    ]  # fmt: skip
    table(head, rows)
    winners = [record for record in records if record["counts"] and record["not_worse"]]
    best = max(winners, key=lambda record: record["ratio"], default=None)
    picture = figure(records)
    write_bytes(args.output_dir / FIGURE, picture)
    print(f"figure: {args.output_dir / FIGURE}\n")
    return {
        "forwards_ratio_equal_quality": best["ratio"] if best else 1.0,
        "best_sampler": best["sampler"] if best else None,
        "samplers": records,
        "prompts": len(asked),
        "split": args.split,
    }


def figure(records: Sequence[dict[str, Any]]) -> bytes:
    """Win rate against the ratio of forwards, sampler by sampler."""
    points: dict[str, list[tuple[float, Estimate]]] = {}
    for record in records:
        if record["counts"]:
            points.setdefault(record["family"], []).append((record["ratio"], Estimate(*record["win_rate"])))
    return families(
        points,
        x_axis="times fewer forwards per answer than one token per forward",
        y_axis="win rate against one token per forward",
        y_even=0.5,
    )


def encoded(base: Base, asked: Sequence[str]) -> list[list[int]]:
    """Prompts as ids."""
    return [base.tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in asked]  # type: ignore[misc]


def throughput(args: argparse.Namespace, base: Base, best: str | None) -> dict[str, Any]:
    """Part (b): wall seconds of all prompts in batches and one by one, in turns."""
    asked = in_hash_order(prompts(args.split), str)[: args.throughput_prompts]
    ids = encoded(base, asked)
    by_name = {sampler.name: sampler.config for sampler in samplers(args.quick)}
    # The headline is the demo's sampler, so that it does not depend on who won.
    own = Recipe()
    configs = {
        f"random, {own.sampling_steps} steps (the demo's)": own.generation(1),
        "confidence, 1 per forward": by_name["confidence, 1 per forward"],
        "confidence, dual cache": by_name["confidence, dual cache"],
    }
    if best is not None:
        configs[best] = by_name[best]
    rows, records = [], []
    for name, config in configs.items():
        slow: list[float] = []
        fast: list[float] = []
        same = 0
        answered(base, ids, config)  # warm-up
        for repeat in range(args.repeats):
            answers = []
            for seconds, size in ((slow, 1), (fast, args.tokens_per_batch)):
                started = time.perf_counter()
                answers.append(answered(base, ids, config, size).answers)
                seconds.append(time.perf_counter() - started)
            same = sum(a == b for a, b in zip(*answers, strict=True))
            progress(f"throughput, {name}, repeat {repeat + 1}: {slow[-1]:.2f} s one by one, {fast[-1]:.2f} s batched")
        ratio = ratios(slow, fast)
        per_second = Spread.of([len(ids) / s for s in fast])
        rows.append([name, per_second.text(1), Spread.of([len(ids) / s for s in slow]).text(1), ratio.text(), same])
        records.append({"sampler": name, "ratio": ratio._asdict(), "answers_per_second": per_second._asdict()})
    table(["sampler", "answers per second", "one by one", "times", f"equal answers of {len(ids)}"], rows)
    return {
        "batched_over_single": records[0]["ratio"]["median"],
        "batched_sampler": records[0]["sampler"],
        "throughput": records,
        "threads": torch.get_num_threads(),
    }


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.sampling", description=(__doc__ or "").split("\n")[0])
    made.add_argument("--output_dir", type=Path, default=Path("runs/sampling"))
    made.add_argument("--split", choices=["tuning", "report"], default="report", help="prompts to answer")
    made.add_argument("--num_prompts", type=int, help="prompts of the quality part (default: 800)")
    made.add_argument("--throughput_prompts", type=int, help="prompts of the throughput part (default: 96)")
    made.add_argument("--tokens_per_batch", type=int, default=4096, help="tokens in one batched forward")
    made.add_argument("--repeats", type=int, help="interleaved repeats of the throughput part (default: 5)")
    made.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="torch threads (default: all cores)")
    made.add_argument("--skip", nargs="*", choices=["quality", "throughput"], default=[], help="parts to leave out")
    made.add_argument("--quick", action="store_true", help="few prompts and samplers: checks that it runs, no figures")
    args = made.parse_args(argv)
    args.num_prompts = args.num_prompts or (12 if args.quick else 800)
    args.throughput_prompts = args.throughput_prompts or (6 if args.quick else 96)
    args.repeats = args.repeats or (1 if args.quick else 5)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, print."""
    args = arguments(argv)
    started = time.perf_counter()
    logging.disable_progress_bar()
    keep_freed_memory()  # as the command `unveil` does
    torch.set_num_threads(args.threads)
    try:
        base = load_base()
        found: dict[str, Any] = {}
        if "quality" not in args.skip:
            found |= quality(args, base)
        if "throughput" not in args.skip:
            found |= throughput(args, base, found.get("best_sampler"))
    except UserError as error:
        print(f"benchmarks.sampling: error: {error}", file=sys.stderr)
        return 2
    found |= {"quick": args.quick, "machine": machine(), "seconds": time.perf_counter() - started}
    write_json(args.output_dir / "results.json", found)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
