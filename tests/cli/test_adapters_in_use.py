"""Adapters from training to use: every command loads what was trained, goes on with it, or merges it when asked."""

import json
from pathlib import Path

import pytest
import torch
from command_files import read_rows
from safetensors.torch import load_file

from unveil.models import load_denoiser_model


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def run_record(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def adapter_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("targets", [(), ("wte",), ("q_proj", "ff_out")])
def test_margins_of_the_trained_policy_are_those_of_its_folder(
    train, unveil, tiny_llada, base, thumbs, tmp_path, out, dtype, targets
):
    tiny_llada(weight_tying=True, dtype=getattr(torch, dtype)).save_pretrained(base)
    words = ("--lora_target_modules", *targets) if targets else ()
    flags = ("--use_peft", "--beta", 0.1, "--learning_rate", 1e-2, "--eval_dataset_name", thumbs, *words)
    assert train(*flags).code == 0
    trained = run_record(out)["results"]
    draws, design = (run_record(out)["arguments"][name] for name in ("num_draws", "draw_design"))
    file = tmp_path / "margins.jsonl"
    code, _, err = unveil(
        "likelihood", "--model_name_or_path", out, "--ref_model_name_or_path", base, "--dataset_name", thumbs,
        "--num_draws", draws, "--draw_design", design, "--seed", 1,
        "--end_of_answer", "one_eos", "--output_file", file,
    )  # fmt: skip
    assert (code, err) == (0, "")
    rows = read_rows(file)
    for name, label in (("chosen", True), ("rejected", False)):
        margins = [row["margin"] for row in rows if row["label"] is label]
        assert sum(margins) / len(margins) * 0.1 == pytest.approx(trained[f"eval_rewards/{name}"], abs=2e-4)
        assert abs(sum(margins)) > 1e-2


def test_adapters_go_on_being_trained_against_themselves(train, base, out, tmp_path):
    train("--use_peft", "--lora_r", 4, "--learning_rate", 1e-2)
    more = tmp_path / "more"
    again = ("--model_name_or_path", out, "--use_peft", "--lora_r", 4, "--output_dir", more, "--learning_rate", 1e-2)
    assert train(*again).err == ""
    first = read_rows(more / "metrics.jsonl")[0]
    assert first["saturation/mean_abs"] == 0, "the reference is the model as it starts"
    before, after = adapter_of(out), adapter_of(more)
    assert before.keys() == after.keys()
    assert not (more / "model.safetensors").exists()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    base_of = [json.loads((folder / "base_model.json").read_text())["path"] for folder in (out, more)]
    assert base_of == [base, base]
    started = train(*again[:-1], 0.0, "--overwrite", "--max_steps", 1)
    assert started.code == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in adapter_of(more).items())


