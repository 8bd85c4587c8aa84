"""A file that is missing, empty, cut, changed or foreign is named before anything is computed with it."""

import json
import shutil
from pathlib import Path

import pytest
from command_files import read_rows

FLAGS = ("--num_train_epochs", 2, "--save_strategy", "steps", "--save_steps", 2)


def _missing(file: Path) -> None:
    file.unlink()


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _one_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 64
    file.write_bytes(data)


def _foreign(file: Path) -> None:
    """The same file of the checkpoint before, where it is another one."""
    other = file.parent.parent / "checkpoint-2" / file.name
    data = other.read_bytes() if other.is_file() else b""
    file.write_bytes(data if data and data != file.read_bytes() else b"something else")


DAMAGES = {"missing": _missing, "empty": _empty, "cut": _cut, "one bit": _one_bit, "foreign": _foreign}


@pytest.fixture
def run_folder(train, tmp_path) -> Path:
    """A run with checkpoints 2, 4 and 6, its results removed: as one that was killed after its last step."""
    assert train(*FLAGS).code == 0
    for name in ("run.json", "model.safetensors"):
        (tmp_path / "out" / name).unlink()
    return tmp_path / "out"


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_refused_by_the_name_of_the_file_and_a_whole_one_is_named(
    train, run_folder, tmp_path, damage
):
    newest = run_folder / "checkpoint-6"
    names = sorted(path.name for path in newest.iterdir() if path.name != "checksums.json")
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"} <= set(names)
    shutil.copytree(newest, tmp_path / "whole")
    for name in names:
        damage(newest / name)
        code, _, err = train(*FLAGS, "--resume_from_checkpoint", True)
        assert code == 2, name
        assert err.count("\n") == 1, err
        assert f"checkpoint-6: {name} is" in err
        assert f"the newest whole one is {run_folder / 'checkpoint-4'}" in err
        shutil.copyfile(tmp_path / "whole" / name, newest / name)


def test_a_file_that_does_not_belong_to_a_checkpoint_is_refused(train, run_folder):
    (run_folder / "checkpoint-6" / "adapter_model.safetensors").write_bytes(b"x")
    code, _, err = train(*FLAGS, "--resume_from_checkpoint", run_folder / "checkpoint-6")
    assert code == 2
    assert "adapter_model.safetensors does not belong there" in err


@pytest.mark.parametrize("damage", [_empty, _cut, _one_bit, _foreign], ids=["empty", "cut", "one bit", "foreign"])
def test_a_damaged_list_of_checksums_is_refused(train, run_folder, damage):
    damage(run_folder / "checkpoint-6" / "checksums.json")
    code, _, err = train(*FLAGS, "--resume_from_checkpoint", True)
    assert code == 2
    assert err.count("\n") == 1
    assert "checkpoint-6: " in err
    assert damage is _foreign or "checksums.json is damaged" in err


@pytest.mark.filterwarnings("default::unveil.errors.UserInputWarning")
def test_a_checkpoint_without_checksums_is_told_and_used_only_if_nothing_is_missing(train, run_folder):
    newest = run_folder / "checkpoint-6"
    (newest / "checksums.json").unlink()
    code, _, err = train(*FLAGS, "--resume_from_checkpoint", True)
    assert code == 0
    assert err.count("has no checksums.json") == 1
    for name in ("model.safetensors", "optimizer.pt", "trainer_state.json"):
        whole = (newest / name).read_bytes()
        _cut(newest / name)
        code, _, err = train(*FLAGS, "--resume_from_checkpoint", True)
        assert code == 2
        assert f"{name} is cut or damaged" in err
        (newest / name).write_bytes(whole)


@pytest.mark.filterwarnings("default::unveil.errors.UserInputWarning")
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_metrics_are_restored_from_the_checkpoint_whatever_happened_to_them(train, run_folder, damage):
    before = [log for log in read_rows(run_folder / "metrics.jsonl") if log["step"] <= 4 and "loss" in log]
    damage(run_folder / "metrics.jsonl")
    assert train(*FLAGS, "--resume_from_checkpoint", run_folder / "checkpoint-4").code == 0
    logs = [log for log in read_rows(run_folder / "metrics.jsonl") if "loss" in log]
    assert logs[:4] == before
    assert [log["step"] for log in logs] == [1, 2, 3, 4, 5, 6]


@pytest.mark.filterwarnings("default::unveil.errors.UserInputWarning")
def test_a_half_line_of_metrics_is_told(train, run_folder):
    with open(run_folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 7, "lo')
    code, _, err = train(*FLAGS, "--resume_from_checkpoint", True)
    assert code == 0
    assert "metrics.jsonl: the last line was cut off" in err


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_report_refuses_results_that_are_not_as_they_were_written(unveil, train, tmp_path, damage):
    assert train().code == 0
    for name in ("run.json", "metrics.jsonl"):
        whole = (tmp_path / "out" / name).read_bytes()
        damage(tmp_path / "out" / name)
        code, _, err = unveil("report", tmp_path / "out", "--output_file", tmp_path / "page.html")
        assert code == 2
        assert f"{name} is" in err
        assert err.count("\n") == 1
        (tmp_path / "out" / name).write_bytes(whole)
    code, _, err = unveil("report", tmp_path / "out", "--output_file", tmp_path / "page.html")
    assert code == 0, err


def test_what_the_end_of_a_run_writes_is_listed(train, tmp_path):
    assert train().code == 0
    files = json.loads((tmp_path / "out" / "checksums.json").read_text())["files"]
    assert {"model.safetensors", "config.json", "run.json", "metrics.jsonl", "tokenizer.json"} <= set(files)
    assert not list((tmp_path / "out").glob(".*"))
