"""What is uploaded is what was published: whole, with our card, and nothing that is hidden."""

import fnmatch
import json
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest

from unveil.checksums import damage_of
from unveil.training import finish_run


@pytest.fixture
def uploads(monkeypatch):
    """Every upload as (message, path in the repository, {name: content})."""
    seen = []

    def upload(self, *, folder_path, commit_message, ignore_patterns=None, path_in_repo=None, run_as_future, **_):
        folder = Path(folder_path)
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        left = [n for n in names if not any(fnmatch.fnmatch(n, p.rstrip("/")) for p in ignore_patterns or [])]
        seen.append((commit_message, path_in_repo, {name: (folder / name).read_bytes() for name in left}))
        done: Future = Future()
        done.set_result(None)
        return done if run_as_future else None

    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload)
    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", lambda *_, **__: SimpleNamespace(repo_id="me/run"))
    return seen


def trained(trainer_of, rows, tiny_llada, folder, **more):
    trainer = trainer_of(
        rows(8), tiny_llada(vocab_size=24), output_dir=str(folder), per_device_train_batch_size=4, max_steps=2,
        save_strategy="steps", save_steps=1, save_total_limit=1, push_to_hub=True, **more,
    )  # fmt: skip
    (folder / ".unveil.lock").write_text("held")
    trainer.train()
    return trainer


def test_the_model_is_uploaded_as_it_was_published_and_nothing_hidden(trainer_of, rows, tiny_llada, tmp_path, uploads):
    finish_run(trained(trainer_of, rows, tiny_llada, tmp_path, hub_strategy="end"), "rows")
    ((message, _, files),) = uploads
    assert message == "Model save"
    assert not [name for name in files if name.startswith((".", "checkpoint-"))]
    assert {"model.safetensors", "config.json", "run.json", "README.md", "checksums.json"} <= files.keys()
    listed = json.loads(files["checksums.json"])["files"]
    assert listed.keys() <= files.keys()
    assert damage_of(tmp_path) is None, "pushing has not written anything anew"
    assert files["README.md"] == (tmp_path / "README.md").read_bytes()
    assert b"generated_from_trainer" not in files["README.md"], "our card, not that of transformers"


@pytest.mark.parametrize(("strategy", "there"), [("checkpoint", "last-checkpoint"), ("all_checkpoints", None)])
def test_checkpoints_are_uploaded_whole_once_they_have_their_place(
    trainer_of, rows, tiny_llada, tmp_path, uploads, strategy, there
):
    trained(trainer_of, rows, tiny_llada, tmp_path, hub_strategy=strategy)
    assert [place for _, place, _ in uploads] == [None, there or "checkpoint-1", None, there or "checkpoint-2"]
    for _, place, files in uploads:
        assert not [name for name in files if name.startswith(".")]
        assert {"model.safetensors", "config.json"} <= files.keys()
        states = {"optimizer.pt", "trainer_state.json", "checksums.json"}
        assert states <= files.keys() if place else not states & files.keys()
        if place:
            assert json.loads(files["checksums.json"])["files"].keys() == files.keys() - {"checksums.json"}
    assert not (tmp_path / "model.safetensors").exists(), "the top of the folder belongs to the finished model"


def test_a_model_that_is_saved_by_hand_takes_the_list_of_an_earlier_one_away(trainer_of, rows, tiny_llada, tmp_path):
    trainer = trainer_of(rows(8), tiny_llada(vocab_size=24), output_dir=str(tmp_path), max_steps=1)
    trainer.train()
    trainer.publish_model(lambda folder: None)
    assert (tmp_path / "checksums.json").is_file()
    next(trainer.model.parameters()).data.add_(1)
    trainer.save_model()
    assert damage_of(tmp_path) is None
    assert not (tmp_path / "checksums.json").exists()
