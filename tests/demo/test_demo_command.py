"""`unveil demo`: one table, commands to try next that work, and one line for bad input."""

import os
import shlex
import signal
import time
from dataclasses import replace
from functools import partial

import pytest
from transformers.utils import logging

from unveil.cli.main import main
from unveil.demo import run

pytestmark = pytest.mark.usefixtures("fewer_rows")


@pytest.fixture
def demo(random_base, small_recipe, tmp_path, monkeypatch):
    """`demo(*flags)` -> exit code, on the random model and in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("unveil.demo.recipe.Recipe", partial(replace, small_recipe))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    logging.disable_progress_bar()
    return lambda *flags: main(["demo", "--model_name_or_path", str(random_base.folder), *flags])


def test_it_prints_one_table_and_commands_that_work(demo, capsys):
    assert demo("--max_steps", "1", "--num_prompts", "8") == 0
    told = capsys.readouterr().out
    for measure in ("win rate, aligned against base", "NELBO of product reviews", "length of answers", "8 held-out"):
        assert told.count(measure) >= 1, measure
    commands = [line.strip() for line in told.splitlines() if line.startswith("  unveil ")]
    assert [shlex.split(line)[1] for line in commands] == ["generate", "compare", "train"]
    for line in commands[:2]:
        assert main(shlex.split(line, comments=True)[1:]) == 0, line
    assert "win rate" in capsys.readouterr().out
    with pytest.raises(SystemExit) as exit_of_help:
        main(shlex.split(commands[2], comments=True)[1:])
    assert exit_of_help.value.code == 0


def test_a_folder_in_use_is_refused_before_any_work(demo, tmp_path, capsys):
    (tmp_path / "unveil-demo").mkdir()
    (tmp_path / "unveil-demo" / "report.html").write_text("old")
    assert demo() == 2
    assert capsys.readouterr().err.startswith("unveil demo: error: --output_dir unveil-demo: the folder is not empty")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--num_prompts", "0"], "--num_prompts 0: at least 1 is needed"),
        (["--max_steps", "0"], "--max_steps 0: at least 1 is needed"),
        (["--prompts", "3"], "--prompts: unknown flag"),
    ],
)
def test_bad_flags_are_one_line(demo, capsys, tmp_path, flags, told):
    assert demo(*flags) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def ctrl_c_counts():
    """A background job inherits that SIGINT is ignored."""
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, inherited)


@pytest.mark.usefixtures("ctrl_c_counts")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_kill_leave_nothing(demo, capsys, tmp_path, monkeypatch, sign):
    def interrupted(*args, **kwargs):
        os.kill(os.getpid(), sign)
        time.sleep(5)

    monkeypatch.setattr(run, "experiment", interrupted)
    assert demo() == 130
    assert "nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