def test_a_run_that_goes_on_with_adapters_resumes_bit_for_bit(train, out, tmp_path):
    train("--use_peft", "--learning_rate", 1e-2)
    flags = ("--model_name_or_path", out, "--use_peft", "--learning_rate", 1e-2, "--save_steps", 1)
    train(*flags, "--output_dir", tmp_path / "whole")
    train(*flags, "--output_dir", tmp_path / "cut", "--max_steps", 3)
    checkpoint = tmp_path / "whole" / "checkpoint-2"
    assert train(*flags, "--output_dir", tmp_path / "resumed", "--resume_from_checkpoint", checkpoint).code == 0
    whole, resumed = (adapter_of(tmp_path / name) for name in ("whole", "resumed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_values_kept_of_adapters_serve_the_run_that_goes_on_with_them(train, unveil, thumbs, out, tmp_path):
    train("--use_peft", "--learning_rate", 1e-2)
    flags = (
        "--model_name_or_path", out, "--use_peft", "--dataset_name", thumbs, "--num_draws", 4, "--use_cpu",
        "--per_device_train_batch_size", 12, "--max_steps", 3, "--learning_rate", 1e-2,
    )  # fmt: skip
    live = unveil("train", *flags, "--output_dir", tmp_path / "live")
    assert live.code == 0
    kept = unveil("reference", *flags, "--output_dir", tmp_path / "cache")
    assert kept.code == 0, kept.err
    code, _, err = unveil("train", *flags, "--output_dir", tmp_path / "cached", "--ref_cache", tmp_path / "cache")
    assert code == 0, err
    live, cached = (adapter_of(tmp_path / name) for name in ("live", "cached"))
    for name in live:
        torch.testing.assert_close(live[name], cached[name], rtol=1e-3, atol=1e-5)


def test_all_weights_of_adapters_and_base_are_trained_without_use_peft(train, base, out, tmp_path):
    train("--use_peft", "--learning_rate", 1e-2)
    more = tmp_path / "more"
    assert train("--model_name_or_path", out, "--output_dir", more, "--max_steps", 1, "--learning_rate", 0.0).err == ""
    ids = torch.arange(4, 30)[None]
    merged, adapted = load_denoiser_model(more), load_denoiser_model(out)
    assert load_file(more / "model.safetensors").keys() == load_file(Path(base) / "model.safetensors").keys()
    torch.testing.assert_close(merged(input_ids=ids).logits, adapted(input_ids=ids).logits, rtol=1e-4, atol=1e-5)
    assert read_rows(more / "metrics.jsonl")[0]["saturation/mean_abs"] == 0


def test_flags_that_adapters_in_training_cannot_follow_are_refused(train, out, tmp_path):
    train("--use_peft", "--lora_r", 4)
    again = ("--model_name_or_path", out, "--use_peft", "--output_dir", tmp_path / "more")
    for flags in (("--lora_r", 8), ("--lora_alpha", 7), ("--lora_target_modules", "q_proj")):
        code, _, err = train(*again, *flags)
        assert code == 2
        assert f"{flags[0]}" in err
        assert "go on being trained as they are" in err


@pytest.mark.parametrize("targets", ["all-linear", ".*(q|v)_proj", "q_proj,v_proj"])
def test_targets_are_given_as_in_trl_by_flag_and_by_file(train, out, tmp_path, targets):
    words = ("--use_peft", "--max_steps", 1)
    assert train(*words, "--lora_target_modules", targets).err == ""
    by_flag = adapter_of(out).keys()
    (tmp_path / "run.yaml").write_text(json.dumps({"lora_target_modules": targets}))
    assert train(*words, "--overwrite", "--config", tmp_path / "run.yaml").err == ""
    assert adapter_of(out).keys() == by_flag
    assert len(by_flag) == 2 * 2 * (7 if targets == "all-linear" else 2)


@pytest.mark.filterwarnings("default::unveil.errors.UserInputWarning")
def test_a_checkpoint_of_other_adapters_or_of_whole_weights_is_not_resumed(train, out, tmp_path):
    train("--use_peft", "--lora_r", 4, "--max_steps", 1)
    resume = ("--max_steps", 2, "--resume_from_checkpoint", "True")
    lora = ("--use_peft", "--lora_r", 4)
    for flags, said in (
        ((), "--use_peft True -> False"),
        (("--use_peft", "--lora_r", 8), "--lora_r 4 -> 8"),
        ((*lora, "--lora_alpha", 7), "--lora_alpha 32 -> 7"),
        ((*lora, "--lora_target_modules", "q_proj"), "--lora_target_modules"),
    ):
        code, _, err = train(*resume, *flags)
        assert code == 2, flags
        assert err.count("\n") == 1
        assert said.lower() in err.lower()
    assert train(*resume, *lora).code == 0
    train("--output_dir", tmp_path / "full", "--max_steps", 1)
    code, _, err = train("--output_dir", tmp_path / "full", *resume, "--use_peft")
    assert code == 2
    assert "--use_peft" in err


def test_merge_writes_a_model_and_says_what_rounding_took(train, unveil, tiny_llada, base, out, tmp_path):
    tiny_llada(dtype=torch.bfloat16).save_pretrained(base)
    train("--use_peft", "--learning_rate", 1e-5, "--warmup_steps", 0)
    merged = tmp_path / "merged"
    code, printed, err = unveil("merge", "--model", out, "--output_dir", merged)
    assert (code, err) == (0, "")
    assert "left of the update" in printed
    assert "rounding to bfloat16 took" in printed
    assert json.loads((merged / "merge.json").read_text())["share"] < 0.9
    assert load_denoiser_model(merged).dtype == torch.bfloat16
    assert not (merged / "adapter_config.json").exists()
    code, _, err = unveil("merge", "--model", out, "--output_dir", merged)
    assert code == 2
    assert "the folder is not empty; give --overwrite" in err
    code, printed, _ = unveil("merge", "--model", out, "--output_dir", merged, "--dtype", "float32", "--overwrite")
    assert code == 0
    assert "rounding" not in printed.replace("what rounding", "")
    wide, adapted = load_denoiser_model(merged), load_denoiser_model(out, "float32")
    ids = torch.arange(4, 30)[None]
    torch.testing.assert_close(wide(input_ids=ids).logits, adapted(input_ids=ids).logits, rtol=1e-4, atol=1e-5)
    generated = unveil("generate", "--model_name_or_path", merged, "--prompt", "say", "--gen_length", 4)
    assert generated.code == 0


def test_merge_refuses_what_it_cannot_do(train, unveil, base, out, tmp_path):
    train("--use_peft", "--max_steps", 1)
    for flags, said in (
        (("--model", base, "--output_dir", tmp_path / "m"), "is no folder of adapters"),
        (("--model", tmp_path / "nowhere", "--output_dir", tmp_path / "m"), "is no folder of adapters"),
        (("--model", out, "--output_dir", out, "--overwrite"), "is the folder of the model itself"),
        (("--model", out, "--output_dir", base, "--overwrite"), "would be lost"),
        (("--model", out, "--output_dir", tmp_path, "--overwrite"), "would be lost"),
        (("--model", out, "--output_dir", tmp_path / "m", "--dtype", "int8"), "--dtype int8"),
    ):
        code, _, err = unveil("merge", *flags)
        assert code == 2, flags
        assert err.count("\n") == 1
        assert said in err
    assert (out / "adapter_model.safetensors").exists()
    assert (Path(base) / "model.safetensors").exists()


def test_what_is_kept_of_an_evaluation_tells_adapters_from_their_base(base, train, out):
    from unveil.likelihood.digests import digest_of_weights

    train("--use_peft", "--learning_rate", 1e-2)
    with_adapters, alone = load_denoiser_model(out), load_denoiser_model(base)
    assert digest_of_weights(with_adapters, adapters=True) != digest_of_weights(alone, adapters=True)
    assert digest_of_weights(with_adapters) == digest_of_weights(alone)
