"""`unveil variance`: how much the estimates of a model's likelihoods, margins and gradients vary, design by design."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from unveil.cli.inputs import refuse_to_lose_inputs
from unveil.cli.likelihood import read_answers
from unveil.cli.loading import load_for_use, require_same_family
from unveil.cli.options import LABEL_MAP, HeldOutArguments, UseArguments
from unveil.cli.parser import parse
from unveil.cli.variance_page import figure, print_page, report_of
from unveil.diagnostics.estimator_comparison import compare
from unveil.diagnostics.estimator_variance import (
    Draws,
    Measured,
    all_designs,
    has_strata,
    measure,
    served,
    ways_to_draw,
)
from unveil.diagnostics.gradient_moments import GradientRequest, chosen_parameters
from unveil.diagnostics.perturbation import perturbed_copy
from unveil.draws import DESIGNS, check_design
from unveil.errors import UserError, warn_user
from unveil.files import require_empty, write_bytes, write_json
from unveil.likelihood import COMBINERS, Response, check_combiner
from unveil.locks import claim_folder
from unveil.models import Denoiser
from unveil.terminal import say
from unveil.training import tokenize

DESCRIPTION = """Measure how much the estimates of the ELBO, of the margin over a reference and (with --gradient) of the
gradient vary from draw to draw, for every draw design and combiner at equal forward passes, on your model and your
data; and recommend one. Writes a table, a figure and a JSON file."""


@dataclass
class VarianceArguments(HeldOutArguments):
    """On which answers, for which designs, how precisely"""

    ref_model_name_or_path: str | None = field(
        default=None, metadata={"help": "Reference model; unset: a copy of the model with noise, see --perturbation."}
    )
    label_map: list[str] | None = field(default=None, metadata={"help": LABEL_MAP})
    perturbation: float = field(
        default=0.02, metadata={"help": "Without a reference: sd of the copy's noise, relative to each weight tensor."}
    )
    output_dir: str = field(default="unveil-variance", metadata={"help": "Folder for variance.json and variance.png."})
    max_samples: int | None = field(default=20, metadata={"help": "Use the first so many answers only."})
    num_draws: int = field(default=8, metadata={"help": "Draws (forward passes) per answer."})
    designs: list[str] | None = field(
        default=None, metadata={"help": "Draw designs; unset: all that serve --num_draws. iid is always measured."}
    )
    combiners: list[str] = field(
        default_factory=lambda: list(COMBINERS), metadata={"help": "Combiners; ht is always measured."}
    )
    strata_exponents: list[float] = field(
        default_factory=lambda: [2.0], metadata={"help": "Exponents of the strata of quadratic and quadratic_tiling."}
    )
    size_exponent: float = field(default=0.5, metadata={"help": "Exponent of importance."})
    replicates: int = field(default=50, metadata={"help": "Repeated plans per answer."})
    gradient: bool = field(default=False, metadata={"help": "Measure gradients too (several times the cost)."})
    gradient_replicates: int = field(default=16, metadata={"help": "Repeated plans per answer, of gradients."})
    gradient_parameters: list[str] | None = field(
        default=None,
        metadata={"help": "Parts of names of the parameters that gradients are of; unset: all. Bounds memory."},
    )
    seed: int = field(default=42, metadata={"help": "Seed of draws, noise and bootstrap."})
    tokens_per_batch: int = field(default=8192, metadata={"help": "Tokens in one forward pass; changes no result."})
    max_length: int | None = field(
        default=None, metadata={"help": "Longest prompt + answer in tokens; unset: the model's context."}
    )
    end_of_answer: str = field(
        default="one_eos",
        metadata={"help": "Ending: one_eos, end_of_turn, none, visible_tail, eos_visible_tail or scored_tail."},
    )
    canvas_length: int | None = field(
        default=None, metadata={"help": "Answer tokens up to which the *_tail rules fill with end-of-text tokens."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for flag, value in (("replicates", self.replicates), ("gradient_replicates", self.gradient_replicates)):
            if value < 2:
                raise UserError(f"--{flag} {value}: at least 2 are needed for a variance")
        if self.tokens_per_batch < 1:
            raise UserError(f"--tokens_per_batch {self.tokens_per_batch}: at least 1 is needed")
        if not 0 < self.perturbation < float("inf"):
            raise UserError(f"--perturbation {self.perturbation:g}: must be above 0; 0.02 is 2 % of each weight tensor")
        _checked(self)

    @property
    def ways(self) -> list[Draws]:
        """Every way to draw that is measured, `iid` first."""
        designs = all_designs(self.num_draws) if self.designs is None else self.designs
        return ways_to_draw(designs, self.num_draws, self.strata_exponents, self.size_exponent)

    @property
    def request(self) -> GradientRequest | None:
        """Which gradients."""
        if not self.gradient:
            return None
        return GradientRequest(self.gradient_replicates, tuple(self.gradient_parameters or ()))


def _checked(data: VarianceArguments) -> None:
    """The draws' own checks, under this command's flags."""
    renamed = {"--draw_design": "--designs", "--combiner": "--combiners", "--strata_exponent": "--strata_exponents"}
    try:
        check_design("iid", data.num_draws, 1)
        for design in data.designs or ():
            if design in DESIGNS and DESIGNS[design].draws_per_unit == 0:
                raise UserError(f"--designs {design}: its forward passes are as many as the answer says; leave it out")
            for exponent in data.strata_exponents:
                check_design(design, data.num_draws, 1, exponent, data.size_exponent)
        for exponent in data.strata_exponents:
            check_design("quadratic", data.num_draws, 1, exponent, data.size_exponent)
        for combiner in data.combiners:
            check_combiner(combiner, "iid", max(2, data.num_draws))
    except UserError as error:
        words = [renamed.get(word, word) for word in str(error).split(" ")]
        raise UserError(" ".join(words)) from None


def main(argv: Sequence[str]) -> None:
    """Parse, read, load, measure, compare, print, write."""
    model_args, data = parse(
        (UseArguments, VarianceArguments),
        argv,
        "unveil variance",
        DESCRIPTION,
        required={"model_name_or_path": "a hub name or a folder", "dataset_name": "a hub name or a file"},
    )
    written = [Path(data.output_dir) / name for name in ("variance.json", "variance.png")]
    refuse_to_lose_inputs(written, "--output_dir", argv, model_args, data, own_names=True)
    claim_folder(data.output_dir)
    require_empty(data.output_dir, data.overwrite)
    rows = read_answers(data)
    policy, tokenizer = load_for_use(model_args, str(model_args.model_name_or_path))
    if data.ref_model_name_or_path:
        reference, _ = load_for_use(model_args, data.ref_model_name_or_path, tokenizer)
        require_same_family(policy, reference, data.ref_model_name_or_path)
        against = data.ref_model_name_or_path
    else:
        reference = perturbed_copy(policy, data.perturbation, data.seed)
        against = f"a copy with {data.perturbation:.3g} relative Gaussian noise on every weight"
    if data.request:
        chosen_parameters(policy.model, data.request.parameters)
    responses = answers_of(tokenize(rows, tokenizer, policy, data, str(data.dataset_name)), str(data.dataset_name))
    measured = measure_all(policy, reference, responses, data)
    report = report_of(compare(measured, data.seed), measured, data.num_draws)
    report = {
        "model": model_args.model_name_or_path,
        "reference": against,
        "data": data.dataset_name,
        "answers": len(responses),
        "scored_tokens": sum(r.length for r in responses),
        "num_draws": data.num_draws,
        "replicates": data.replicates,
        "gradient_replicates": data.gradient_replicates if data.gradient else None,
        "seed": data.seed,
        **report,
    }
    folder = Path(data.output_dir)
    write_json(folder / "variance.json", report)
    write_bytes(folder / "variance.png", figure(report))
    print_page(report)
    say(f"written: {folder / 'variance.json'} and {folder / 'variance.png'}")


def answers_of(rows: Dataset, source: str) -> list[Response]:
    """At least two, of which one has two scored tokens."""
    responses = [Response.from_row(dict(row)) for row in rows]
    if len(responses) < 2:
        raise UserError(f"{source}: intervals are over answers, and there is {len(responses)}; give at least 2")
    if all(response.length == 1 for response in responses):
        raise UserError(f"{source}: every answer has a single token, whose likelihood is exact; give longer answers")
    return responses


def measure_all(
    policy: Denoiser, reference: Denoiser, responses: Sequence[Response], data: VarianceArguments
) -> list[Measured]:
    """One after the other, with a bar on a terminal."""
    gradient, measured = data.request, []
    per_answer = 2 * data.replicates + (gradient.replicates if gradient else 0)
    with _bar(len(data.ways) * len(responses) * per_answer) as advance:
        for draws in data.ways:
            combiners = served(data.combiners, draws)
            missing = [name for name in data.combiners if name not in combiners]
            if missing:
                warn_user(f"{draws.name} with {data.num_draws} draws cannot serve {', '.join(missing)}; left out")
            wanted = gradient._replace(by_stratum=_explains(draws)) if gradient else None
            measured.append(
                measure(
                    policy, reference, responses, draws, combiners, data.replicates, data.seed, wanted,
                    data.tokens_per_batch, advance,
                )
            )  # fmt: skip
    return measured


def _explains(draws: Draws) -> bool:
    """Gradients stratum by stratum cost a backward pass per draw: one design is enough to see how they fall."""
    return has_strata(draws) and draws == Draws("quadratic_tiling", draws.num_draws)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("measuring"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("measuring", total=total)
        yield lambda count: bar.advance(task, count)
