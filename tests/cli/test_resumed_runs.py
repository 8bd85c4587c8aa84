"""A run that goes on from a checkpoint is the run that the checkpoint is of, or it is refused in one line."""

import os
import shutil
from pathlib import Path

import pytest
from command_files import THUMBS, edited, read_rows, write_rows
from safetensors.torch import load_file

STEPS = ("--save_steps", 1)
pytestmark = pytest.mark.filterwarnings("default::unveil.errors.UserInputWarning")


@pytest.fixture
def cut(train, tmp_path) -> Path:
    """A run of three steps as it was after the second one."""
    assert train("--output_dir", tmp_path / "whole", *STEPS).code == 0
    folder = tmp_path / "cut"
    folder.mkdir()
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", folder / "checkpoint-2")
    return folder


@pytest.fixture
def resumed(train, cut):
    def run(*words):
        return train("--output_dir", cut, *STEPS, "--resume_from_checkpoint", "True", *words)

    return run


def assert_refused(outcome, *told):
    assert outcome.code == 2, outcome.out
    (error,) = [line for line in outcome.err.splitlines() if not line.startswith("unveil: warning:")]
    assert error.startswith("unveil ")
    for words in told:
        assert words in outcome.err


def test_the_same_run_goes_on_without_a_word_and_ends_as_the_whole_one(resumed, cut, tmp_path):
    outcome = resumed()
    assert (outcome.code, outcome.err) == (0, "")
    name = "model.safetensors"
    assert (cut / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--seed", 9), ("is of another run: --seed 1 -> 9;",)),
        (("--draw_seed", 77), ("--draw_seed 1 -> 77",)),
        (("--beta", 5), ("--beta unset -> 5.0",)),
        (("--objective", "bco"), ("--objective kto -> bco",)),
        (("--baseline", "zero", "--beta", 0.3), ("--baseline unset -> zero", "--beta unset -> 0.3")),
        (("--per_device_train_batch_size", 2), ("--per_device_train_batch_size", "4 -> 2")),
        (("--gradient_accumulation_steps", 3), ("--gradient_accumulation_steps", "4 -> 12")),
        (("--lr_scheduler_type", "constant"), ("--lr_scheduler_type cosine -> constant",)),
        (("--num_draws", 2), ("--num_draws 4 -> 2",)),
        (("--max_length", 40), ("--max_length unset -> 40",)),
        (("--weight_decay", 0), ("--weight_decay 0.01 -> 0.0",)),
        (("--adam_beta2", 0.9), ("--adam_beta2 0.95 -> 0.9",)),
        (("--optim", "sgd"), ("--optim", "-> sgd")),
        (("--dtype", "bfloat16"), ("is of another run: --dtype float32 -> bfloat16;",)),
        (("--use_peft",), ("is of another model: --use_peft False -> True;",)),
    ],
)
def test_other_arguments_are_refused_by_name_old_and_new(resumed, words, told):
    assert_refused(resumed(*words), "checkpoint-2: is of another", *told)


def test_other_rows_are_refused_and_it_is_said_how_they_differ(resumed, tmp_path, thumbs):
    other = [{**row, "completion": row["completion"] + "!"} if i == 3 else row for i, row in enumerate(THUMBS)]
    flipped = [{**row, "label": not row["label"]} for row in THUMBS]
    for name, rows, told in (
        ("fewer", THUMBS[:-2], "12 -> 10"),
        ("other", other, "12 of other content"),
        ("flipped", flipped, "12 of other content"),
    ):
        data = write_rows(tmp_path / f"{name}.jsonl", rows)
        assert_refused(resumed("--dataset_name", data), f"other training rows ({told})")
    reversed_rows = write_rows(tmp_path / "reversed.jsonl", THUMBS[::-1])
    assert_refused(resumed("--dataset_name", reversed_rows), "other training rows")
    moved = write_rows(tmp_path / "moved.jsonl", THUMBS)
    assert resumed("--dataset_name", moved).code == 0, "where the rows lie is no part of them"


def test_another_start_model_or_reference_is_refused(resumed, base, tmp_path):
    def change(tensors):
        tensors["model.transformer.wte.weight"].add_(0.01)

    other = edited(base, change, tmp_path / "other")
    assert_refused(resumed("--model_name_or_path", other), "other start model's weights")
    outcome = resumed("--ref_model_name_or_path", other)
    assert_refused(outcome, "other reference model's weights")
    assert "start model" not in outcome.err


def test_a_batch_spread_otherwise_is_the_same_batch(resumed):
    outcome = resumed("--per_device_train_batch_size", 2, "--gradient_accumulation_steps", 2)
    assert (outcome.code, outcome.err) == (0, "")


