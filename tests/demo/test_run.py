"""The demo from end to end: what it writes, that it writes all or nothing, and that a seed fixes the result."""

import json
import math
import re
from dataclasses import replace

import pytest
import torch
from transformers.utils import logging

from unveil.demo import run as run_module
from unveil.demo.run import CONTENTS, run_demo
from unveil.errors import UserError
from unveil.models import load_denoiser_model, load_tokenizer

pytestmark = pytest.mark.usefixtures("fewer_rows")

RESULTS = {
    "adjusted_win_rate", "interval", "null_win_rate", "nelbo_change", "length_ratio", "reward_up", "reward_down",
    "seconds",
}  # fmt: skip
FIGURES = {"win_rate", "rewards", "margins", "saturation", "nelbo", "lengths"}


@pytest.fixture(scope="module")
def finished(fewer_rows, random_base, small_recipe, tmp_path_factory):
    """The folder of one run, and what it returned."""
    logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("demo") / "out"
    return folder, run_demo(small_recipe, folder, random_base, progress=False)


def numbers(value):
    """All numbers inside a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in numbers(item)]
    return [value] if isinstance(value, int | float) else []


def test_the_folder_holds_what_it_promises(finished):
    folder, _ = finished
    assert {entry.name for entry in folder.iterdir()} == set(CONTENTS)
    assert {path.stem for path in (folder / "figures").glob("*.png")} == FIGURES
    for figure in (folder / "figures").iterdir():
        assert figure.read_bytes().startswith(b"\x89PNG")
    assert (folder / "aligned" / "README.md").read_text().startswith("---\nlibrary_name: transformers\n")
    assert not list(folder.parent.glob(".out*"))


def test_run_json_has_every_number_and_all_are_finite(finished):
    folder, results = finished
    record = json.loads((folder / "run.json").read_text())
    assert set(record["results"]) >= RESULTS
    assert all(math.isfinite(number) for number in numbers(record["results"]))
    assert record["results"]["interval"] == list(results.interval)
    assert record["results"]["seconds"] == results.seconds >= sum(record["stages"].values()) * 0.9
    assert {"base_weights", "tokenizer", "reviews"} == set(record["fingerprints"])
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in record["fingerprints"].values())
    assert {"unveil", "torch", "transformers"} <= set(record["versions"])
    assert len(set(record["seeds"].values())) == 4


def test_no_path_of_this_machine_is_written(finished):
    folder, _ = finished
    for path in folder.rglob("*"):
        if path.is_file():
            assert str(folder.parent).encode() not in path.read_bytes(), path


def test_the_page_is_self_contained(finished):
    html = (finished[0] / "report.html").read_text()
    assert "http" not in html
    assert "//" not in re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", html)
    assert not re.search(r"<link|<script|@import|url\(|srcset", html)
    sources = re.findall(r'src="([^"]*)"', html)
    assert len(sources) == len(FIGURES)
    assert all(source.startswith("data:image/png;base64,") for source in sources)


def test_the_aligned_checkpoint_loads_and_differs_from_the_base(finished, random_base):
    folder, _ = finished
    tokenizer = load_tokenizer(folder / "aligned")
    aligned = load_denoiser_model(folder / "aligned", tokenizer=tokenizer)
    weights, others = aligned.state_dict(), random_base.model.state_dict()
    assert weights.keys() == others.keys()
    assert any(not torch.equal(weights[name], others[name]) for name in weights)
    load_denoiser_model(folder / "base", tokenizer=load_tokenizer(folder / "base"))


def test_the_answers_file_explains_the_win_rate(finished):
    folder, results = finished
    rows = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    assert len(rows) == results.n == 16
    assert sum(row["outcome"] for row in rows) / len(rows) == results.adjusted_win_rate
    for row in rows:
        gap = row["aligned_rating"] - row["base_rating"]
        assert row["outcome"] == (0.5 if abs(gap) <= 0.1 else float(gap > 0))


def test_metrics_have_one_line_per_step(finished):
    lines = [json.loads(line) for line in (finished[0] / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "rewards/chosen" in line]
    assert steps == [1, 2]
    assert lines[0]["rewards/chosen"] == lines[0]["rewards/rejected"] == 0.0


def test_the_same_seed_gives_the_same_run(finished, random_base, small_recipe, tmp_path):
    folder, results = finished
    again = run_demo(small_recipe, tmp_path / "again", random_base, progress=False)
    assert replace(again, seconds=0) == replace(results, seconds=0)
    for name in ("answers.jsonl", "aligned/model.safetensors", "figures/win_rate.png", "figures/rewards.png"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name


def test_the_control_says_that_it_is_one(random_base, small_recipe, finished, tmp_path):
    results = run_demo(small_recipe, tmp_path / "out", random_base, shuffled=True, progress=False)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["data"]["shuffled_thumbs"] is True
    assert "shuffled" in (tmp_path / "out" / "report.html").read_text()
    assert "**shuffled**" in (tmp_path / "out" / "aligned" / "README.md").read_text()
    assert results.null_win_rate == finished[1].null_win_rate
    assert results.reward_up != finished[1].reward_up


def test_an_interrupted_run_leaves_nothing(random_base, small_recipe, tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "write_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_demo(small_recipe, tmp_path / "out", random_base, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_refused(small_recipe, tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UserError, match=r"--output_dir .*not empty.*--overwrite"):
        run_demo(small_recipe, tmp_path, base="nowhere", progress=False)


def test_the_working_folder_is_never_replaced(small_recipe, tmp_path, monkeypatch):
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    for output_dir in (".", "..", tmp_path):
        with pytest.raises(UserError, match="working folder"):
            run_demo(small_recipe, output_dir, base="nowhere", progress=False, overwrite=True)


def test_overwrite_never_removes_what_is_not_a_demos(small_recipe, tmp_path):
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "thesis.tex").write_text("my work")
    with pytest.raises(UserError, match=r"thesis\.tex"):
        run_demo(small_recipe, tmp_path, base="nowhere", progress=False, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "my work"


def test_overwrite_keeps_the_old_run_until_the_new_one_is_whole(small_recipe, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text("old")
    with pytest.raises(UserError, match=r"no such folder|holds no tokenizer"):
        run_demo(small_recipe, tmp_path / "out", base=tmp_path / "no-model", progress=False, overwrite=True)
    assert (tmp_path / "out" / "run.json").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
