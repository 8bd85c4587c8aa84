"""`unveil train` and `unveil sft` end to end on a tiny checkpoint."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from command_files import PAIRS, THUMBS, edited, read_rows, write_rows
from safetensors.torch import load_file

from unveil.models import load_denoiser_model


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def run_record(out: Path) -> dict:
    return json.loads((out / "run.json").read_text())


def test_thumbs_move_the_model_and_leave_a_whole_folder(train, out, base):
    code, printed, err = train()
    assert (code, err) == (0, "")
    before, after = (load_file(Path(folder) / "model.safetensors") for folder in (base, out))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert load_denoiser_model(out).config.mask_token_id == 1
    for name in ("README.md", "tokenizer.json", "chat_template.jinja", "metrics.jsonl", "checkpoint-3"):
        assert (out / name).exists(), name
    record = run_record(out)
    assert record["steps"] == 3
    assert record["arguments"]["end_of_answer"] == "one_eos"
    assert record["model"] == record["reference"] == base
    assert record["feedback"] == {"desirable": 6, "undesirable": 6}
    assert record["results"]["loss"] == pytest.approx(read_rows(out / "metrics.jsonl")[2]["loss"])
    assert "6 desirable (mean length" in printed
    assert "plan: 3 steps of 4 answers (1 x 12 rows), 4 draws per answer, 3 passes per draw" in printed
    assert "scored: ' word0<|endoftext|>'" in printed
    assert f"unveil generate --model_name_or_path {out}" in printed


def test_pairs_are_taken_apart_and_held_out_pairs_are_ranked(train, pairs, out):
    code, printed, _ = train("--dataset_name", pairs, "--eval_dataset_name", pairs)
    assert code == 0
    assert f"{pairs}: 4 pairs are taken apart into 8 thumbs" in printed
    record = run_record(out)
    assert record["feedback"] == {"desirable": 4, "undesirable": 4}
    assert 0 <= record["results"]["eval_rewards/accuracies"] <= 1
    lines = read_rows(out / "metrics.jsonl")
    assert [line["step"] for line in lines if "eval_loss" in line] == [2]


def test_the_end_is_evaluated_once_and_by_the_model_that_is_saved(train, thumbs, out):
    train("--eval_dataset_name", thumbs, "--eval_strategy", "steps", "--eval_steps", 1)
    assert [line["step"] for line in read_rows(out / "metrics.jsonl") if "eval_loss" in line] == [1, 2, 3]
    best = (
        "--load_best_model_at_end",
        "--metric_for_best_model",
        "eval_elbo/per_token",
        "--greater_is_better",
        "False",
    )
    flags = ("--eval_strategy", "steps", "--eval_steps", 1, "--save_steps", 1, "--overwrite", *best)
    train("--eval_dataset_name", thumbs, "--learning_rate", 1e-2, *flags)
    by_step = [line["eval_elbo/per_token"] for line in read_rows(out / "metrics.jsonl") if "eval_loss" in line]
    assert run_record(out)["results"]["eval_elbo/per_token"] == pytest.approx(min(by_step[:3]))
    assert min(by_step[:3]) < by_step[2]


def test_the_test_split_is_held_out_when_evaluation_is_asked_for(train, tmp_path, out):
    folder = tmp_path / "data"
    folder.mkdir()
    write_rows(folder / "train.jsonl", THUMBS)
    write_rows(folder / "test.jsonl", THUMBS[:5])
    train("--dataset_name", folder)
    assert run_record(out)["held_out"] is None
    train("--dataset_name", folder, "--eval_strategy", "epoch", "--overwrite")
    assert run_record(out)["held_out"] == str(folder)
    assert "eval_loss" in run_record(out)["results"]


def test_a_yaml_file_runs_a_training(unveil, base, thumbs, tmp_path, out):
    run = {"model_name_or_path": base, "dataset_name": thumbs, "output_dir": str(out), "max_steps": 1, "use_cpu": True}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**run, "beta": 0.7, "objective": "kto", "num_draws": 2}))
    assert unveil("train", "--config", tmp_path / "run.yaml", "--num_draws", 3).code == 0
    arguments = run_record(out)["arguments"]
    assert (arguments["beta"], arguments["num_draws"], run_record(out)["steps"]) == (0.7, 3, 1)


def test_adapters_are_trained_saved_and_used_from_their_folder(train, unveil, base, thumbs, out):
    assert train("--use_peft", "--lora_r", 4, "--learning_rate", 0.1).code == 0
    assert not (out / "model.safetensors").exists()
    assert run_record(out)["adapters"] is True
    code, printed, err = unveil("generate", "--model_name_or_path", out, "--prompt", "say", "--gen_length", 4)
    assert (code, err) == (0, "")
    assert "1 answers, " in printed
    margins = out / "margins.jsonl"
    reference = ("--ref_model_name_or_path", base, "--output_file", margins)
    assert unveil("likelihood", "--model_name_or_path", out, "--dataset_name", thumbs, *reference).code == 0
    assert all(row["margin"] != 0 for row in read_rows(margins))


def test_another_reference_gives_margins_from_the_first_step(train, base, tmp_path, out):
    reference = edited(base, lambda tensors: [t.mul_(1.3) for t in tensors.values()], tmp_path / "reference")
    train("--ref_model_name_or_path", reference)
    assert read_rows(out / "metrics.jsonl")[0]["saturation/mean_abs"] > 0
    assert run_record(out)["reference"] == reference
    train("--overwrite")
    assert read_rows(out / "metrics.jsonl")[0]["saturation/mean_abs"] == 0


def test_replay_rows_are_rehearsed(train, tmp_path, out):
    text = write_rows(tmp_path / "text.jsonl", [{"text": f"once upon {i} times"} for i in range(5)])
    train("--replay_dataset_name", text, "--replay_weight", 0.5, "--replay_batch_size", 2)
    assert all("replay/nelbo_per_token" in line for line in read_rows(out / "metrics.jsonl")[:3])
    assert run_record(out)["replay"] == text


@pytest.mark.filterwarnings("default::unveil.errors.UserInputWarning")
def test_some_thumbs_of_each_kind_may_be_kept(train, out):
    train("--n_desirable", 4, "--n_undesirable", 0.5)
    assert run_record(out)["feedback"] == {"desirable": 4, "undesirable": 3}


def test_overwriting_leaves_nothing_of_the_earlier_run(train, out):
    train()
    train("--use_peft", "--overwrite", "--max_steps", 1)
    assert not (out / "model.safetensors").exists()
    assert not (out / "config.json").exists()
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-1"]


@pytest.mark.filterwarnings("default::unveil.errors.UserInputWarning")
def test_full_training_in_bfloat16_is_warned_about(train, out, tiny_llada, base):
    code, _, err = train("--dtype", "bfloat16")
    assert code == 0
    assert err.count("\n") == 1
    assert err.startswith("unveil: warning: --dtype bfloat16: all weights are trained in bfloat16")
    tiny_llada(dtype=torch.bfloat16).save_pretrained(base)
    assert train("--overwrite").err == ""
    assert load_file(out / "model.safetensors").popitem()[1].dtype == torch.float32
    assert train("--overwrite", "--use_peft").err == ""
    assert run_record(out)["dtype"] == "bfloat16"


@pytest.mark.filterwarnings("default::unveil.errors.UserInputWarning")
def test_long_prompts_keep_their_end(train, out):
    code, printed, _ = train("--max_prompt_length", 3, "--max_length", 30)
    assert code == 0
    assert "prompt, 3 tokens, given: ' 0:'" in printed


def test_a_template_of_the_user_shapes_conversations(train, pairs, tmp_path):
    (tmp_path / "mine.jinja").write_text("{% for m in messages %}<{{ m['content'] }}>{% endfor %}")
    code, printed, _ = train("--dataset_name", pairs, "--chat_template_path", tmp_path / "mine.jinja")
    assert code == 0
    assert "given: '<say 0>'" in printed


def test_the_likelihood_command_agrees_with_the_evaluation_of_training(train, unveil, thumbs, tmp_path, out):
    train("--eval_dataset_name", thumbs, "--seed", 5)
    flags = ("--dataset_name", thumbs, "--num_draws", 4, "--seed", 5, "--output_file", tmp_path / "elbo.jsonl")
    unveil("likelihood", "--model_name_or_path", out, *flags)
    chosen = [row["elbo"] for row in read_rows(tmp_path / "elbo.jsonl") if row["label"]]
    assert sum(chosen) / len(chosen) == pytest.approx(run_record(out)["results"]["eval_logps/chosen"], rel=1e-6)


def test_sft_learns_and_continues_from_its_own_checkpoint(unveil, base, tmp_path, out):
    rows = [{"prompt": row["prompt"], "completion": row["completion"]} for row in THUMBS]
    data = write_rows(tmp_path / "sft.jsonl", rows)
    flags = ("--dataset_name", data, "--eval_dataset_name", data, "--learning_rate", 1e-2, "--logging_steps", 1)
    code, printed, err = unveil("sft", "--model_name_or_path", base, "--output_dir", out, *flags, "--use_cpu")
    assert (code, err) == (0, "")
    assert "12 answers to learn from" in printed
    results = run_record(out)["results"]
    assert results["eval_nelbo_per_token"] < 5.5
    more = ("--output_dir", tmp_path / "again", *flags, "--use_cpu", "--num_train_epochs", 5)
    code, *_ = unveil("sft", "--model_name_or_path", out, *more)
    assert code == 0
    assert run_record(tmp_path / "again")["results"]["eval_nelbo_per_token"] < results["eval_nelbo_per_token"]


def test_sft_makes_a_new_model_from_a_config(unveil, base, tmp_path, out):
    data = write_rows(tmp_path / "text.jsonl", [{"text": f"once upon {i} times"} for i in range(8)])
    new = ("--init_from_config", Path(base) / "config.json", "--tokenizer_name_or_path", base)
    assert unveil("sft", *new, "--dataset_name", data, "--output_dir", out, "--use_cpu").code == 0
    assert load_denoiser_model(out).config.d_model == 32


def test_row_numbers_are_those_of_the_file(train, tmp_path):
    """Pairs count twice: the draws of a row depend on its number, so the numbers must not move."""
    rows = [*PAIRS, {**PAIRS[0], "chosen": [{"role": "assistant", "content": " "}]}]
    code, _, err = train("--dataset_name", write_rows(tmp_path / "pairs.jsonl", rows))
    assert code == 2
    assert "the chosen completion is empty (rows, from 0: 4)" in err


def test_the_hub_token_is_in_no_file_of_a_run(train, out, monkeypatch):
    token = "hf_" + "a1B2" * 9
    monkeypatch.setattr("sys.argv", ["unveil", "train", "--hub_token", token])
    assert train("--hub_token", token, "--save_steps", 1).code == 0
    assert "--hub_token '<hidden>'" in run_record(out)["command"]
    assert (out / "checkpoint-1" / "training_args.bin").is_file()
    for file in out.rglob("*"):
        assert not file.is_file() or token.encode() not in file.read_bytes(), file


@pytest.mark.filterwarnings("default::unveil.errors.UserInputWarning")
def test_a_last_row_that_would_be_its_own_baseline_joins_the_step_before_and_it_is_said(train, out, tmp_path):
    code, _, err = train("--dataset_name", write_rows(tmp_path / "nine.jsonl", THUMBS[:9]))
    assert code == 0
    assert "of 9 rows one would be left for the last step, and be its own baseline; it joins the step before" in err
    assert [row["step"] for row in read_rows(out / "metrics.jsonl") if "loss" in row] == [1, 2]
