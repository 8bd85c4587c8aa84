"""`unveil plan`: its numbers are those of the run that the same flags start, and it loads no weights."""

import json
import re
import shutil
from pathlib import Path

import pytest
from command_files import THUMBS, write_rows
from safetensors.torch import load_file
from test_bad_input import one_line
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from unveil.models import LLaDAConfig

RUNS = {
    "two epochs, graphs kept": ["--per_device_train_batch_size", 12, "--num_train_epochs", 2],
    "small budget": ["--per_device_train_batch_size", 12, "--tokens_per_batch", 100],
    "eight iid draws, accumulation": [
        "--num_draws", 8, "--draw_design", "iid", "--kept_tokens", 0,
        "--per_device_train_batch_size", 2, "--gradient_accumulation_steps", 3,
    ],
    "values of the reference computed once": [
        "--precompute_ref_log_probs", True, "--draws", "fixed",
        "--per_device_train_batch_size", 12, "--num_train_epochs", 2,
    ],
    "more draws for the weights": ["--num_draws_weight", 8],
    "adapters": [
        "--use_peft", "--lora_r", 4, "--lora_dropout", 0, "--kept_tokens", 0, "--per_device_train_batch_size", 12,
    ],
    "no reference": ["--objective", "asft", "--per_device_train_batch_size", 12],
}  # fmt: skip


@pytest.fixture
def plan(unveil, base, thumbs):
    """`plan("--num_draws", 8)` -> the JSON object, for the thumbs on a CPU of 100 GFLOP/s."""

    def run(*words: object) -> dict:
        on = [] if "--gpus" in words else ["--gpus", "cpu", "--cpu_gflops", 100]
        outcome = unveil("plan", "--model_name_or_path", base, "--dataset_name", thumbs, "--json", *on, *words)
        assert outcome.code == 0, outcome
        return json.loads(outcome.out)

    return run


SLOW = ("small budget", "eight iid draws, accumulation", "more draws for the weights", "adapters")


@pytest.mark.parametrize("case", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in RUNS])
def test_planned_operations_are_those_of_the_run(case, plan, train):
    flags = RUNS[case]
    planned = plan("--per_device_train_batch_size", 4, "--seed", 1, *flags)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        assert train(*flags).code == 0
    assert planned["run"]["total_flops"] == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_no_weights_are_read(plan, base):
    (Path(base) / "model.safetensors").unlink()
    assert plan()["model"]["parameters"] > 0


def test_adapter_folders_are_planned_as_their_base(unveil, plan, base, tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": base, "r": 4, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    shutil.copy(Path(base) / "tokenizer.json", folder)
    shutil.copy(Path(base) / "tokenizer_config.json", folder)
    assert plan("--model_name_or_path", folder)["model"]["parameters"] == plan()["model"]["parameters"]


def test_lengths_are_those_that_training_would_read(plan):
    """Bytes, the end of the answer, and as many rows as draws."""
    found = plan("--num_draws", 3)
    lengths = [len(row["prompt"]) + len(row["completion"]) + 1 for row in THUMBS]
    assert found["data"]["tokens"]["total"] == sum(lengths)
    assert found["data"]["tokens"]["max"] == max(lengths)
    assert found["data"]["scored"]["total"] == sum(len(row["completion"]) + 1 for row in THUMBS)
    assert found["draws"]["tokens_per_epoch"] == 3 * sum(lengths)


def test_pairs_are_planned_as_groups(plan, pairs):
    """As thumbs, and whole for an objective on pairs: the same rows, half the steps."""
    apart = plan("--dataset_name", pairs, "--per_device_train_batch_size", 2)
    whole = plan("--dataset_name", pairs, "--per_device_train_batch_size", 2, "--objective", "dpo")
    assert (whole["data"]["rows"], whole["data"]["answers"]) == (4, 8)
    assert (apart["run"]["steps"], whole["run"]["steps"]) == (4, 2)
    assert whole["draws"]["tokens_per_epoch"] == apart["draws"]["tokens_per_epoch"]


def test_replay_rows_are_counted(plan, tmp_path):
    text = write_rows(tmp_path / "text.jsonl", [{"prompt": "say:", "completion": " word"}])
    flags = ["--replay_dataset_name", text, "--replay_weight", 0.1, "--replay_batch_size", 5, "--replay_num_draws", 2]
    with_replay = plan(*flags)["run"]["flops"]
    assert with_replay["replay"]["total"] > 0
    assert plan()["run"]["flops"] == {name: part for name, part in with_replay.items() if name != "replay"}


@pytest.fixture
def published_sizes(base, tmp_path) -> str:
    """LLaDA-8B's configuration, without weights, beside the test tokenizer."""
    folder = tmp_path / "8b"
    LLaDAConfig(mask_token_id=1, eos_token_id=0, dtype="bfloat16").save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(base) / name, folder)
    return str(folder)


