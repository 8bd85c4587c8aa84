"""One experiment: align the base, let both models answer, judge, and measure likelihoods. Writes no report."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from unveil.demo.align import align
from unveil.demo.answers import Answers, sample
from unveil.demo.base import Base
from unveil.demo.heldout import HeldOut, held_out_sets, nelbo_change, surrogates
from unveil.demo.judge import human_rating_judge
from unveil.demo.order import in_hash_order
from unveil.demo.progress import Stages
from unveil.demo.recipe import Recipe, Split
from unveil.demo.results import Evidence, Judged, Results, summarise
from unveil.demo.reviews import prompts
from unveil.errors import UserError
from unveil.judging import RatingJudge, comparison_of, judge_answers
from unveil.models import Denoiser


@dataclass(frozen=True)
class Yardstick:
    """What does not depend on the alignment: prompts, the base's answers (twice) and ELBOs of held-out texts."""

    prompts: list[str]
    answers: Answers
    again: Answers
    texts: list[HeldOut]
    elbos: list[NDArray[np.float64]]


@dataclass(frozen=True)
class Experiment:
    """Numbers, the evidence behind them, and the aligned model."""

    results: Results
    evidence: Evidence
    model: PreTrainedModel


def measure_base(base: Base, recipe: Recipe, split: Split, stages: Stages) -> Yardstick:
    """Answers and likelihoods of the base; runs that differ in their alignment only can share it."""
    asked = in_hash_order(prompts(split), str)[: recipe.num_prompts]
    texts = held_out_sets(base, recipe, split)
    denoiser = base.denoiser
    with stages.stage("base model answers", 2 * len(asked)) as advance:
        answers = sample(denoiser, base, asked, recipe, recipe.base_seed, advance)
        again = sample(denoiser, base, asked, recipe, recipe.null_seed, advance)
    with stages.stage("base likelihood of held-out text", sum(len(t.responses) for t in texts)) as advance:
        elbos = [surrogates(denoiser, part, recipe, advance) for part in texts]
    return Yardstick(asked, answers, again, texts, elbos)


def judged(asked: list[str], answers: Answers, others: Answers) -> Judged:
    """Both sets of answers through the judge fitted to human ratings, which reads prompt and answer as one text."""
    ratings = human_rating_judge()
    judge = RatingJudge(ratings.name, lambda texts: ratings.score(texts), ratings.tie_margin, reads="prompt_and_answer")
    judgement = judge_answers(judge, asked, answers.texts, others.texts)
    outcomes = np.array([verdict.outcome for verdict in judgement.verdicts])
    return Judged(comparison_of(judgement), outcomes, judge.rate(asked, answers.texts), judge.rate(asked, others.texts))


def experiment(
    base: Base,
    recipe: Recipe,
    split: Split,
    folder: Path,
    stages: Stages,
    shuffled: bool = False,
    yardstick: Yardstick | None = None,
) -> Experiment:
    """Run everything; `metrics.jsonl` is written to `folder`.

    yardstick: what `measure_base` gave for the same base, split and settings of sampling and measurement.
    """
    started = time.perf_counter()
    with stages.stage("align (ELBO-KTO)", recipe.steps) as advance:
        alignment = align(base, recipe, folder, shuffled, advance)
    known = yardstick or measure_base(base, recipe, split, stages)
    denoiser = Denoiser(alignment.model)
    with stages.stage("aligned model answers", len(known.prompts)) as advance:
        answers = sample(denoiser, base, known.prompts, recipe, recipe.aligned_seed, advance)
    with stages.stage("aligned likelihood of the same text", sum(len(t.responses) for t in known.texts)) as advance:
        elbos = [surrogates(denoiser, part, recipe, advance) for part in known.texts]
    with stages.stage("judge", 2) as advance:
        against_base = judged(known.prompts, answers, known.answers)
        advance(1)
        against_itself = judged(known.prompts, known.again, known.answers)
    if len({thumb for thumb in known.texts[0].thumbs if thumb is not None}) < 2:
        raise UserError(f"--num_texts {recipe.num_texts}: no held-out thumbs of both kinds among so few; give more")
    labelled = [i for i, thumb in enumerate(known.texts[0].thumbs) if thumb is not None]
    evidence = Evidence(
        prompts=known.prompts,
        base=known.answers,
        aligned=answers,
        against_base=against_base,
        against_itself=against_itself,
        margins=(elbos[0] - known.elbos[0])[labelled],
        thumbs=np.array([known.texts[0].thumbs[i] for i in labelled], dtype=bool),
        history=alignment.history,
        thumbs_up=alignment.thumbs_up,
        thumbs_down=alignment.thumbs_down,
        warnings=alignment.warnings,
    )
    nelbo = {t.name: nelbo_change(t, before, after) for t, before, after in zip(known.texts, known.elbos, elbos)}
    return Experiment(summarise(evidence, nelbo, time.perf_counter() - started), evidence, alignment.model)
