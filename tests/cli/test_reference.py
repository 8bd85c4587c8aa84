"""`unveil reference`: the cache that training takes, resumed after a kill to the same bytes."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from command_files import PAIRS, THUMBS, edited, write_rows
from transformers import AutoTokenizer

from unveil.data import load_rows, unpaired_rows
from unveil.draws import plan
from unveil.likelihood import PackedRows, canonical
from unveil.models import Denoiser, load_denoiser_model
from unveil.training import PreferenceConfig, reference_cache, tokenize
from unveil.training.cache_keys import Key, answers_of
from unveil.training.cached_reference import reference_from_cache


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def score(unveil, base, thumbs, tmp_path):
    """`score("--num_draws", 2)`: `unveil reference` on the thumbs into `cache`; given flags win."""

    def run(*words: object):
        return unveil(
            "reference", "--model_name_or_path", base, "--dataset_name", thumbs, "--output_dir", tmp_path / "cache",
            "--use_cpu", "--seed", 1, *words,
        )  # fmt: skip

    return run


def test_a_cache_is_made_told_and_found_complete(score, base, thumbs, tmp_path):
    code, out, err = score("--num_train_epochs", 2, "--eval_dataset_name", thumbs)
    assert (code, err) == (0, "")
    told = {line.split("│")[1].strip(): line.split("│")[2].strip() for line in out.splitlines() if line.startswith("│")}
    assert told["answers"] == "12"
    assert told["held-out answers"] == "12"
    assert told["epochs"] == "2"
    assert told["draws per answer"] == "4 (quadratic_tiling)"
    assert told["computed now"] == "values of 36 answers, 0 were there"
    assert f"unveil train --model_name_or_path {base} --dataset_name {thumbs} --eval_dataset_name {thumbs} " in out
    assert f"--ref_cache {tmp_path / 'cache'} --output_dir OUT" in out
    parts = json.loads((tmp_path / "cache" / "cache.json").read_text())["parts"]
    assert set(parts) == {
        "model weights", "model configuration", "tokenizer", "end of answer", "draws", "precision",
        "device and attention", "mask token", "code", "data", "held-out draws", "held-out data",
    }  # fmt: skip
    before = files(tmp_path / "cache")
    code, out, _ = score("--num_train_epochs", 2, "--eval_dataset_name", thumbs)
    assert code == 0
    assert "values of 0 answers, 36 were there" in out
    assert files(tmp_path / "cache") == before


def test_a_trainer_finds_what_the_command_wrote(score, base, thumbs, tmp_path):
    """Weights that were read from disk and a copy in memory give one value, bit for bit."""
    assert score().code == 0
    model, tokenizer = load_denoiser_model(base, "float32"), AutoTokenizer.from_pretrained(base)
    denoiser = Denoiser(model)
    args = PreferenceConfig(str(tmp_path / "run"), use_cpu=True, seed=1, report_to="none")
    dataset = tokenize(unpaired_rows(load_rows(thumbs, "train"), thumbs), tokenizer, denoiser, args, thumbs)
    found = reference_from_cache(tmp_path / "cache", model, denoiser, tokenizer, dataset, args)
    for response, size_id in answers_of(dataset, True):
        drawn = plan(1, response.example_id, 0, response.length, 4)
        live = canonical.canonical_row_sums(denoiser, [response], [drawn])
        assert torch.equal(found.cache.values(Key(0, response.example_id, size_id)), live)


@pytest.mark.parametrize("objective", ["dpo", "kto", "lipo"])
def test_pairs_serve_objectives_of_every_shape(score, tmp_path, objective):
    data = write_rows(tmp_path / "pairs.jsonl", PAIRS)
    code, out, err = score("--dataset_name", data, "--objective", objective)
    assert (code, err) == (0, "")
    assert "values of 8 answers" in out
    draws = json.loads((tmp_path / "cache" / "cache.json").read_text())["parts"]["draws"]["content"]
    assert draws["sizes"].startswith("drawn for each" if objective == "kto" else "shared by the candidates")


def test_another_run_is_refused_and_overwritten_on_demand(score, base, tmp_path):
    score()
    code, _, err = score("--num_draws", 2)
    assert code == 2
    assert err.count("\n") == 1
    assert "differs in draws (num_draws 4 there, 2 here); give the flags that it was made with" in err

    def move(tensors):
        tensors["model.transformer.wte.weight"][7, 3] += 1

    other = edited(base, move, tmp_path / "other")
    code, _, err = score("--model_name_or_path", other)
    assert code == 2
    assert "differs in model weights; " in err
    assert score("--model_name_or_path", other, "--overwrite").code == 0
    code, _, err = score()
    assert (code, "differs in model weights; " in err) == (2, True)


def test_what_cannot_be_kept_is_refused(score, base, tmp_path):
    for words, reason in (
        (("--objective", "simpo"), "--objective simpo: needs no reference, so there is nothing to compute"),
        (("--sync_ref_model", "True"), "--sync_ref_model: the reference moves"),
        (("--baseline", "trl_kl"), "--baseline trl_kl: scores answers under other prompts"),
        (("--output_dir", base), "holds something that is no reference cache; give another folder"),
    ):
        code, _, err = score(*words)
        assert code == 2
        assert err.count("\n") == 1
        assert reason in err
    assert not (tmp_path / "cache").exists()

    def spoil(tensors):
        tensors["model.transformer.wte.weight"][ord("3") - ord("!") + 4] = float("nan")

    code, _, err = score("--model_name_or_path", edited(base, spoil, tmp_path / "broken"))
    assert code == 2
    assert "the likelihood of row 3 is not a finite number" in err
    assert not list((tmp_path / "cache").glob("epoch-*"))


def test_ctrl_c_and_the_same_command_end_in_the_same_bytes(score, tmp_path, monkeypatch):
    monkeypatch.setattr(reference_cache, "ANSWERS_PER_SHARD", 3)
    assert score("--output_dir", tmp_path / "whole").code == 0
    batches = canonical.canonical_batches
    seen: list[PackedRows] = []

    def pressed(rows, device="cpu"):
        seen.extend(batches(rows, device))
        if len(seen) == 8:
            raise KeyboardInterrupt
        return batches(rows, device)

    with monkeypatch.context() as patch:
        patch.setattr(canonical, "canonical_batches", pressed)
        code, _, err = score()
    assert (code, err.count("\n")) == (130, 1)
    code, out, _ = score()
    assert code == 0
    assert "values of 6 answers, 6 were there" in out
    assert files(tmp_path / "cache") == files(tmp_path / "whole")


@pytest.mark.slow
def test_a_kill_and_the_same_command_end_in_the_same_bytes(score, base, tmp_path):
    data = write_rows(tmp_path / "many.jsonl", THUMBS * 120)
    words = ["--dataset_name", data, "--num_draws", 8]
    assert score(*words, "--output_dir", tmp_path / "whole").code == 0
    cut = tmp_path / "cut"
    command = [
        sys.executable, "-m", "unveil.cli.main", "reference", "--model_name_or_path", base, "--output_dir", str(cut),
        "--use_cpu", "--seed", "1", *map(str, words),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while len(list(cut.glob("epoch-*"))) < 2:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert len(list(cut.glob("epoch-*"))) < len(list((tmp_path / "whole").glob("epoch-*")))
    assert score(*words, "--output_dir", cut).code == 0
    assert files(cut) == files(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_make_the_same_files_as_one(score, base, tmp_path):
    data = write_rows(tmp_path / "many.jsonl", THUMBS * 40)
    assert score("--dataset_name", data, "--output_dir", tmp_path / "whole").code == 0
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m",
        "unveil.cli.main", "reference", "--model_name_or_path", base, "--output_dir", str(tmp_path / "shared"),
        "--use_cpu", "--seed", "1", "--dataset_name", data,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "shared") == files(tmp_path / "whole")
