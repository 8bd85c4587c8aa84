"""`unveil train`: align a masked diffusion language model from thumbs up and down, pairs or lists, by any objective."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from unveil.cli.loading import read_model, require_same_family
from unveil.cli.options import DataArguments, ModelArguments
from unveil.cli.output import command
from unveil.cli.parser import CommandLine
from unveil.cli.training_run import (
    adapted,
    held_out_rows,
    held_out_source,
    load_to_train,
    open_output,
    run,
    tell,
)
from unveil.data import (
    class_balance,
    describe_example,
    describe_group,
    group_balance,
    sft_rows,
    shape_of,
    subsample,
    to_shape,
)
from unveil.data.prompt_weights import tell_of_idle_weight
from unveil.errors import UserError
from unveil.models import Denoiser
from unveil.objectives import Objective
from unveil.training import PreferenceConfig, PreferenceTrainer, objective_of, refuse_batches_of_one, tokenize
from unveil.training.draw_checks import refuse_other_draws_in_pass_1
from unveil.training.feedback_checks import (
    refuse_missing_columns,
    refuse_what_teaches_nothing,
    tell_of_idle_columns,
)
from unveil.training.first_pass import refuse_unequal_shares
from unveil.training.preference_metrics import kto_term

DESCRIPTION = """Align a masked diffusion language model from thumbs up and down (prompt, completion, label), pairs
(prompt, chosen, rejected) or lists (prompt, completions, scores). The default objective is ELBO-KTO (arXiv
2510.23658), for which pairs are taken apart into thumbs; `unveil objectives` lists the others."""
# Policy without graph, reference, policy with graph and its backward pass.
PASSES = 3


@dataclass
class TrainScriptArguments(DataArguments):
    """Which data to learn from, and which reference"""

    replay_dataset_name: str | None = field(
        default=None,
        metadata={"help": "Text to rehearse (prompt + completion, text or messages), see --replay_weight."},
    )
    pairing: str | None = field(
        default=None,
        metadata={"help": "Thumbs or lists into pairs: in_order (thumbs), best_worst, all or best_vs_rest."},
    )
    threshold: float | None = field(
        default=None, metadata={"help": "Scores above it are thumbs up, below it thumbs down."}
    )
    ref_model_name_or_path: str | None = field(
        default=None, metadata={"help": "Reference model; unset: the model as it starts."}
    )


COMMAND_LINE = CommandLine(
    (ModelArguments, TrainScriptArguments, PreferenceConfig),
    "unveil train",
    DESCRIPTION,
    {
        "model_name_or_path": "a hub name or a folder",
        "dataset_name": "a hub name or a file",
        "output_dir": "a folder for the results",
    },
)


def main(argv: Sequence[str]) -> None:
    """Parse, read, load, train, evaluate, save."""
    model_args, script, args = COMMAND_LINE.read(argv)
    name = str(model_args.model_name_or_path)
    objective = objective_of(args)
    refuse_unequal_shares(objective, args)
    refuse_other_draws_in_pass_1(objective, args)
    checkpoint = open_output(args, script.overwrite, argv, model_args, script)
    set_seed(args.seed)
    held_out_name = held_out_source(script, args)
    feedback, held_out = read_feedback(script, args, objective, held_out_name)
    replay = read_replay(script, args)

    model, tokenizer = load_to_train(model_args, name)
    reference = read_reference(model_args, script, model, tokenizer)
    denoiser = Denoiser(model)

    def tokenized(rows: Dataset | None, source: str | None) -> Dataset | None:
        return None if rows is None else tokenize(rows, tokenizer, denoiser, args, str(source))

    train_dataset = tokenize(feedback, tokenizer, denoiser, args, str(script.dataset_name))
    held_out, replay = tokenized(held_out, held_out_name), tokenized(replay, script.replay_dataset_name)
    refuse_batches_of_one(objective, args, len(train_dataset))
    described, counts = balance_of(train_dataset, objective)
    example = describe_group if "responses" in train_dataset.column_names else describe_example
    tell(args, described, f"the first answer:\n{example(train_dataset[0], tokenizer)}")

    trainer = PreferenceTrainer(
        adapted(model, model_args),
        args,
        train_dataset=train_dataset,
        eval_dataset=held_out,
        ref_model=reference,
        objective=objective,
        replay_dataset=replay,
        processing_class=tokenizer,
    )
    record: dict[str, Any] = {
        "model": name,
        "reference": script.ref_model_name_or_path or name,
        "held_out": held_out_name,
        "replay": script.replay_dataset_name,
        "adapters": model_args.use_peft,
        "dtype": str(model.dtype).removeprefix("torch."),
        "objective": repr(objective),
        "feedback": counts,
        "fingerprints": {"train_dataset": train_dataset._fingerprint},
    }
    run(trainer, checkpoint, str(script.dataset_name), PASSES, record)
    tell(args, *next_commands(name, str(args.output_dir), held_out_name or str(script.dataset_name)))


def next_commands(model: str, output: str, data: str) -> list[str]:
    """What to try with the trained model."""
    return [
        f"saved in {output}; next:",
        command("unveil", "generate", "--model_name_or_path", output, "--prompt", "..."),
        command("unveil", "compare", "--model", output, "--against", model, "--dataset_name", data, "--judge", "JUDGE"),
        command(
            "unveil", "likelihood", "--model_name_or_path", output, "--ref_model_name_or_path", model,
            "--dataset_name", data,
        ),
    ]  # fmt: skip


def balance_of(dataset: Dataset, objective: Objective) -> tuple[str, dict[str, int]]:
    """A line that tells what there is to learn from, and its counts for `run.json`."""
    if "responses" in dataset.column_names:
        groups = group_balance(dataset)
        return groups.describe(), {"prompts": groups.n_prompts, "candidates": groups.n_candidates}
    kto = kto_term(objective)
    weights = (kto.desirable_weight, kto.undesirable_weight) if kto else (1.0, 1.0)
    thumbs = class_balance(dataset, *weights, recommend=kto is not None)
    return thumbs.describe(), {"desirable": thumbs.n_desirable, "undesirable": thumbs.n_undesirable}


def read_feedback(
    script: TrainScriptArguments, args: PreferenceConfig, objective: Objective, held_out_name: str | None
) -> tuple[Dataset, Dataset | None]:
    """Rows to learn from in the objective's shape (of each label as many as the flags say), and held-out rows."""

    def read_held_out(name: str) -> Dataset:
        return _feedback(script, args, objective, name, script.dataset_test_split, "--eval_dataset_name", held_out=True)

    name = str(script.dataset_name)
    rows = _feedback(script, args, objective, name, script.dataset_train_split, "--dataset_name")
    rows, held_out = held_out_rows(script, args, rows, held_out_name, read_held_out)
    return _of_each_label(rows, script, args, objective), held_out


