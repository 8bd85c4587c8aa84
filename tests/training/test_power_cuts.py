"""A machine that loses power, or a process that dies, at any moment keeps the last whole checkpoint."""

import os
import re
from pathlib import Path

import pytest
from power_cuts import Disk

from unveil.checksums import damage_of, has_checksums
from unveil.errors import UserError
from unveil.training import checkpoint_to_resume
from unveil.training.checkpoint import checkpoints_in


def settings(folder: Path, **more):
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "save_strategy": "steps",
        "save_steps": 1,
        "max_steps": 4,
        "seed": 3,
        **more,
    }


def newest(folder: Path) -> int:
    """The step to go on from; 0 where nothing was saved yet."""
    if not list(folder.glob("checkpoint-*")) + list(folder.glob(".checkpoint-*")):
        return 0
    found = Path(str(checkpoint_to_resume(str(folder), True)))
    assert has_checksums(found)
    assert damage_of(found, foreign=True) is None
    return int(found.name.split("-")[1])


@pytest.mark.parametrize("early_names", [True, False], ids=["early names", "late names"])
@pytest.mark.parametrize("limit", [1, None])
def test_whenever_the_power_goes_the_last_saved_checkpoint_is_whole(
    trainer_of, rows, tiny_llada, tmp_path, limit, early_names
):
    folder, after = tmp_path / "run", tmp_path / "after"
    folder.mkdir()
    trainer = trainer_of(rows(8), tiny_llada(vocab_size=24), **settings(folder, save_total_limit=limit, max_steps=2))
    seen, published = [], 0

    def cut(disk):
        nonlocal published
        seen.append(newest(disk.after_a_power_cut(after, early_names)))
        assert seen[-1] >= published

    publish = trainer._publish

    def noting(folder, name):
        nonlocal published
        publish(folder, name)
        published = int(name.split("-")[1])

    trainer._publish = noting
    with Disk.watching(folder, cut):
        trainer.train()
    assert sorted(set(seen)) == [0, 1, 2]
    assert seen[-1] == 2


@pytest.mark.parametrize("early_names", [True, False], ids=["early names", "late names"])
def test_a_checkpoint_that_takes_the_place_of_an_older_one_never_leaves_a_half(
    trainer_of, rows, tiny_llada, tmp_path, early_names
):
    """A run that went back to step 1 writes checkpoint-2 again: whenever it dies, the old or the new one is whole."""
    folder, after = tmp_path / "run", tmp_path / "after"
    trainer_of(rows(8), tiny_llada(vocab_size=24), **settings(folder, max_steps=2)).train()
    again = trainer_of(rows(8), tiny_llada(vocab_size=24), **settings(folder, max_steps=2))
    seen = []
    with Disk.watching(folder, lambda disk: seen.append(newest(disk.after_a_power_cut(after, early_names)))):
        again.train(resume_from_checkpoint=str(folder / "checkpoint-1"))
    assert set(seen) == {2}
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-1", "checkpoint-2", "metrics.jsonl"]


@pytest.mark.filterwarnings("default::unveil.errors.UserInputWarning")
def test_checkpoints_are_rotated_by_step_and_what_was_just_written_stays(trainer_of, rows, tiny_llada, tmp_path):
    """After a return to step 1, what is ahead of the run goes first; file times play no part."""
    folder = tmp_path / "run"
    trainer_of(rows(8), tiny_llada(vocab_size=24), **settings(folder)).train()
    assert list(checkpoints_in(folder)) == [1, 2, 3, 4]
    again = trainer_of(rows(8), tiny_llada(vocab_size=24), **settings(folder, save_total_limit=2, max_steps=2))
    again.train(resume_from_checkpoint=str(folder / "checkpoint-1"))
    assert list(checkpoints_in(folder)) == [1, 2]


def test_a_crash_while_the_model_is_published_is_found_out(trainer_of, rows, tiny_llada, tmp_path, monkeypatch):
    """Old files beside new ones are never taken for a model."""
    folder = tmp_path / "run"
    trainer = trainer_of(rows(8), tiny_llada(vocab_size=24), **settings(folder, max_steps=1))
    trainer.train()
    trainer.publish_model(lambda folder: None)
    assert damage_of(folder) is None
    next(trainer.model.parameters()).data.add_(1)
    replace = os.replace

    def dies(source, target):
        if Path(source).name == "model.safetensors":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        trainer.publish_model(lambda folder: None)
    assert damage_of(folder) == "model.safetensors is not what was written"


@pytest.mark.parametrize("what", ["optimizer.pt", "model.safetensors"])
def test_a_full_disk_is_one_line_and_keeps_whole_checkpoints(trainer_of, rows, tiny_llada, tmp_path, monkeypatch, what):
    folder = tmp_path / "run"
    trainer = trainer_of(rows(8), tiny_llada(vocab_size=24), **settings(folder))

    def full(*_):
        if trainer.state.global_step == 3:
            if what == "optimizer.pt":
                raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")
            raise Exception("No space left on device (os error 28)")
        return original(*_)

    place = "_save_optimizer_and_scheduler" if what == "optimizer.pt" else "_save"
    original = getattr(trainer, place)
    monkeypatch.setattr(trainer, place, full)
    reason = "the disk took only a part of it" if what == "optimizer.pt" else "No space left on device"
    message = f"{folder}: checkpoint-3 could not be saved ({reason}); checkpoint-2 is kept: make room and go on with"
    with pytest.raises(UserError, match=re.escape(message)):
        trainer.train()
    assert newest(folder) == 2
    assert not (folder / ".saving").exists()


def test_a_checkpoint_obeys_the_umask(trainer_of, rows, tiny_llada, tmp_path):
    before = os.umask(0o027)
    try:
        trainer = trainer_of(rows(8), tiny_llada(vocab_size=24), **settings(tmp_path / "run", max_steps=1))
        trainer.train()
        trainer.publish_model(lambda folder: None)
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o640"}