def test_what_shapes_no_weight_may_change(resumed, thumbs, cut):
    outcome = resumed(
        "--logging_steps", 2, "--save_steps", 5, "--eval_strategy", "steps", "--eval_steps", 1, "--eval_dataset_name",
        thumbs, "--tokens_per_batch", 512, "--beta", 0.1,
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    logs = read_rows(cut / "metrics.jsonl")
    assert [log["step"] for log in logs if "eval_loss" in log] == [3], "the flags of now are obeyed"


def test_a_longer_run_and_another_learning_rate_are_told_not_refused(resumed, cut):
    outcome = resumed("--num_train_epochs", 2, "--learning_rate", 5e-4)
    assert outcome.code == 0
    assert outcome.err.count("\n") == 1
    assert "--num_train_epochs 1.0 -> --num_train_epochs 2.0" in outcome.err
    assert "--learning_rate 0.001 -> 0.0005" in outcome.err
    assert (cut / "checkpoint-6").is_dir()


def test_a_checkpoint_beyond_the_end_of_the_run_is_refused(train, tmp_path):
    assert train("--num_train_epochs", 2, *STEPS).code == 0
    outcome = train("--num_train_epochs", 1, *STEPS, "--resume_from_checkpoint", tmp_path / "out" / "checkpoint-5")
    assert_refused(outcome, "its 5 steps are more than this run has (3)")


def test_changes_can_be_forced_and_are_told(resumed, cut):
    outcome = resumed("--beta", 5, "--resume_with_changes", "True")
    assert outcome.code == 0
    assert outcome.err.count("\n") == 1
    assert "goes on with --beta unset -> 5.0" in outcome.err


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_checkpoint_without_a_state_is_refused_by_the_name_of_the_file(resumed, cut, name):
    (cut / "checkpoint-2" / name).unlink()
    assert_refused(resumed(), name)


def test_a_checkpoint_that_says_nothing_of_its_run_is_refused(resumed, cut):
    (cut / "checkpoint-2" / "run_identity.json").unlink()
    assert_refused(resumed(), "run_identity.json")


def test_a_checkpoint_saved_without_the_optimizer_says_so(train, tmp_path):
    flags = ("--save_only_model", "True", *STEPS)
    assert train(*flags).code == 0
    shutil.rmtree(tmp_path / "out" / "checkpoint-3")
    (tmp_path / "out" / "run.json").unlink()
    outcome = train(*flags, "--resume_from_checkpoint", "True")
    assert_refused(outcome, "--save_only_model", "--model_name_or_path to start a new run")


def test_adapters_of_another_shape_are_refused(train, tmp_path):
    adapters = ("--use_peft", "--max_steps", 1)
    assert train(*adapters).code == 0
    resume = ("--max_steps", 2, "--resume_from_checkpoint", "True")
    assert_refused(train("--use_peft", "--lora_r", 8, *resume), "--lora_r 16 -> 8")
    assert_refused(train("--use_peft", "--lora_alpha", 8, *resume), "--lora_alpha 32 -> 8")
    assert_refused(train("--use_peft", "--lora_target_modules", "q_proj", *resume), "--lora_target_modules")
    assert_refused(train(*resume), "--use_peft True -> False")
    forced = train("--use_peft", "--lora_r", 8, *resume, "--resume_with_changes", "True")
    assert_refused(forced, "is of another model")


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "run_identity.json", "trainer_state.json"]
)
@pytest.mark.parametrize("size", [0, 1000])
def test_a_file_that_was_cut_off_is_refused(resumed, cut, name, size):
    os.truncate(cut / "checkpoint-2" / name, size)
    assert_refused(resumed(), "checkpoint-2")


def test_a_run_of_another_command_is_refused_in_a_word(resumed, unveil, cut, base, thumbs):
    words = ("--model_name_or_path", base, "--dataset_name", thumbs, "--output_dir", cut, "--use_cpu")
    outcome = unveil("sft", *words, "--resume_from_checkpoint", "True")
    assert_refused(outcome, "is of another run: trainer preference -> sft;")


def test_sft_goes_on_with_its_own_run_only(unveil, base, tmp_path):
    rows = [{"prompt": row["prompt"], "completion": row["completion"]} for row in THUMBS]
    data, out = write_rows(tmp_path / "text.jsonl", rows), tmp_path / "out"

    def sft(*words):
        return unveil(
            "sft", "--model_name_or_path", base, "--dataset_name", data, "--output_dir", out, "--seed", 1,
            "--per_device_train_batch_size", 4, "--learning_rate", 1e-3, "--use_cpu", *STEPS, *words,
        )  # fmt: skip

    assert sft().code == 0
    whole = load_file(out / "model.safetensors")
    shutil.rmtree(out / "checkpoint-3")
    (out / "run.json").unlink()
    resume = ("--resume_from_checkpoint", "True")
    write_rows(Path(data), rows[::-1])
    assert_refused(sft(*resume), "other training rows")
    write_rows(Path(data), rows)
    assert_refused(sft(*resume, "--num_draws", 2), "--num_draws 1 -> 2")
    assert sft(*resume).code == 0
    assert all((whole[name] == tensor).all() for name, tensor in load_file(out / "model.safetensors").items())
