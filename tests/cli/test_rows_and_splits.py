"""Row numbers are row numbers, parts of a file are obeyed, rows that cannot be used are left out: by every command."""

import json
import warnings
from pathlib import Path

import pytest
from command_files import THUMBS, read_rows, write_rows

from unveil.cli.judges import data_columns, load_judge
from unveil.cli.options import HeldOutArguments
from unveil.cli.prompting import GenerationArguments, read_prompts
from unveil.models import load_tokenizer


@pytest.mark.parametrize("ids", [[5, 3, 8, 1], ["a", "b", "c", "d"], [7, 7, 7, 7], [2**62, 1, 2, 3], None])
@pytest.mark.filterwarnings("ignore::unveil.errors.UserInputWarning")
def test_a_judge_reads_the_row_that_its_prompt_came_from(ids, tmp_path):
    rows = [{"prompt": "" if i == 1 else f"p{i}", "answer": i} for i in range(4)]
    rows = [{**row, "example_id": ids[i]} if ids else row for i, row in enumerate(rows)]
    data = HeldOutArguments(dataset_name=write_rows(tmp_path / "p.jsonl", rows), on_bad_rows="drop")
    prompts, _ = read_prompts(data, None, chat=False)
    assert prompts["row"][:] == [0, 2, 3]
    columns = data_columns(load_judge("exact"), data, prompts)
    assert columns is not None
    assert columns["answer"] == [0, 2, 3]


def plan(unveil, base, data, *words):
    outcome = unveil("plan", "--model_name_or_path", base, "--dataset_name", data, "--json", *words)
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)["data"]["rows"]


def test_training_reads_the_part_that_it_is_told_to(unveil, base, thumbs):
    assert plan(unveil, base, thumbs, "--dataset_train_split", "train[:50%]") == 6
    assert plan(unveil, base, thumbs, "--eval_size", 0.25) == 9
    assert plan(unveil, base, thumbs, "--eval_size", 2) == 10


def test_held_out_parts_of_the_training_file_are_evaluated(train, tmp_path):
    words = ("--max_steps", 1, "--save_strategy", "no")
    outcome = train("--dataset_train_split", "train[:8]", "--dataset_test_split", "train[6:]", *words)
    assert outcome.code == 0, outcome.err
    assert "warning: " in outcome.out
    assert "2 of 6 held-out rows have a prompt that training rows have too (2 with the same answer)" in outcome.out
    assert "eval_loss" in json.loads((tmp_path / "out" / "run.json").read_text())["results"]
    outcome = train("--eval_size", 4, "--overwrite", *words)
    assert outcome.code == 0, outcome.err
    assert "warning: " not in outcome.out
    assert "eval_loss" in json.loads((tmp_path / "out" / "run.json").read_text())["results"]


def test_two_ways_to_hold_out_are_refused(train, thumbs):
    for words in (("--eval_dataset_name", thumbs), ("--dataset_test_split", "train[:2]")):
        outcome = train("--eval_size", 0.5, *words)
        assert outcome.code == 2
        assert "--eval_size: holds out rows of --dataset_name" in outcome.err


def test_generate_reads_a_part_and_leaves_out_what_does_not_fit(unveil, base, tmp_path):
    rows = [{"prompt": "p" * n} for n in (5, 300, 7, 2)]
    data, out = write_rows(tmp_path / "p.jsonl", rows), tmp_path / "a.jsonl"
    flags = ("generate", "--model_name_or_path", base, "--dataset_name", data, "--gen_length", 8, "--output_file", out)
    refused = unveil(*flags)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "1 of 4 rows cannot be used: the prompt is longer than the 248 tokens that --gen_length 8" in refused.err
    with warnings.catch_warnings(action="ignore"):
        assert unveil(*flags, "--on_bad_rows", "drop", "--dataset_split", "train[:3]").code == 0
    assert [row["example_id"] for row in read_rows(out)] == [0, 2]


def test_a_comparison_that_failed_before_its_first_answer_is_no_obstacle(unveil, base, tmp_path):
    data = write_rows(tmp_path / "p.jsonl", [{"prompt": "p", "answer": "x"}, {"prompt": "q" * 300, "answer": "x"}])
    flags = (
        "compare",
        "--model",
        base,
        "--against",
        base,
        "--dataset_name",
        data,
        "--gen_length",
        8,
        "--judge",
        "exact",
    )
    flags = (*flags, "--output_dir", tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "answers_settings.json").write_text("{}")
    (tmp_path / "out" / "answers.jsonl").write_text("")
    refused = unveil(*flags)
    assert refused.code == 2
    assert "longer than the 248 tokens" in refused.err
    with warnings.catch_warnings(action="ignore"):
        assert unveil(*flags, "--on_bad_rows", "drop").code == 0
    again = unveil(*flags, "--on_bad_rows", "drop")
    assert again.code == 2
    assert "holds answers already" in again.err


@pytest.mark.filterwarnings("ignore::unveil.errors.UserInputWarning")
@pytest.mark.parametrize("name", ["score", "rank", "steps", "gap", "margin", "weight", "spans", "example_id"])
def test_metadata_named_like_ours_is_left_alone(name, unveil, base, tmp_path):
    rows = [
        {"prompt": f"p{i}", "chosen": "a b", "rejected": "c", name: None if name == "margin" else f"m{i}"}
        for i in range(4)
    ]
    data = write_rows(tmp_path / "pairs.jsonl", rows)
    assert plan(unveil, base, data, "--objective", "dpo") == 4


def test_labels_of_the_user_are_mapped_or_understood(unveil, base, tmp_path):
    def data(up, down):
        return write_rows(tmp_path / "l.jsonl", [{**row, "label": up if row["label"] else down} for row in THUMBS])

    assert plan(unveil, base, data("a", "b"), "--label_map", "a=true,b=false") == 12
    with warnings.catch_warnings(action="ignore"):
        assert plan(unveil, base, data("👍", "👎")) == 12
    refused = unveil("plan", "--model_name_or_path", base, "--dataset_name", data(2, 3), "--json")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "--label_map" in refused.err


def test_prompts_that_are_no_text_are_one_line(unveil, base):
    refused = unveil("generate", "--model_name_or_path", base, "--prompt", "\udcff\udcfe", "--gen_length", 4)
    assert (refused.code, refused.err.count("\n")) == (2, 1)


def test_an_answer_ends_at_the_end_of_a_turn_where_the_model_was_trained_so(unveil, base, tmp_path):
    tokenizer = load_tokenizer(base)
    assert GenerationArguments().ending(base, tokenizer).stop_tokens is None
    assert GenerationArguments(end_of_answer="end_of_turn").ending(base, tokenizer).stop_tokens == ["<|eot|>"]
    (Path(base) / "run.json").write_text(json.dumps({"arguments": {"end_of_answer": "end_of_turn"}}))
    assert GenerationArguments().ending(base, tokenizer).stop_tokens == ["<|eot|>"]
    assert GenerationArguments(end_of_answer="one_eos").ending(base, tokenizer).stop_tokens is None
    outcome = unveil("generate", "--model_name_or_path", base, "--prompt", "a", "--end_of_answer", "x")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
