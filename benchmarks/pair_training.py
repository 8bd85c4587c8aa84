"""One training run of an objective on review pairs with the trainer of the package, and held-out margins after it.

Everything starts from the shipped base, which is the reference as well. No replay and no SFT beside the objective: what
is compared is the objectives themselves. Objectives for thumbs take the pairs apart, with twice the batch size, so that
a step always sees as many answers.
"""

import copy
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PrinterCallback

from benchmarks.review_pairs import ReviewPair, as_dataset, review_pairs
from unveil.data import to_shape
from unveil.demo.base import Base, load_base
from unveil.draws import plan
from unveil.errors import UserInputWarning
from unveil.likelihood import Response, score
from unveil.models import Denoiser
from unveil.objectives import RECIPES
from unveil.training import PreferenceConfig, PreferenceTrainer, objective_of, tokenize

SOURCE = "review pairs"
CANVAS = 40
# Held-out draws have a seed that no training run has.
EVALUATION_SEED = 30_000


@dataclass(frozen=True)
class Settings:
    """What the runs of one experiment share."""

    learning_rate: float = 5e-4
    steps: int = 50
    pairs_per_step: int = 32
    num_draws: int = 2
    draw_design: str = "quadratic_tiling"
    beta: float = 0.1
    end_of_answer: str = "one_eos"
    eval_draws: int = 4
    train_pairs: int | None = None
    """The first so many of the training pairs; None: all."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Trained:
    """The model, how many nats its last steps' margins were apart, and process CPU time."""

    model: PreTrainedModel
    margin: float
    cpu_seconds: float


@cache
def shipped_base() -> Base:
    """The shipped model, once per process."""
    return load_base()


def configuration(
    objective: str, arguments: Sequence[str], settings: Settings, seed: int, folder: str, **flags: Any
) -> PreferenceConfig:
    """The settings as the trainer's; `beta` goes to objectives that have one, ADPO gets tau = 1 / beta."""
    recipe = RECIPES[objective]
    given = [*arguments, *([f"tau={1 / settings.beta:g}"] if objective == "adpo" else [])]
    return PreferenceConfig(
        output_dir=folder,
        objective=objective,
        objective_args=given,
        beta=settings.beta if "beta" in recipe.defaults and objective != "simpo" else None,
        learning_rate=settings.learning_rate,
        max_steps=settings.steps,
        per_device_train_batch_size=settings.pairs_per_step * (2 if recipe.shape == "unpaired" else 1),
        num_draws=settings.num_draws,
        draw_design=settings.draw_design,
        end_of_answer=settings.end_of_answer,
        canvas_length=CANVAS if settings.end_of_answer.endswith("tail") else None,
        on_bad_rows="drop",
        seed=seed,
        logging_steps=1,
        dataloader_drop_last=True,
        dataloader_pin_memory=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
        **flags,
    )


def trained(
    pairs: Sequence[ReviewPair],
    objective: str,
    settings: Settings,
    seed: int,
    arguments: Sequence[str] = (),
    **flags: Any,
) -> Trained:
    """A copy of the base after one run; `arguments` are those of `--objective_args`, `flags` the trainer's own."""
    base, started = shipped_base(), time.process_time()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserInputWarning)  # cut answers and displacement: known here, one line per run
        args = configuration(objective, arguments, settings, seed, folder, **flags)
        chosen = as_dataset(pairs[: settings.train_pairs])
        rows = to_shape(chosen, objective_of(args).shape, SOURCE, objective=objective)
        model = copy.deepcopy(base.model)
        trainer = PreferenceTrainer(
            model,
            args,
            train_dataset=tokenize(rows, base.tokenizer, base.denoiser, args, SOURCE),
            processing_class=base.tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    history = [line["logps/chosen"] - line["logps/rejected"] for line in trainer.state.log_history if "loss" in line]
    return Trained(model.eval(), float(np.mean(history[-5:])), time.process_time() - started)


def responses(pairs: Sequence[ReviewPair], settings: Settings) -> list[Response]:
    """Tokenised answers of held-out pairs: chosen and rejected of the first pair, of the second, ..."""
    base = shipped_base()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserInputWarning)
        args = configuration("dpo", (), settings, 0, folder)
        rows = to_shape(as_dataset(pairs), "pairs", SOURCE)
        groups: list[Any] = list(tokenize(rows, base.tokenizer, base.denoiser, args, SOURCE))
    return [Response.from_row(one) for group in groups for one in group["responses"]]


def surrogates(denoiser: Denoiser, answers: Sequence[Response], draws: int) -> NDArray[np.float64]:
    """ELBO of every answer, nats `[N]`; draws depend on the answer's id alone, so that all models share them."""
    plans = [plan(EVALUATION_SEED, r.example_id, 0, r.length, draws) for r in answers]
    return score(denoiser, answers, plans).values.double().numpy()


@cache
def held_out_data(split: str, count: int | None, settings: Settings) -> tuple[list[Response], NDArray[np.float64]]:
    """Answers of held-out pairs (the first `count`; None: all) and their ELBOs under the base, once per process."""
    answers = responses(review_pairs(split)[:count], settings)
    return answers, surrogates(shipped_base().denoiser, answers, settings.eval_draws)


def margins(
    model: PreTrainedModel, answers: Sequence[Response], reference: NDArray[np.float64], draws: int
) -> NDArray[np.float64]:
    """r = B_policy - B_base of (chosen, rejected), nats `[pairs, 2]`."""
    return (surrogates(Denoiser(model), answers, draws) - reference).reshape(-1, 2)


def correct(margins_P2: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 where the chosen answer has the larger margin, 0 where the rejected one has, `[pairs]`; ties count half."""
    chosen, rejected = margins_P2.T
    return (chosen > rejected) + 0.5 * (chosen == rejected)


def one_thread() -> None:
    """What every worker process begins with."""
    torch.set_num_threads(1)
