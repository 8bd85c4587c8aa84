"""A run that stops early, by itself or by a kill, keeps what is good and can be gone on with, bit for bit."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from command_files import THUMBS, edited, read_rows, write_rows
from safetensors.torch import load_file

from unveil.checksums import write_checksums
from unveil.cli.main import main
from unveil.models import load_denoiser_model
from unveil.training.surrogate_trainer import SurrogateTrainer

# What differs by nature: times, and the summary of the one call.
TIMES = ("train_runtime", "train_samples_per_second", "train_steps_per_second")


def metrics(folder: Path) -> list[dict]:
    return [line for line in read_rows(folder / "metrics.jsonl") if not set(TIMES) & set(line)]


def assert_same_end(one: Path, other: Path) -> None:
    """The same bytes of weights, the same metrics."""
    names = [path.name for path in one.glob("*.safetensors")]
    assert names
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert metrics(one) == metrics(other)


@pytest.fixture
def ctrl_c_counts():
    """A background job inherits that SIGINT is ignored, and so would what it starts."""
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, inherited)


@pytest.fixture
def signalled(train, monkeypatch, ctrl_c_counts):
    """`signalled(5, SIGINT)("--beta", 1)`: `unveil train` that gets a signal within the step after the fifth one."""

    def prepare(step: int, *numbers: int):
        original = SurrogateTrainer.training_step

        def pressed(self, *args, **kwargs):
            if self.state.global_step == step:
                for number in numbers:
                    os.kill(os.getpid(), number)
            return original(self, *args, **kwargs)

        def run(*words):
            with monkeypatch.context() as patch:
                patch.setattr(SurrogateTrainer, "training_step", pressed)
                return train(*words)

        return run

    return prepare


LONG = ("--num_train_epochs", 3, "--save_steps", 2, "--save_total_limit", 2)


@pytest.mark.parametrize("adapters", [(), ("--use_peft", "--learning_rate", 0.1)], ids=["full", "adapters"])
def test_ctrl_c_and_resume_end_where_the_whole_run_does(train, thumbs, tmp_path, monkeypatch, adapters):
    """Nine steps, saved every two, stopped in the sixth: an epoch has three."""
    flags = (*LONG, *adapters, "--eval_dataset_name", thumbs, "--eval_strategy", "epoch")
    assert train("--output_dir", tmp_path / "whole", *flags).code == 0

    original = SurrogateTrainer.training_step

    def pressed(self, *args, **kwargs):
        if self.state.global_step == 5:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(SurrogateTrainer, "training_step", pressed)
        code, _, err = train("--output_dir", tmp_path / "cut", *flags)
    assert code == 130
    assert err == (
        "unveil train: interrupted; checkpoint-4 holds the state after step 4: the same command with "
        "--resume_from_checkpoint True goes on from there\n"
    )
    assert not (tmp_path / "cut" / "run.json").exists()

    code, out, _ = train("--output_dir", tmp_path / "cut", *flags, "--resume_from_checkpoint", "True")
    assert code == 0
    assert "going on after step 4" in out
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize(
    ("step", "number", "more"),
    [
        (4, signal.SIGINT, ("--logging_steps", 4, "--eval_strategy", "epoch")),
        (5, signal.SIGINT, ("--eval_strategy", "epoch")),  # the last step of an epoch, which evaluates
        (2, signal.SIGTERM, ("--save_strategy", "no", "--logging_steps", 7, "--use_peft")),
        (8, signal.SIGINT, ("--save_strategy", "epoch", "--eval_strategy", "steps", "--eval_steps", 2)),
    ],
)
def test_the_first_signal_finishes_the_step_saves_and_says_how_to_go_on(
    train, signalled, thumbs, tmp_path, step, number, more
):
    flags = ("--num_train_epochs", 3, "--save_steps", 3, "--eval_dataset_name", thumbs, *more)
    assert train("--output_dir", tmp_path / "whole", *flags).code == 0

    code, _, err = signalled(step, number)("--output_dir", tmp_path / "cut", *flags)
    assert code == 128 + number
    assert err.splitlines()[-1] == (
        f"unveil train: interrupted; checkpoint-{step + 1} holds the state after step {step + 1}: the same command "
        "with --resume_from_checkpoint True goes on from there"
    )
    assert not (tmp_path / "cut" / "run.json").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "the signals are given back"

    code, _, err = train("--output_dir", tmp_path / "cut", *flags, "--resume_from_checkpoint", "True")
    assert (code, err) == (0, "")
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


def test_a_second_ctrl_c_stops_at_once(signalled, tmp_path, monkeypatch):
    monkeypatch.setattr("unveil.cli.interruption.ONE_SIGNAL", -1.0)
    code, _, err = signalled(5, signal.SIGINT, signal.SIGINT)(*LONG)
    assert code == 130
    assert "checkpoint-4 holds the state after step 4" in err
    assert not (tmp_path / "out" / "checkpoint-6").exists()


def test_a_signal_that_a_launcher_passes_on_is_no_second_one(signalled, tmp_path):
    code, _, err = signalled(4, signal.SIGINT, signal.SIGTERM, signal.SIGINT)(*LONG)
    assert code == 130
    assert "checkpoint-5 holds" in err


def test_who_interrupts_before_the_first_checkpoint_hears_of_none(signalled, train, tmp_path, monkeypatch):
    monkeypatch.setattr("unveil.cli.interruption.ONE_SIGNAL", -1.0)
    code, _, err = signalled(1, signal.SIGINT, signal.SIGINT)(*LONG)
    assert code == 130
    assert "interrupted before the first checkpoint; give the same command again" in err
    assert "--resume_from_checkpoint" not in err

    def pressed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("unveil.cli.train.load_to_train", pressed)
    code, _, err = train("--output_dir", tmp_path / "new")
    assert (code, err) == (130, "unveil train: interrupted; run it again\n")


def test_weights_alone_are_not_called_a_state_to_go_on_from(signalled, tmp_path):
    code, _, err = signalled(4, signal.SIGINT)(*LONG, "--save_only_model", "True")
    assert code == 130
    assert "this run cannot go on" in err
    assert f"--model_name_or_path {tmp_path / 'out' / 'checkpoint-5'}" in err


def test_the_remedy_for_a_folder_with_checkpoints_is_to_go_on(signalled, train, tmp_path):
    signalled(4, signal.SIGINT)(*LONG)
    code, _, err = train(*LONG)
    assert code == 2
    assert "checkpoint-5" in err
    assert 0 < err.index("--resume_from_checkpoint True") < err.index("--overwrite")


def times(folder: Path) -> list[dict]:
    return [line for line in read_rows(folder / "metrics.jsonl") if set(TIMES) & set(line)]


def test_the_closing_line_and_the_wall_time_are_of_all_sessions(signalled, train, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train("--output_dir", whole, *LONG)
    signalled(4, signal.SIGINT)("--output_dir", cut, *LONG)
    sessions = cut / "checkpoint-5" / "sessions.json"
    first = json.loads(sessions.read_text())
    sessions.write_text(json.dumps({**first, "seconds": first["seconds"] + 1000}))
    write_checksums(sessions.parent)  # or it is refused: it is not what the run wrote
    train("--output_dir", cut, *LONG, "--resume_from_checkpoint", "True")

    (one,), (two,) = times(whole), times(cut)
    for name in ("train_loss", "num_tokens", "num_forwards", "total_flos"):
        assert one[name] == two[name], name
    assert two["train_runtime"] > 1000 + first["seconds"]
    assert json.loads((cut / "run.json").read_text())["results"]["seconds"] == two["train_runtime"]


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize("more", [(), ("--save_strategy", "no"), ("--use_peft",)])
def test_a_finished_run_that_is_run_again_changes_nothing_and_says_so(train, tmp_path, more):
    assert train(*more).code == 0
    before = contents(tmp_path / "out")
    code, out, err = train(*more, "--resume_from_checkpoint", "True")
    assert (code, err) == (0, "")
    assert "this run is finished (3 steps), nothing was changed" in out
    assert contents(tmp_path / "out") == before


@pytest.mark.filterwarnings("default::unveil.errors.UserInputWarning")
def test_a_finished_run_goes_on_where_more_epochs_are_asked_for(train, tmp_path):
    train()
    assert train("--num_train_epochs", 2, "--resume_from_checkpoint", "True").code == 0
    out = tmp_path / "out"
    assert json.loads((out / "run.json").read_text())["steps"] == 6
    assert len(times(out)) == 1


def test_a_finished_run_without_checkpoints_is_no_other_run_that_goes_on(train):
    train("--save_strategy", "no")
    code, _, err = train("--save_strategy", "no", "--beta", 7, "--resume_from_checkpoint", "True")
    assert code == 2
    assert "--resume_from_checkpoint: no checkpoint in" in err


def test_a_run_whose_end_was_cut_off_is_ended(train, tmp_path):
    """The last checkpoint was there, the model at the top was not."""
    train("--output_dir", tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    (tmp_path / "cut" / "run.json").unlink()
    (tmp_path / "cut" / "model.safetensors").unlink()
    assert train("--output_dir", tmp_path / "cut", "--resume_from_checkpoint", "True").code == 0
    assert_same_end(tmp_path / "whole", tmp_path / "cut")
    (one,), (two,) = times(tmp_path / "whole"), times(tmp_path / "cut")
    assert two["train_loss"] == pytest.approx(one["train_loss"])
    assert two["train_runtime"] > 0


def test_a_refused_run_leaves_the_one_that_it_would_have_replaced(train, tmp_path):
    train("--output_dir", tmp_path / "other", *LONG[:4])
    train()
    before = contents(tmp_path / "out")
    elsewhere = ("--resume_from_checkpoint", tmp_path / "other" / "checkpoint-2", "--overwrite")
    code, _, err = train("--beta", 9, *elsewhere)
    assert code == 2, err
    assert contents(tmp_path / "out") == before


def test_a_checkpoint_elsewhere_may_be_gone_on_with_in_a_new_folder(train, tmp_path):
    train("--output_dir", tmp_path / "whole", *LONG[:4])
    elsewhere = ("--resume_from_checkpoint", tmp_path / "whole" / "checkpoint-4")
    assert train("--output_dir", tmp_path / "new", *LONG[:4], *elsewhere).code == 0
    name = "model.safetensors"
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "new" / name).read_bytes()


def test_a_run_in_the_same_folder_needs_resume_or_overwrite(train, tmp_path):
    train()
    code, _, err = train()
    assert code == 2
    assert "is not empty" in err


@pytest.mark.slow
@pytest.mark.usefixtures("ctrl_c_counts")
@pytest.mark.filterwarnings("default::unveil.errors.UserInputWarning")
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_a_kill_and_resume_end_where_the_whole_run_does(train, base, tmp_path, blow):
    """The process dies wherever it happens to be once there is a checkpoint."""
    data = write_rows(tmp_path / "many.jsonl", THUMBS * 8)
    words = [
        "--dataset_name", data, "--num_train_epochs", 4, "--save_steps", 3, "--save_total_limit", 2, "--num_draws", 8,
    ]  # fmt: skip
    assert train("--output_dir", tmp_path / "whole", *words).code == 0

    cut = tmp_path / "cut"
    flags = [
        "--model_name_or_path", base, "--output_dir", cut, "--per_device_train_batch_size", 4, "--learning_rate", 1e-3,
        "--logging_steps", 1, "--use_cpu", "--seed", 1, *words,
    ]  # fmt: skip
    command = [sys.executable, "-m", "unveil.cli.main", "train", *map(str, flags)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (cut / "checkpoint-6").exists():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.005)
    process.send_signal(blow)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (-9 if blow == signal.SIGKILL else 130), err
    assert "Traceback" not in err
    assert not (cut / "run.json").exists(), "the run was over before it could be stopped"

    assert train("--output_dir", cut, *words, "--resume_from_checkpoint", "True").code == 0
    assert_same_end(tmp_path / "whole", cut)
    assert not (cut / ".saving").exists()


def test_nan_in_the_weights_stops_the_run_and_names_the_rows(train, base, thumbs, tmp_path):
    """Only answers with a "3" meet the spoiled embedding. The folder stays free for another try."""

    def spoil(tensors):
        tensors["model.transformer.wte.weight"][ord("3") - ord("!") + 4] = float("nan")

    broken = edited(base, spoil, tmp_path / "broken")
    flags = ("--model_name_or_path", broken, "--per_device_train_batch_size", 12)
    code, _, err = train(*flags)
    assert code == 2
    assert err.count("\n") == 1
    assert err.startswith("unveil train: error: step 1: the likelihood of row ")
    rows = err.split("of row ")[1].split(" is not")[0]
    assert sorted(int(row) for row in rows.split(", ")) == [3, 7, 11]
    assert "training stopped" in err
    assert "lower --learning_rate" in err
    assert not (tmp_path / "out").exists()
    assert train("--per_device_train_batch_size", 12).code == 0, "no --overwrite is needed"


@pytest.mark.filterwarnings("default::unveil.errors.UserInputWarning")
@pytest.mark.parametrize(
    ("learning_rate", "message"),
    [
        (1e4, "step 3: the gradient is not a finite number; training stopped before the update; resume from the last"),
        (1e10, "step 3: the likelihood of row "),
        (3e38, "step 2: a weight is not a finite number any more; training stopped without saving it"),
    ],
)
def test_a_run_that_diverges_keeps_the_last_good_checkpoint(train, base, tmp_path, learning_rate, message):
    """Warm-up makes the first step harmless (and its checkpoint good) and the second one absurd."""
    flags = ("--warmup_steps", 2, "--save_steps", 1, "--save_total_limit", 2, "--num_train_epochs", 2)
    code, _, err = train("--learning_rate", learning_rate, *flags)
    assert code == 2
    assert err.count("\n") == 1
    assert err.startswith(f"unveil train: error: {message}")
    out = tmp_path / "out"
    assert not (out / "model.safetensors").exists()
    assert not (out / "run.json").exists()
    assert not (out / ".saving").exists()
    before, after = (load_file(Path(folder) / "model.safetensors") for folder in (base, out / "checkpoint-1"))
    assert all(torch.equal(before[name], after[name]) for name in before), "the first step has learning rate 0"
    for checkpoint in out.glob("checkpoint-*"):
        assert all(torch.isfinite(p).all() for p in load_denoiser_model(checkpoint).parameters()), checkpoint.name
    code, _, err = train(*flags, "--resume_from_checkpoint", out / "checkpoint-1")
    assert code == 0, "with a lower learning rate"
    assert err.endswith(f"goes on with --learning_rate {learning_rate} -> 0.001\n")


def test_a_run_whose_last_step_loses_the_weights_saves_none(train, tmp_path):
    code, _, err = train("--learning_rate", 3e38, "--max_steps", 1, "--warmup_steps", 0, "--save_strategy", "no")
    assert code == 2
    assert "step 1: a weight is not a finite number any more" in err
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.filterwarnings("default::unveil.errors.UserInputWarning")
def test_a_resumed_run_obeys_another_learning_rate(train, tmp_path):
    """The cosine from the new peak, where the old run stopped."""
    rates = {}
    for folder, peak in (("high", 1e-3), ("low", 1e-4)):
        train("--output_dir", tmp_path / folder, *LONG[:4], "--learning_rate", peak)
        rates[folder] = [line["learning_rate"] for line in metrics(tmp_path / folder)]
    resume = ("--resume_from_checkpoint", tmp_path / "high" / "checkpoint-4")
    train("--output_dir", tmp_path / "lowered", *LONG[:4], "--learning_rate", 1e-4, *resume)
    lowered = [line["learning_rate"] for line in metrics(tmp_path / "lowered")]
    assert lowered == pytest.approx(rates["low"][4:])
    assert rates["high"][4:] == pytest.approx([10 * rate for rate in lowered])


@pytest.mark.parametrize(
    ("command", "told"), [("compare", "--resume"), ("evaluate", "--output_dir"), ("generate", "run it again")]
)
def test_an_interrupted_command_tells_what_it_keeps(command, told, monkeypatch, capsys):
    def pressed(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"unveil.cli.{command}.main", pressed)
    assert main([command]) == 130
    err = capsys.readouterr().err
    assert told in err
    assert "checkpoints" not in err
