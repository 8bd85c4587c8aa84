"""`unveil generate`: prompts from flags or files, answers to the screen or to a file."""

import re
from pathlib import Path

import pytest
from command_files import read_rows, write_rows
from tokenizers.pre_tokenizers import ByteLevel

import unveil as unveil_package
from unveil.cli.prompting import GenerationArguments
from unveil.generation import GenerationConfig, read_trajectories


@pytest.fixture
def generate(unveil, base):
    def run(*words):
        return unveil("generate", "--model_name_or_path", base, "--gen_length", 8, "--temperature", 1, *words)

    return run


def test_prompts_of_flags_are_answered_in_order(generate):
    code, out, err = generate("--prompt", "one", "--prompt", "two", "three")
    assert (code, err) == (0, "")
    assert [out.index(f"[{i}] {word}\n--> ") for i, word in enumerate(("one", "two", "three"))] == sorted(
        out.index(f"] {word}\n") - 2 for word in ("one", "two", "three")
    )
    assert "3 answers, " in out


def test_answers_go_to_a_file_with_their_prompts(generate, pairs, tmp_path):
    answers = tmp_path / "deep" / "answers.jsonl"
    code, out, _ = generate("--dataset_name", pairs, "--num_samples", 2, "--output_file", answers, "--max_samples", 3)
    assert code == 0
    assert f"6 answers in {answers}" in out
    rows = read_rows(answers)
    assert [(row["example_id"], row["seed"]) for row in rows] == [(i, s) for i in range(3) for s in (0, 1)]
    assert rows[0]["prompt"] == [{"role": "user", "content": "say 0"}]
    assert rows[0]["answer"] != rows[1]["answer"]
    assert all(row["tokens"] <= 8 and row["ended"] == (row["tokens"] < 8) for row in rows)


def test_the_answer_of_a_row_depends_on_its_place_and_not_on_its_companions(generate, thumbs, tmp_path):
    """Fewer rows, other budgets: the same answers; another seed: others."""
    answers = []
    for words in ((), ("--max_samples", 4), ("--tokens_per_batch", 20), ("--seed", 1)):
        generate("--dataset_name", thumbs, "--output_file", tmp_path / "a.jsonl", "--overwrite", *words)
        answers.append([row["answer"] for row in read_rows(tmp_path / "a.jsonl")])
    assert answers[1] == answers[0][:4]
    assert answers[2] == answers[0]
    assert answers[3] != answers[0]


@pytest.mark.filterwarnings("default::unveil.errors.UserInputWarning")
def test_rows_left_out_do_not_move_the_seeds_of_others(generate, tmp_path):
    prompts = ["say a", "with <|mask|> inside", "say c"]
    data = write_rows(tmp_path / "prompts.jsonl", [{"prompt": prompt} for prompt in prompts])
    _, _, err = generate("--dataset_name", data, "--on_bad_rows", "drop", "--output_file", tmp_path / "dropped.jsonl")
    assert err.startswith(f"unveil: warning: {data}: 1 of 3 rows cannot be used")
    fine = write_rows(tmp_path / "fine.jsonl", [{"prompt": prompt} for prompt in ("say a", "say b", "say c")])
    generate("--dataset_name", fine, "--output_file", tmp_path / "all.jsonl")
    dropped, everything = read_rows(tmp_path / "dropped.jsonl"), read_rows(tmp_path / "all.jsonl")
    assert dropped == [everything[0], everything[2]]


def test_chat_wraps_plain_prompts_in_the_template(generate, tmp_path):
    """A conversation of one message and a plain prompt with --chat are the same question."""
    data = write_rows(tmp_path / "chat.jsonl", [{"prompt": [{"role": "user", "content": "say a"}]}])
    answers = [
        generate("--dataset_name", data).out,
        generate("--prompt", "say a", "--chat").out,
        generate("--prompt", "say a").out,
    ]
    assert answers[0] == answers[1] != answers[2]


def test_an_end_token_of_the_user_cuts_the_answer(generate):
    """With every byte an end token, each answer is empty."""
    assert "100% ended" not in generate("--prompt", "a").out
    every_byte = sorted(ByteLevel.alphabet())
    assert "1 answers, 0.0 tokens on average, 100% ended" in generate("--prompt", "a", "--stop_tokens", *every_byte).out


def test_blocks_fit_the_canvas_by_themselves():
    assert GenerationArguments(gen_length=64).configs()[0] == GenerationConfig(gen_length=64, block_length=32)
    assert GenerationArguments(gen_length=40).configs()[0].block_length is None
    assert GenerationArguments(gen_length=64, block_length=16).configs()[0].block_length == 16


