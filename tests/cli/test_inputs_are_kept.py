"""`--overwrite` never takes away what the command reads."""

import json
import os
import shutil
from pathlib import Path

import pytest
from command_files import PAIRS, THUMBS, write_rows

from unveil.cli.inputs import refuse_to_lose_inputs
from unveil.cli.options import ModelArguments
from unveil.errors import UserError

REPLACE = ("--overwrite", "--max_steps", 1, "--save_strategy", "no")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def assert_refused(outcome, flag, folder, before):
    assert outcome.code == 2, outcome.out
    assert outcome.err.count("\n") == 1
    assert f"what --{flag} reads would be lost" in outcome.err or "folder of the model itself" in outcome.err
    assert contents(folder) == before


def test_a_start_model_inside_the_output_is_kept(train, base, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(base, out / "checkpoint-100")
    before = contents(out)
    outcome = train("--model_name_or_path", out / "checkpoint-100", *REPLACE)
    assert_refused(outcome, "model_name_or_path", out, before)
    other_way = os.path.relpath(out / "checkpoint-100")
    assert_refused(train("--model_name_or_path", other_way, *REPLACE), "model_name_or_path", out, before)


def test_a_reference_at_the_place_of_the_output_is_kept(train, base, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(base, out)
    before = contents(out)
    assert_refused(train("--ref_model_name_or_path", out, *REPLACE), "ref_model_name_or_path", out, before)


@pytest.mark.parametrize("flag", ["model_name_or_path", "ref_model_name_or_path"])
def test_the_base_of_adapters_is_kept(train, base, tmp_path, flag):
    adapters, out = tmp_path / "adapters", tmp_path / "base2"
    shutil.copytree(base, out)
    flags = ("--use_peft", "--max_steps", 1, "--save_strategy", "no")
    assert train("--model_name_or_path", out, "--output_dir", adapters, *flags).code == 0
    before = contents(out)
    assert_refused(train(f"--{flag}", adapters, "--output_dir", out, *REPLACE), flag, out, before)


@pytest.mark.parametrize("way", ["folder", "file"])
def test_links_are_followed(train, base, tmp_path, way):
    out, link = tmp_path / "out", tmp_path / "link"
    shutil.copytree(base, out / "model")
    if way == "folder":
        link.symlink_to(out / "model", target_is_directory=True)
    else:
        link.mkdir()
        for file in (out / "model").iterdir():
            (link / file.name).symlink_to(file)
    before = contents(out)
    assert_refused(train("--model_name_or_path", link, *REPLACE), "model_name_or_path", out, before)
    (tmp_path / "elsewhere").symlink_to(out, target_is_directory=True)
    words = ("--model_name_or_path", out / "model", "--output_dir", tmp_path / "elsewhere", *REPLACE)
    assert_refused(train(*words), "model_name_or_path", out, before)


@pytest.mark.parametrize("flag", ["dataset_name", "eval_dataset_name", "chat_template_path", "config"])
def test_files_that_are_read_are_kept(train, tmp_path, flag):
    out = tmp_path / "out"
    out.mkdir()
    text = "beta: 0.1\n" if flag == "config" else "{{ messages }}"
    file = out / "metrics.jsonl"
    (file.write_text(text) if flag in ("chat_template_path", "config") else write_rows(file, THUMBS))
    assert_refused(train(f"--{flag}", file, *REPLACE), flag, out, contents(out))


def test_a_run_that_goes_on_does_not_write_over_what_it_reads(train, base, tmp_path):
    out = tmp_path / "out"
    assert train("--save_steps", 2).code == 0
    before = contents(out)
    outcome = train("--ref_model_name_or_path", out, "--resume_from_checkpoint", "True", "--num_train_epochs", 2)
    assert_refused(outcome, "ref_model_name_or_path", out, before)


def test_data_beside_the_output_and_a_page_in_a_run_folder_are_no_loss(train, unveil, tmp_path):
    assert train().code == 0
    page = tmp_path / "out" / "page.html"
    for _ in range(2):
        assert unveil("report", tmp_path / "out", "--output_file", page, "--overwrite").code == 0
    assert train("--overwrite").code == 0


def test_a_run_may_lie_in_the_folder_of_its_start_model_and_be_replaced(train, base):
    words = ("--output_dir", Path(base) / "aligned", "--max_steps", 1)
    assert train(*words).code == 0
    assert train(*words, "--overwrite").code == 0


def test_other_commands_keep_what_they_read_too(unveil, base, pairs, thumbs, tmp_path):
    model = ("--model_name_or_path", base)
    weights = Path(base) / "model.safetensors"
    for words in (
        ("likelihood", *model, "--dataset_name", thumbs, "--output_file", thumbs),
        ("likelihood", *model, "--dataset_name", thumbs, "--output_file", weights),
        ("generate", *model, "--dataset_name", pairs, "--output_file", pairs),
        ("generate", *model, "--prompt", "a", "--output_file", tmp_path / "o.jsonl", "--trajectories", weights),
        ("demo", *model, "--output_dir", base),
    ):
        before = contents(tmp_path)
        outcome = unveil(*words, "--overwrite")
        assert outcome.code == 2, words
        assert outcome.err.count("\n") == 1
        assert "would be lost" in outcome.err or "model itself" in outcome.err, outcome.err
        assert contents(tmp_path) == before


def test_comparisons_keep_prompts_that_lie_where_results_go(unveil, base, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    data = write_rows(out / "comparisons.jsonl", PAIRS)
    words = ("--model", base, "--against", base, "--dataset_name", data, "--judge", "length", "--output_dir", out)
    before = contents(out)
    outcome = unveil("compare", *words, "--overwrite")
    assert outcome.code == 2
    assert "what --dataset_name reads would be lost" in outcome.err
    assert contents(out) == before


def test_the_base_of_a_base_is_kept(tmp_path):
    chain = [tmp_path / name for name in ("a", "b", "c")]
    for folder, base in zip(chain, [*chain[1:], None]):
        folder.mkdir()
        if base:
            config = {"base_model_name_or_path": f"../{base.name}"}
            (folder / "adapter_config.json").write_text(json.dumps(config))
    arguments = ModelArguments(model_name_or_path=str(chain[0]))
    with pytest.raises(UserError, match="model_name_or_path reads would be lost"):
        refuse_to_lose_inputs([chain[2]], "--output_dir", [], arguments)
    refuse_to_lose_inputs([tmp_path / "d"], "--output_dir", [], arguments)


def test_names_that_are_no_paths_are_no_inputs(tmp_path, monkeypatch):
    """A folder may be called as an objective or a run is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bfloat16").mkdir()
    refuse_to_lose_inputs(["bfloat16"], "--output_dir", [], ModelArguments(dtype="bfloat16"))
