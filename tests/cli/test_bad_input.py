"""Bad input: one line that names file, row or flag and the remedy, exit code 2, and nothing is written."""

import json
import shutil
from pathlib import Path

import pytest
from command_files import THUMBS, edited, write_rows


def one_line(outcome, command: str) -> str:
    """The message of a refusal, checked for its form."""
    assert outcome.code == 2, outcome
    assert outcome.err.count("\n") == 1, outcome.err
    assert outcome.err.startswith(f"unveil {command}: error: "), outcome.err
    assert "Traceback" not in outcome.out + outcome.err
    return outcome.err


def row_5(**change) -> list[dict]:
    return [*THUMBS[:5], {**THUMBS[5], **change}, *THUMBS[6:]]


def without_completion() -> list[dict]:
    return [{"prompt": row["prompt"], "label": row["label"]} for row in THUMBS]


ROWS = {
    "missing column": (without_completion(), "no column 'completion'.*--column_map"),
    "label is a number": (
        [{**row, "label": 1} for row in THUMBS],
        r"label is 1 \(int\), not a boolean \(rows, from 0: 0, .*; write true .*--label_map 1=true",
    ),
    "label is text": (
        [{**row, "label": "maybe"} for row in THUMBS],
        r"label is 'maybe' .*from 0: 0, .*write true or false, or say what it means with --label_map maybe=true",
    ),
    "label is missing in a row": (row_5(label=None), r"label is None .*from 0: 5\); give every row a label"),
    "empty completion": (row_5(completion="  "), r"the completion is empty \(rows, from 0: 5\); .*--on_bad_rows drop"),
    "empty prompt": (row_5(prompt=""), r"the prompt is empty \(rows, from 0: 5\)"),
    "prompt longer than the context": (
        row_5(prompt="long " * 60),
        r"the prompt leaves no room for an answer within --max_length 256 \(example_id 5\); .*--max_prompt_length",
    ),
    "only one label": ([{**row, "label": True} for row in THUMBS], "every label is true.*--allow_one_label"),
    "mask token in a completion": (
        row_5(completion=" a <|mask|>"),
        r"completion contains the mask token .*example_id 5",
    ),
    "mask token in a prompt": (
        row_5(prompt="a <|mask|>"),
        r"prompt contains the mask token .*example_id 5.*take the mask",
    ),
    "one row for the batch baseline": ([THUMBS[0]], "--per_device_train_batch_size|--allow_one_label"),
}


@pytest.mark.parametrize("case", ROWS)
def test_rows_that_cannot_be_learned_from(case, train, tmp_path, check_message):
    rows, pattern = ROWS[case]
    data = write_rows(tmp_path / "bad.jsonl", rows)
    message = one_line(train("--dataset_name", data), "train")
    check_message(message, pattern)
    assert "bad.jsonl" in message or "--per_device_train_batch_size" in message
    assert not (tmp_path / "out").exists()


@pytest.fixture
def check_message():
    import re

    def check(message, pattern):
        assert re.search(pattern, message), f"{message!r} does not say {pattern!r}"

    return check


