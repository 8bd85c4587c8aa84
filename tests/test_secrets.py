"""Secrets of a command line never reach a file."""

import pickle

import pytest

from unveil.secrets import hub_token_left_out, shown_command, without_secrets

TOKEN = "hf_" + "a1B2" * 9


@pytest.mark.parametrize(
    "words",
    [
        ["--hub_token", TOKEN],
        ["--hub_token", "short"],
        [f"--hub_token={TOKEN}"],
        ["--hub-token=short"],
        ["--judge_api_key", "short"],
        ["--password", "short"],
        ["--anything", f"x={TOKEN}"],
        ["--judge_base_url", "https://me:short@host/v1"],
        ["--model_args", "pretrained=m,token=sk-abcdefghijklmnop"],
    ],
)
def test_tokens_keys_and_passwords_are_hidden_in_every_form(words):
    shown = shown_command(["unveil", "train", *words, "--seed", "3"])
    assert "<hidden>" in shown
    assert TOKEN not in shown
    assert "short" not in shown
    assert "abcdefghijklmnop" not in shown
    assert shown.endswith("--seed 3")


def test_other_words_stay_as_they_are():
    words = ["--tokens_per_batch", "512", "--mask_token_id", "4", "--tokenizer_name_or_path", "t", "--num_draws=2"]
    assert without_secrets(words) == words


def test_a_shown_command_can_be_pasted_into_a_shell():
    assert shown_command(["unveil", "train", "--prompt", "a b"]) == "unveil train --prompt 'a b'"


def test_the_token_is_left_out_of_pickled_arguments_and_is_there_afterwards():
    class Arguments:
        hub_token = TOKEN

    args = Arguments()
    with hub_token_left_out(args):
        assert pickle.dumps(args.__dict__) == pickle.dumps({"hub_token": None})
    assert args.hub_token == TOKEN
