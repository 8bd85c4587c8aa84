"""Flags, the YAML file below them, and help pages that can be read."""

import os
from pathlib import Path

import pytest

from unveil.cli.generate import PromptArguments
from unveil.cli.main import main
from unveil.cli.options import DataArguments, ModelArguments
from unveil.cli.parser import parse
from unveil.cli.sft import SFTScriptArguments
from unveil.errors import UserError
from unveil.training import PreferenceConfig, SFTConfig

COMMANDS = {
    "train": ("--objective", "--beta", "--desirable_weight", "--num_draws", "--use_peft", "--replay_dataset_name"),
    "sft": ("--init_from_config", "--dataset_name", "--num_draws", "--end_of_answer"),
    "generate": ("--prompt", "--temperature", "--gen_length", "--output_file"),
    "compare": ("--model", "--against", "--judge", "--null"),
    "likelihood": ("--num_draws", "--ref_model_name_or_path", "--draw_design"),
}


def parsed(*argv, **kwargs):
    return parse((ModelArguments, DataArguments, PreferenceConfig), argv, "unveil train", "", **kwargs)


@pytest.fixture
def config(tmp_path):
    def write(text):
        (tmp_path / "run.yaml").write_text(text)
        return str(tmp_path / "run.yaml")

    return write


def test_yaml_keys_are_flags_and_flags_win(config):
    path = config(
        "beta: 0.5\nnum_draws: 8\nuse_peft: true\nlora_target_modules: [q_proj, k_proj]\nlearning_rate: 1e-4\n"
    )
    model, _, args = parsed("--num_draws", "2", "--config", path)
    assert (args.beta, args.num_draws, args.learning_rate) == (0.5, 2, 1e-4)
    assert model.use_peft is True
    assert model.lora_target_modules == ["q_proj", "k_proj"]
    model, *_ = parsed(f"--config={path}", "--lora_target_modules", "v_proj", "--use-peft", "False")
    assert model.lora_target_modules == ["v_proj"]
    assert model.use_peft is False


def test_a_repeated_flag_collects_and_still_wins_over_the_file(config):
    path = config("prompt: [from the file]\n")
    (data,) = parse(
        (PromptArguments,), ["--prompt", "b", "--config", path, "--prompt", "c", "d"], "unveil generate", ""
    )
    assert data.prompt == ["b", "c", "d"]
    (data,) = parse((PromptArguments,), ["--config", path], "unveil generate", "")
    assert data.prompt == ["from the file"]


def test_yaml_values_may_look_like_flags(config):
    _, data, _ = parsed("--config", config("dataset_name: --odd name--\ncolumn_map: a=b\n"))
    assert data.dataset_name == "--odd name--"
    assert data.columns() == {"a": "b"}


@pytest.mark.parametrize("key", ["save_strategy", "eval_strategy", "logging_strategy"])
def test_no_in_the_file_is_the_choice_no(config, key):
    *_, args = parsed("--config", config(f"{key}: no\n"))
    assert getattr(args, key) == "no"


@pytest.mark.parametrize("word", ["no", "off", "false", "False", "Off"])
def test_every_word_for_false_turns_a_flag_off(config, word):
    model, _, args = parsed("--config", config(f"use_peft: {word}\nshare_sizes: {word}\n"))
    assert (model.use_peft, args.share_sizes) == (False, False)


@pytest.mark.parametrize("word", ["yes", "on", "true", "On"])
def test_every_word_for_true_turns_a_flag_on(config, word):
    model, _, args = parsed("--config", config(f"use_peft: {word}\ndataloader_drop_last: {word}\n"))
    assert (model.use_peft, args.dataloader_drop_last) == (True, True)


def test_a_number_inside_a_mapping_is_a_number(config):
    text = "lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs:\n  min_lr: 1e-7\n"
    *_, args = parsed("--config", config(text))
    assert args.lr_scheduler_kwargs == {"min_lr": 1e-7}


def test_env_of_the_file_reaches_the_environment(config, monkeypatch):
    monkeypatch.setenv("UNVEIL_TEST", "before")
    parsed("--config", config("env:\n  UNVEIL_TEST: after\nbeta: 1\n"))
    assert os.environ["UNVEIL_TEST"] == "after"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("betta: 1\n", r"run\.yaml: unknown key 'betta' \(close to --beta\); keys are flags without their dashes"),
        ("just text\n", r"run\.yaml: must hold `flag: value` lines"),
        ("a: [1\n", r"run\.yaml: is not valid YAML"),
        ("num_draws: many\n", r"--num_draws.*invalid int value: 'many'"),
        ("env: 3\n", r"run\.yaml: env: must hold"),
        ('env: {"A=B": x}\n', r"run\.yaml: env: 'A=B' is no name of a variable"),
        ('env: {A: "x\\0y"}\n', r"run\.yaml: env: 'A' must have one plain value"),
        ("env: {A: [1]}\n", r"run\.yaml: env: 'A' must have one plain value"),
        ("beta: 1\nbeta: 2\n", r"run\.yaml: is not valid YAML \(the key 'beta' stands twice"),
        ("lora_target_modules: [[a]]\n", r"run\.yaml: lora_target_modules: must be a list of plain values"),
        ("objective_args: &a {x: *a}\n", r"run\.yaml: a value contains itself"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_it(config, text, message):
    with pytest.raises(UserError, match=message):
        parsed("--config", config(text))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--learning_rat", "1"], r"--learning_rat: unknown flag \(close to --learning_rate\)"),
        (["stray"], r"'stray': belongs to no flag"),
        (["--num_draws", "two"], r"invalid int value: 'two'"),
        (["--beta"], r"--beta.*expected one argument"),
        (["--config"], r"--config: a file name must follow"),
        (["--config", "no/such.yaml"], r"--config no/such\.yaml: cannot be read"),
        (["--draws", "some"], r"--draws some: must be fresh or fixed"),
        (["--lr_scheduler_type", "odd"], r"odd"),
        (["--load_best_model_at_end"], r"load_best_model_at_end"),
    ],
)
def test_a_wrong_flag_is_an_error_that_names_it(argv, message):
    with pytest.raises(UserError, match=message) as found:
        parsed(*argv)
    assert "\n" not in str(found.value)


def test_a_flag_that_is_needed_is_asked_for():
    with pytest.raises(UserError, match=r"--output_dir: is missing; give a folder"):
        parsed(required={"output_dir": "a folder"})


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_on_two_screens_and_shows_our_flags(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    page = capsys.readouterr().out
    assert stop.value.code == 0
    assert page.startswith(f"usage: unveil {command} [--config FILE.yaml] [flags]")
    assert len(page.splitlines()) < 120
    assert max(map(len, page.splitlines())) <= 118
    for flag in (*COMMANDS[command], "--config", "--model_name_or_path"):
        assert f"  {flag}" in page or f", {flag}" in page, flag
    assert "--adam_epsilon" not in page


def test_help_all_shows_the_flags_of_transformers_too(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help_all"])
    page = capsys.readouterr().out
    for flag in ("--adam_epsilon", "--fsdp", "--beta"):
        assert f"  {flag}" in page


def test_the_recipe_of_the_shipped_base_is_understood():
    recipe = Path(__file__).parents[2] / "examples" / "base" / "sft.yaml"
    script, args = parse(
        (SFTScriptArguments, SFTConfig), ["--config", str(recipe), "--max_steps", "7"], "unveil sft", ""
    )
    assert script.init_from_config
    assert (args.max_steps, args.end_of_answer, args.strata_exponent) == (7, "scored_tail", 1.5)