FLAGS = {
    "batch of one": (
        ["--per_device_train_batch_size", "1"],
        "a batch of one.*--gradient_accumulation_steps, or .*zero",
    ),
    "unknown flag": (
        ["--desireable_weight", "1"],
        r"--desireable_weight: unknown flag \(close to --desirable_weight\)",
    ),
    "missing file": (["--dataset_name", "no/such.jsonl"], "--dataset_name no/such.jsonl: there is no such file"),
    "missing held-out file": (
        ["--eval_dataset_name", "gone.jsonl"],
        "--eval_dataset_name gone.jsonl: there is no such file",
    ),
    "missing model": (
        ["--model_name_or_path", "./nowhere"],
        "'./nowhere': there is no such folder; check --model_name",
    ),
    "unknown objective": (["--objective", "dpo2"], "--objective dpo2: unknown; choose one of kto, dpo, vrpo"),
    "unknown baseline": (["--baseline", "median"], "--baseline median: unknown; choose one of"),
    "beta of zero": (["--beta", "0"], "--beta 0.0: must be above 0"),
    "draws without end": (["--num_draws", "1000000000"], "--num_draws 1000000000: .*at most 65536"),
    "no draws": (["--num_draws", "0"], "--num_draws 0: at least 1 is needed"),
    "unknown design": (["--draw_design", "sobol"], "--draw_design sobol: unknown; choose one of quadratic_tiling, iid"),
    "masks that do not divide": (["--masks_per_size", "3"], "--masks_per_size 3: must divide --num_draws 4"),
    "strata without width": (["--strata_exponent", "0"], "--strata_exponent 0.0: must be above 0"),
    "unknown end of answer": (["--end_of_answer", "two_eos"], "--end_of_answer two_eos: unknown rule; use one of"),
    "canvas without a tail": (
        ["--canvas_length", "9"],
        "--canvas_length 9: has no meaning with --end_of_answer one_eos",
    ),
    "context too long": (["--max_length", "999"], "--max_length 999: the model's context is 256"),
    "more rows than there are": (["--n_desirable", "40"], "--n_desirable 40.0: there are only 6 such rows"),
    "none of one label": (["--n_desirable", "0"], "rows of one label are left.*--allow_one_label"),
    "evaluation without rows": (["--eval_strategy", "steps"], "--eval_strategy: .*give --eval_dataset_name"),
    "replay without rows": (["--replay_weight", "1"], "--replay_weight: has no effect without --replay_dataset_name"),
    "replay without weight": (
        ["--replay_dataset_name", "x.jsonl"],
        "--replay_dataset_name: .* without --replay_weight",
    ),
    "nothing to resume": (["--resume_from_checkpoint", "True"], "--resume_from_checkpoint: no checkpoint in"),
    "no checkpoint there": (["--resume_from_checkpoint", "."], r"--resume_from_checkpoint \.: no trainer_state\.json"),
    "unknown dtype": (["--dtype", "int8"], "--dtype int8: is no type to compute in; give auto, float32"),
    "no such module": (["--use_peft", "--lora_target_modules", "nope"], "--lora_target_modules: .*nope"),
    "another mask token": (
        ["--mask_token_id", "7"],
        "--mask_token_id 7: the model's config says 1; leave the flag out",
    ),
    "missing template": (["--chat_template_path", "no.jinja"], "--chat_template_path no.jinja: cannot be read"),
    "columns half named": (["--column_map", "kto_tag"], "--column_map kto_tag: must look like given=wanted"),
    "unknown choice for rows": (["--on_bad_rows", "skip"], "--on_bad_rows skip: unknown choice"),
}


@pytest.mark.parametrize("case", FLAGS)
def test_flags_that_cannot_be_obeyed(case, train, tmp_path, check_message):
    words, pattern = FLAGS[case]
    check_message(one_line(train(*words), "train"), pattern)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["reward/margins", "eval_rewards/margin", "accuracy"])
def test_a_metric_that_no_evaluation_gives_is_refused_before_the_first_step(train, thumbs, tmp_path, name):
    words = ("--eval_dataset_name", thumbs, "--eval_strategy", "steps", "--metric_for_best_model", name)
    message = one_line(train(*words), "train")
    assert f"--metric_for_best_model {name}: is none of the metrics" in message
    assert "(close to eval_rewards/margins)" in message or name == "accuracy"
    assert not (tmp_path / "out").exists()