def test_eight_billion_on_eight_cards(plan, published_sizes):
    """Spec: 128 to 144 GB of weights, gradients and states do not fit on one card; LoRA does, full on eight does."""
    flags = ["--model_name_or_path", published_sizes, "--gpus", "8xH100-80GB", "--tokens_per_batch", 4096]
    outcome = {(one["method"], one["sharding"]): one for one in plan(*flags)["memory"]}
    full = outcome["full", "one"]
    assert full["weights"] + full["gradients"] + full["optimizer"] == pytest.approx(16 * 8.0156e9, rel=1e-3)
    assert full["fits"] is False
    assert full["largest_tokens_per_batch"] is None
    assert outcome["LoRA", "one"]["fits"] is True
    assert outcome["full", "fsdp2"]["fits"] is True
    assert outcome["full", "fsdp2"]["optimizer"] == pytest.approx(full["optimizer"] / 8)
    assert outcome["QLoRA", "one"]["weights"] < 0.5 * outcome["LoRA", "one"]["weights"]


def test_tables_fit_into_a_hundred_columns(unveil, published_sizes, thumbs):
    outcome = unveil("plan", "--model_name_or_path", published_sizes, "--dataset_name", thumbs, "--gpus", "2xH100")
    assert outcome.code == 0
    assert max(map(len, outcome.out.splitlines())) <= 100
    assert "8,015,581,184 parameters" in outcome.out
    assert "The run does not fit" in outcome.out
    assert "hours" in outcome.out or "minutes" in outcome.out or "seconds" in outcome.out


BAD = {
    "unknown card": (["--gpus", "2xQ9"], "--gpus 2xQ9: Q9 is not in the table .*--gpu_memory_gb and --gpu_tflops"),
    "which A100": (["--gpus", "A100"], "give A100-40GB or A100-80GB"),
    "no card": (["--gpus", "0xH100"], "must look like 1xH100-80GB"),
    "cpu without its speed": (["--gpus", "cpu"], "--cpu_gflops"),
    "speed of a CPU for a GPU": (["--cpu_gflops", 5], "--cpu_gflops: has no effect"),
    "utilisation in per cent": (["--utilisation", 40], "--utilisation 40: must be above 0 and at most 1"),
    "4 bits without adapters": (["--load_in_4bit"], "--load_in_4bit: .* give --use_peft too"),
    "4 bits on a CPU": (
        ["--use_peft", "--load_in_4bit", "--gpus", "cpu", "--cpu_gflops", 5],
        "--load_in_4bit: .* need a GPU",
    ),
    "a type of 8 bits": (["--dtype", "float8_e4m3fn"], "--dtype float8_e4m3fn: is no type to compute in"),
    "targets that match nothing": (["--lora_target_modules", "query"], "--lora_target_modules .* matches no linear"),
    "objective": (["--objective", "xyz"], "--objective xyz: unknown"),
    "model": (["--model_name_or_path", "/no/where"], "no such folder"),
}


def test_four_bits_are_planned_for_and_said_not_to_be_trainable_yet(plan, unveil, published_sizes, thumbs):
    words = ["--model_name_or_path", published_sizes, "--gpus", "1xH100", "--use_peft"]
    assert plan(*words)["model"]["can_be_trained"] is True
    assert plan(*words, "--load_in_4bit")["model"]["can_be_trained"] is False
    outcome = unveil("plan", *words, "--load_in_4bit", "--dataset_name", thumbs)
    assert "cannot load weights in 4 bits yet" in outcome.out


@pytest.mark.parametrize("targets", ["all-linear", ".*(q|v)_proj", "q_proj,v_proj"])
def test_targets_are_planned_as_they_are_trained(plan, train, base, tmp_path, targets):
    planned = plan("--model_name_or_path", base, "--use_peft", "--lora_r", 4, "--lora_target_modules", targets)
    train("--use_peft", "--lora_r", 4, "--lora_target_modules", targets, "--max_steps", 1)
    trained = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert planned["model"]["trained"] == sum(tensor.numel() for tensor in trained.values())
    going_on = plan("--model_name_or_path", tmp_path / "out", "--use_peft")
    assert going_on["model"]["trained"] == planned["model"]["trained"]


@pytest.mark.parametrize("case", BAD)
def test_bad_flags(case, unveil, base, thumbs):
    flags, pattern = BAD[case]
    outcome = unveil("plan", "--model_name_or_path", base, "--dataset_name", thumbs, *flags)
    assert re.search(pattern, one_line(outcome, "plan"))


def test_other_architectures_are_refused(unveil, base, thumbs):
    file = Path(base) / "config.json"
    file.write_text(json.dumps({"model_type": "bert"}))
    outcome = unveil("plan", "--model_name_or_path", base, "--dataset_name", thumbs)
    assert "model_type 'bert' cannot be planned for yet" in one_line(outcome, "plan")


def test_flags_of_a_run_file_are_taken(plan, thumbs, tmp_path):
    """`--config run.yaml` of `unveil train`, bf16 and output folder included, on a machine without a GPU."""
    run = tmp_path / "run.yaml"
    run.write_text(f"output_dir: {tmp_path / 'out'}\nbf16: true\nnum_draws: 2\nlearning_rate: 1.0e-5\n")
    found = plan("--config", run)
    assert found["draws"]["num_draws"] == 2
    assert found["model"]["autocast"] is True
    assert not (tmp_path / "out").exists()
