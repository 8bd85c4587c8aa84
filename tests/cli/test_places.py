"""An output place is looked at before any work: it can be written, it is free, and no other process writes there."""

import os
import shutil
from pathlib import Path

import pytest
from command_files import read_rows, write_rows

from unveil.locks import claim_file, claim_folder, claims_end_here


@pytest.fixture
def commands(base, thumbs, tmp_path, monkeypatch):
    """`commands(name, place)`: words that write to a place, and how the place is claimed."""
    monkeypatch.chdir(tmp_path)
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text(f"starts: {{base: {{model_name_or_path: {base}}}}}\nmethods: {{kto: {{}}}}\n"
                      f"tasks: {{arc_easy: {{}}}}\ntrain: {{dataset_name: {thumbs}}}\n")  # fmt: skip
    run = tmp_path / "a-run"
    run.mkdir()
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n')
    model, data = ("--model_name_or_path", base), ("--dataset_name", thumbs)
    return {
        "train": (*model, *data, "--use_cpu", "--output_dir"),
        "sft": (*model, *data, "--use_cpu", "--output_dir"),
        "reference": (*model, *data, "--use_cpu", "--output_dir"),
        "compare": (*model, "--against", base, *data, "--judge", "length", "--output_dir"),
        "evaluate": (*model, "--tasks", "arc_easy", "--output_dir"),
        "variance": (*model, *data, "--output_dir"),
        "matrix": ("--config", matrix, "--output_dir"),
        "demo": ("--max_steps", 1, "--num_prompts", 4, "--output_dir"),
        "generate": (*model, "--prompt", "x", "--output_file"),
        "likelihood": (*model, *data, "--output_file"),
        "report": (run, "--output_file"),
    }


FOLDERS = ("train", "sft", "reference", "compare", "evaluate", "variance", "matrix", "demo")
FILES = ("generate", "likelihood", "report")


@pytest.mark.parametrize("name", FOLDERS + FILES)
def test_the_second_process_in_one_place_is_refused_in_one_line(unveil, commands, tmp_path, name):
    """Here the first is this process itself."""
    with claims_end_here():
        claim = claim_file if name in FILES else claim_folder
        if name == "demo":
            claim_folder(tmp_path / "place", beside=True)
        else:
            claim(tmp_path / "place")
        code, _, err = unveil(name, *commands[name], tmp_path / "place")
        assert code == 2
        assert err.count("\n") == 1, err
        assert f"place: this process ({os.getpid()} on " in err
    assert not (tmp_path / "place").exists()


@pytest.mark.parametrize("name", FOLDERS + FILES)
@pytest.mark.parametrize("place", ["thumbs.jsonl/below/out", "loop/out", "n" * 300, "/proc/out"])
def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    unveil, commands, tmp_path, monkeypatch, name, place
):
    (tmp_path / "loop").symlink_to("loop")
    if place.startswith("/proc"):  # root may write everywhere, as far as some systems tell
        real = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith("/proc") and real(path, mode))
    before = sorted(os.listdir(tmp_path))
    code, _, err = unveil(name, *commands[name], place)
    assert code == 2
    assert err.count("\n") == 1, err
    assert commands[name][-1] in err
    assert sorted(os.listdir(tmp_path)) == before


def test_one_file_for_two_things_is_refused(unveil, commands, tmp_path):
    words = ("--output_file", tmp_path / "x", "--trajectories", tmp_path / "x")
    code, _, err = unveil("generate", *commands["generate"][:-1], *words)
    assert code == 2
    assert "--trajectories" in err


@pytest.mark.parametrize("name", ["generate", "likelihood"])
def test_a_device_is_not_replaced_by_a_file(unveil, commands, name):
    code, _, err = unveil(name, *commands[name], "/dev/null", "--overwrite")
    assert code == 2
    assert "no regular file" in err
    assert Path("/dev/null").is_char_device()


def test_a_command_that_ends_leaves_its_place_free(train, unveil, commands, tmp_path):
    assert train("--output_dir", tmp_path / "place").code == 0
    assert [path.name for path in (tmp_path / "place").rglob("*.lock")] == []
    code, _, _ = unveil("likelihood", *commands["likelihood"], tmp_path / "x.jsonl", "--num_draws", 2)
    assert code == 0
    assert len(read_rows(tmp_path / "x.jsonl")) == 12
    assert [path.name for path in tmp_path.glob(".*")] == []


DAMAGES = {
    "missing": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "bit of the head": lambda file: flip(file, 12),
    "bit of the middle": lambda file: flip(file, file.stat().st_size // 2),
    "bit of the end": lambda file: flip(file, -3),
    "foreign": lambda file: file.write_bytes(file.with_name("other").read_bytes()),
}


def flip(file: Path, place: int) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)


def test_a_reference_cache_with_a_damaged_file_is_refused_by_name(unveil, train, base, thumbs, tmp_path):
    """Every file in seven ways; a foreign one is that of a cache of other answers."""
    others = write_rows(tmp_path / "others.jsonl", [row | {"prompt": "other"} for row in read_rows(thumbs)])
    for data, folder in ((thumbs, "cache"), (others, "other-cache")):
        words = ("--model_name_or_path", base, "--dataset_name", data, "--use_cpu", "--seed", 1)
        assert unveil("reference", *words, "--output_dir", tmp_path / folder).code == 0
    cache, whole = tmp_path / "cache", tmp_path / "whole"
    shutil.copytree(cache, whole)
    names = sorted(path.name for path in whole.iterdir())
    assert names[:2] == ["answers.safetensors", "cache.json"]
    for name in names:
        alike = [path for path in (tmp_path / "other-cache").iterdir() if path.name[:8] == name[:8]]
        for kind, damage in DAMAGES.items():
            shutil.copyfile(alike[0], cache / "other")
            damage(cache / name)
            (cache / "other").unlink()
            code, _, err = train("--ref_cache", cache)
            assert code == 2, (name, kind)
            assert err.count("\n") == 1, err
            shutil.copyfile(whole / name, cache / name)
            if kind == "missing" and name.startswith("epoch"):
                assert "is not finished" in err
            elif (kind, name) != ("foreign", "cache.json"):  # there the others are named, which do not fit to it
                assert name in err, kind
    assert train("--ref_cache", cache).code == 0