@pytest.mark.parametrize(
    ("settings", "longest", "length"),
    [
        ({}, None, 128),
        ({}, 4096, 128),
        ({}, 128, 64),
        ({}, 100, 50),
        ({"block_length": 24}, 128, 48),
        ({"block_length": 24}, 4096, 120),
        ({"block_length": 100}, 128, 100),
        ({"steps": 2}, 128, 64),
        ({"gen_length": 120}, 128, 120),
    ],
)
def test_a_canvas_of_no_given_length_leaves_room_for_a_prompt(settings, longest, length):
    arguments = GenerationArguments(**settings)
    arguments.check()
    assert arguments.configs(longest)[0].gen_length == length


def test_a_first_command_with_all_defaults_works_on_the_shipped_model(unveil):
    model = Path(unveil_package.__file__).parent / "demo" / "assets" / "base"
    code, out, err = unveil("generate", "--model_name_or_path", model, "--prompt", "The film is")
    assert (code, err) == (0, "")
    assert "1 answers, " in out


def test_samples_differ_in_their_seed_alone():
    configs = GenerationArguments(gen_length=8, num_samples=3, seed=7, remasking="random").configs()
    assert [config.seed for config in configs] == [7, 8, 9]


def test_the_cost_is_told(generate):
    out = generate("--prompt", "a", "b", "--stop_tokens", "<|eot|>", "--steps", 4).out
    assert re.search(
        r"^2\.00 tokens per forward, \d\.\d forwards per answer; \d forwards in all, of \d+ tokens$", out, re.M
    )


def test_every_step_goes_to_a_file(generate, pairs, tmp_path):
    paths, answers = tmp_path / "paths.jsonl", tmp_path / "answers.jsonl"
    words = ("--dataset_name", pairs, "--num_samples", 2, "--confidence_threshold", 0.006, "--output_file", answers)
    code, out, _ = generate(*words, "--trajectories", paths)
    assert code == 0
    assert f"steps in {paths}" in out
    rows = read_rows(answers)
    for path, row in zip(read_trajectories(paths), rows, strict=True):
        last = path.state(len(path.steps))
        assert (path.index, path.seed) == (row["example_id"], row["seed"])
        assert (path.mask_token_id in last[: row["tokens"]], len(last)) == (False, 8)
    code, _, err = generate(*words, "--trajectories", paths)
    assert (code, "is there already" in err) == (2, True)


def test_show_prints_the_final_text_where_there_is_no_terminal(generate):
    assert generate("--prompt", "one", "--show").out == generate("--prompt", "one").out


def test_help_says_that_show_needs_a_terminal(unveil, capsys):
    with pytest.raises(SystemExit):
        unveil("generate", "--help")
    assert "draws nothing where the output is no terminal" in " ".join(capsys.readouterr().out.split())


def test_samplers_are_chosen_by_flags():
    settings = GenerationArguments(
        gen_length=8, remasking="margin", confidence_threshold=0.8, cache="dual", cache_interval=2, top_k=5
    )
    assert settings.configs()[0] == GenerationConfig(
        gen_length=8, block_length=None, remasking="margin", confidence_threshold=0.8, cache="dual", cache_interval=2,
        top_k=5,
    )  # fmt: skip


def test_canvases_are_filled_to_their_end_on_demand(generate, tmp_path):
    """With every byte an end token: unset, the first forward settles it; the answers are the same."""
    words = ("--prompt", "a", "b", "--eos_rule", "free", "--stop_tokens", *sorted(ByteLevel.alphabet()))
    answers, forwards = [], []
    for number, flags in enumerate(((), ("--early_exit", True), ("--early_exit", False))):
        file = tmp_path / f"{number}.jsonl"
        code, out, _ = generate(*words, *flags, "--output_file", file)
        assert code == 0
        answers.append(file.read_text())
        forwards.append(float(re.search(r"([\d.]+) forwards per answer", out)[1]))  # type: ignore[index]
    assert answers[0] == answers[1] == answers[2]
    assert forwards[0] == forwards[1] < forwards[2] == 8
    assert GenerationArguments().configs()[0] == GenerationConfig()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--remasking", "best"), "--remasking best: not one of the choices; give low_confidence or random or entropy"),
        (("--confidence_threshold", 0.9, "--steps", 8), "--steps 8: --confidence_threshold 0.9 decides"),
        (("--cache", "both"), "--cache both: not one of the choices; give none or prefix or dual"),
    ],
)
def test_samplers_that_cannot_be_are_refused(generate, flags, message):
    code, _, err = generate("--prompt", "a", *flags)
    assert (code, message in err) == (2, True)