def test_a_broken_line_is_named_by_its_number(train, thumbs, tmp_path):
    Path(thumbs).write_text(json.dumps(THUMBS[0]) + '\n{"prompt": "a", "comp\n')
    message = one_line(train(), "train")
    assert f"{thumbs}, line 2" in message
    assert "broken JSON" in message
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_empty_is_left_as_it_is(train, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    message = one_line(train(), "train")
    assert "out: the folder is not empty; give --overwrite or another folder" in message
    assert train("--overwrite").code == 0
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_the_models_own_folder_is_no_place_for_the_result(train, base):
    before = sorted(path.name for path in Path(base).iterdir())
    assert "is the folder of the model itself" in one_line(train("--output_dir", base, "--overwrite"), "train")
    assert sorted(path.name for path in Path(base).iterdir()) == before


def test_an_output_below_a_file_is_refused(train, thumbs):
    assert "--output_dir" in one_line(train("--output_dir", f"{thumbs}/out"), "train")


def truncate(base: Path) -> None:
    data = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(data[: len(data) // 2])


def change_config(**fields):
    def change(base: Path) -> None:
        config = json.loads((base / "config.json").read_text())
        (base / "config.json").write_text(json.dumps(config | fields))

    return change


CHECKPOINTS = {
    "truncated weights": (truncate, r"base/model\.safetensors: is truncated .*copy it again"),
    "no weights": (lambda base: (base / "model.safetensors").unlink(), "base: holds no weights"),
    "unreadable config": (lambda base: (base / "config.json").write_text("{"), "config.json.* not (a )?valid JSON"),
    "unknown model type": (
        change_config(model_type="gpt9"),
        "model_type 'gpt9' .* is not a masked language model known",
    ),
    "smaller vocabulary": (change_config(vocab_size=200, embedding_size=200), "base: "),
    "other mask token": (
        change_config(mask_token_id=9),
        "its mask token has id 1 but .* mask_token_id=9; use the tokenizer",
    ),
    "no tokenizer": (lambda base: [f.unlink() for f in base.glob("token*")], "base: holds no tokenizer"),
    "damaged tokenizer": (lambda base: (base / "tokenizer.json").write_text("{}"), "the tokenizer cannot be loaded"),
}


@pytest.mark.parametrize("command", ["train", "generate", "likelihood"])
@pytest.mark.parametrize("case", CHECKPOINTS)
def test_checkpoints_that_cannot_be_used(case, command, unveil, train, base, thumbs, tmp_path, check_message):
    damage, pattern = CHECKPOINTS[case]
    damage(Path(base))
    words = ("--model_name_or_path", base, "--dataset_name", thumbs, "--output_file", tmp_path / "o.jsonl")
    outcome = train() if command == "train" else unveil(command, *words)
    check_message(one_line(outcome, command), pattern)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "o.jsonl").exists()


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(train, tiny_llada, base, tmp_path):
    shutil.copytree(base, tmp_path / "small")
    tiny_llada(vocab_size=200).save_pretrained(tmp_path / "small")
    message = one_line(train("--model_name_or_path", tmp_path / "small"), "train")
    assert (
        "its ids go up to 259 but the model has 200 embedding rows; use the tokenizer that the model was made"
        in message
    )
    assert not (tmp_path / "out").exists()


def test_a_reference_of_another_family_is_refused(train, unveil, tiny_llada, base, thumbs, tmp_path):
    tiny_llada(vocab_size=300).save_pretrained(tmp_path / "wide")
    reference = ("--ref_model_name_or_path", tmp_path / "wide")
    outcome = unveil("likelihood", "--model_name_or_path", base, "--dataset_name", thumbs, *reference)
    assert "wide: has another vocabulary; give a model of the same family" in one_line(outcome, "likelihood")
    assert "wide: has another vocabulary; give a model of the same family" in one_line(train(*reference), "train")
    assert not (tmp_path / "out").exists()


GENERATION = {
    "nothing asked": ([], "--prompt and --dataset_name: give one of them"),
    "asked twice": (["--prompt", "a", "--dataset_name", "b.jsonl"], "--prompt and --dataset_name: give one of them"),
    "empty prompt": (["--prompt", " "], "--prompt: 1 of 1 rows cannot be used: the prompt is empty"),
    "mask in the prompt": (["--prompt", "a <|mask|>"], "--prompt: .* mask token"),
    "prompt longer than the context": (
        ["--prompt", "a" * 250],
        r"--prompt: 1 of 1 rows cannot be used: the prompt is longer than the 248 tokens that --gen_length 8 .*id 0\)",
    ),
    "no canvas": (["--prompt", "a", "--gen_length", "0"], "--gen_length 0: not a count"),
    "blocks that do not divide": (
        ["--prompt", "a", "--block_length", "3"],
        "--block_length 3: does not divide --gen_length 8",
    ),
    "too many steps": (["--prompt", "a", "--steps", "9"], "--steps 9: more steps than the 8 tokens"),
    "temperature below zero": (["--prompt", "a", "--temperature", "-1"], "--temperature -1.0: out of range"),
    "top_p of zero": (["--prompt", "a", "--top_p", "0"], "--top_p 0.0: out of range"),
    "unknown remasking": (["--prompt", "a", "--remasking", "best"], "--remasking best: not one of the choices"),
    "unknown end rule": (["--prompt", "a", "--eos_rule", "soon"], "--eos_rule soon: not one of the choices"),
    "equal samples": (
        ["--prompt", "a", "--num_samples", "2"],
        "--num_samples: with --temperature 0 .* --remasking random",
    ),
    "no samples": (["--prompt", "a", "--num_samples", "0"], "--num_samples 0: at least 1"),
    "no budget": (["--prompt", "a", "--tokens_per_batch", "0"], "--tokens_per_batch 0: no token fits"),
    "unknown stop token": (
        ["--prompt", "a", "--stop_tokens", "<eot>"],
        "--stop_tokens <eot>: the tokenizer has no such",
    ),
    "unknown device": (["--prompt", "a", "--device", "abacus"], "--device abacus: unknown; give cpu, cuda"),
    "no rows": (["--prompt", "a", "--max_samples", "0"], "--max_samples 0: at least 1 row is needed"),
}


@pytest.mark.parametrize("case", GENERATION)
def test_answers_that_cannot_be_drawn(case, unveil, base, tmp_path, check_message):
    words, pattern = GENERATION[case]
    flags = ("--model_name_or_path", base, "--gen_length", 8, "--output_file", tmp_path / "o.jsonl")
    check_message(one_line(unveil("generate", *flags, *words), "generate"), pattern)
    assert not (tmp_path / "o.jsonl").exists()


@pytest.mark.parametrize("command", ["generate", "likelihood"])
def test_a_file_that_is_there_is_kept(command, unveil, base, thumbs):
    before = Path(thumbs).read_text()
    words = ("--model_name_or_path", base, "--dataset_name", thumbs, "--output_file", thumbs)
    assert "is there already; give --overwrite or another name" in one_line(unveil(command, *words), command)
    assert Path(thumbs).read_text() == before


COMPARISONS = {
    "unknown judge": (
        ["--judge", "nobody"],
        "error: --judge nobody: unknown; give human_ratings, openai:MODEL, hf:MODEL, exact, numeric, regex:PATTERN, "
        "json_schema:FILE, unit_tests, reward:module:function, or module:attribute\n$",
    ),
    "missing model": (["--against", "./nowhere"], "'./nowhere': there is no such folder"),
    "missing prompts": (["--dataset_name", "gone.jsonl"], "--dataset_name gone.jsonl: there is no such file"),
    "null without chance": (["--null"], "--null: with --temperature 0 and --remasking low_confidence every seed"),
    "blocks that do not divide": (["--block_length", "5"], "--block_length 5: does not divide --gen_length 8"),
}


@pytest.mark.parametrize("case", COMPARISONS)
def test_models_that_cannot_be_compared(case, unveil, base, thumbs, tmp_path, check_message):
    words, pattern = COMPARISONS[case]
    flags = ("--model", base, "--against", base, "--dataset_name", thumbs, "--gen_length", 8)
    flags = (*flags, "--judge", "human_ratings", "--output_dir", tmp_path / "out")
    check_message(one_line(unveil("compare", *flags, *words), "compare"), pattern)
    assert not (tmp_path / "out").exists()


LIKELIHOODS = {
    "draws without end": (["--num_draws", "1000000000"], "--num_draws 1000000000: .*at most 65536"),
    "no draws": (["--num_draws", "0"], "--num_draws 0: at least 1 is needed"),
    "unknown design": (["--draw_design", "sobol"], "--draw_design sobol: unknown"),
    "no budget": (["--tokens_per_batch", "0"], "--tokens_per_batch 0: at least 1"),
    "missing reference": (["--ref_model_name_or_path", "./nowhere"], "'./nowhere': there is no such folder"),
    "unknown split": (["--dataset_split", "x", "--dataset_name", "."], "--dataset_name .: no split 'x'; choose from"),
}


@pytest.mark.parametrize("case", LIKELIHOODS)
def test_likelihoods_that_cannot_be_had(case, unveil, base, thumbs, tmp_path, check_message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, pattern = LIKELIHOODS[case]
    flags = ("--model_name_or_path", base, "--dataset_name", thumbs, "--output_file", "o.jsonl")
    check_message(one_line(unveil("likelihood", *flags, *words), "likelihood"), pattern)
    assert not Path("o.jsonl").exists()


def test_a_likelihood_that_is_not_a_number_names_its_rows(unveil, base, thumbs, tmp_path):
    def spoil(tensors):
        tensors["model.transformer.wte.weight"][ord("3") - ord("!") + 4] = float("nan")  # the byte-level id of "3"

    broken = edited(base, spoil, tmp_path / "broken")
    words = ("--model_name_or_path", broken, "--dataset_name", thumbs, "--output_file", tmp_path / "o.jsonl")
    message = one_line(unveil("likelihood", *words), "likelihood")
    assert f"{thumbs}: the likelihood of row 3, 7, 11 is not a finite number; check the checkpoint" in message
    assert not (tmp_path / "o.jsonl").exists()