def _of_each_label(
    rows: Dataset, script: TrainScriptArguments, args: PreferenceConfig, objective: Objective
) -> Dataset:
    """Some rows of each label, as `--n_desirable` and `--n_undesirable` say; both labels must be left."""
    if "label" not in rows.column_names:
        if args.n_desirable is None and args.n_undesirable is None:
            return rows
        raise UserError(
            f"--n_desirable, --n_undesirable: choose thumbs, and --objective {args.objective} learns from "
            f"{objective.shape}; leave them out"
        )
    flags = []
    if script.eval_size is not None:
        flags.append(f"--eval_size {script.eval_size:g}")
    if args.n_desirable is not None or args.n_undesirable is not None:
        wanted = [1.0 if share is None else share for share in (args.n_desirable, args.n_undesirable)]
        rows = subsample(rows, *wanted, seed=args.seed)
        flags.append(f"--n_desirable {wanted[0]:g} --n_undesirable {wanted[1]:g}")
    if flags and len(set(rows["label"])) == 1 and not args.allow_one_label:
        raise UserError(
            f"{' '.join(flags)}: rows of one label are left, and learning from thumbs up and down needs both; keep "
            "some of each, or give --allow_one_label"
        )
    return rows


def _feedback(
    script: TrainScriptArguments,
    args: PreferenceConfig,
    objective: Objective,
    name: str,
    split: str | None,
    flag: str,
    held_out: bool = False,
) -> Dataset:
    given = script.read(name, split, "test" if held_out else "train", flag, args.on_bad_rows)
    choices: Any = {"pairing": script.pairing, "threshold": script.threshold, "on_bad_rows": args.on_bad_rows}
    rows = to_shape(
        given,
        objective.shape,
        name,
        objective=args.objective,
        column_map=script.columns(),
        allow_one_label=args.allow_one_label or held_out,
        label_map=script.labels(),
        reads=columns_read(objective, args),
        liked=objective.splits_at_zero,
        **choices,
    )
    refuse_missing_columns(objective, args.objective, rows.column_names, name)
    if not held_out:
        renamed = given.rename_columns(script.columns() or {})
        tell_of_idle_columns(objective, args.objective, renamed, args.curriculum_stages > 0, name)
        refuse_what_teaches_nothing(objective, args.objective, rows, name)
    if objective.shape == "unpaired" and shape_of(given.rename_columns(script.columns() or {}), name) == "pairs":
        tell(args, f"{name}: {len(rows) // 2} pairs are taken apart into {len(rows)} thumbs")
    return rows


def columns_read(objective: Objective, args: PreferenceConfig) -> set[str]:
    """Columns of the data beside prompt and answers that this run cannot do without, see `columns_to_read`."""
    columns = set(objective.columns)
    if (weighted := objective.position_weights) is not None and "position_weights" in columns:
        columns |= {"steps", "step_weights"} if weighted.kind == "steps" else {"spans"}
    if args.curriculum_stages:
        columns |= {"gap", "score"}
    return columns


def read_replay(script: TrainScriptArguments, args: PreferenceConfig) -> Dataset | None:
    """The rows to rehearse, if any; a flag without its partner is refused."""
    name = script.replay_dataset_name
    if (name is None) != (args.replay_weight == 0):
        given, other = (
            ("--replay_dataset_name", "--replay_weight") if name else ("--replay_weight", "--replay_dataset_name")
        )
        raise UserError(f"{given}: has no effect without {other}; give both or none")
    if name is None:
        return None
    bad_rows: Any = args.on_bad_rows
    split = None if Path(name).expanduser().is_file() else script.dataset_train_split
    rows = script.read(name, split, "train", "--replay_dataset_name", args.on_bad_rows)
    tell_of_idle_weight(rows, name)
    return sft_rows(rows, name, on_bad_rows=bad_rows)


def read_reference(
    model_args: ModelArguments,
    script: TrainScriptArguments,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> nn.Module | None:
    """Another model as the reference, in the policy's precision, or None for the policy as it starts."""
    name = script.ref_model_name_or_path
    if name is None:
        return None
    reference = read_model(model_args, name, tokenizer, model.dtype)
    require_same_family(Denoiser(model), Denoiser(reference), name)
    return reference
