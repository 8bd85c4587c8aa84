"""`unveil chat` with piped lines: turns, commands, what no longer fits, errors that end a turn and not the chat."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from unveil.cli import chat as chat_command
from unveil.cli.loading import load_for_use
from unveil.cli.options import UseArguments
from unveil.cli.unmasking import MASK, live_canvases, printable
from unveil.generation import Step
from unveil.models import Denoiser, load_tokenizer


@pytest.fixture
def chat(unveil, base, monkeypatch):
    """`chat("a\\n/quit\\n", "--gen_length", 8)`; the turns' prompts are kept in `chat.prompts`."""

    def run(lines, *words):
        monkeypatch.setattr("sys.stdin", io.StringIO(lines) if isinstance(lines, str) else lines)
        return unveil("chat", "--model_name_or_path", base, "--gen_length", 8, "--temperature", 1, *words)

    return run


@pytest.fixture
def prompts(monkeypatch, base):
    """What the model is asked, as text, turn by turn."""
    seen, sampled = [], chat_command.sampled

    def spy(denoiser, tokenizer, ids, *rest):
        seen.extend(tokenizer.decode(prompt) for prompt in ids.values())
        return sampled(denoiser, tokenizer, ids, *rest)

    monkeypatch.setattr(chat_command, "sampled", spy)
    return seen


def test_turns_go_through_the_chat_template_and_are_remembered(chat, prompts):
    code, out, err = chat("one\n\n  two  \n", "--system", "be brief", "--eos_rule", "never")
    assert (code, err) == (0, "")
    start = "<|begin|>system\nbe brief<|eot|>user\none<|eot|>assistant\n"
    assert prompts[0] == start
    assert prompts[1].startswith(start)
    assert prompts[1].endswith("<|eot|>user\ntwo<|eot|>assistant\n")
    assert len(out) > 2


def test_a_turn_of_bytes_that_are_no_text_is_left_out_and_the_chat_goes_on(chat, prompts):
    code, _, err = chat(io.TextIOWrapper(io.BytesIO(b"one\n\xff\xfe\ntwo\n"), encoding="utf-8"))
    assert code == 2
    assert err == "unveil chat: error: this turn is not UTF-8 text; it is left out\n"
    assert len(prompts) == 2


def test_a_closed_input_is_an_empty_one(chat):
    code, out, err = chat(None)
    assert (code, out, err) == (0, "", "")


def test_without_a_template_turns_are_lines_of_one_text(chat, prompts, base):
    tokenizer = load_tokenizer(base)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(base)
    (Path(base) / "chat_template.jinja").unlink(missing_ok=True)
    assert chat("one\ntwo\n").code == 0
    assert prompts[0] == "one"
    assert prompts[1].startswith("one\n")
    assert prompts[1].endswith("\ntwo")


def test_reset_forgets_and_quit_leaves(chat, prompts):
    code, out, err = chat("one\n/reset\ntwo\n/who\n/quit\nthree\n")
    assert code == 0
    assert [prompt.count("user") for prompt in prompts] == [1, 1]
    assert "one" not in prompts[1]
    assert "the conversation is forgotten" in out
    assert err == "unveil chat: no command /who; /reset forgets the conversation, /quit leaves\n"


def test_a_turn_depends_on_its_number_and_the_seed(chat):
    lines = "one\n/reset\none\n"
    first = chat(lines, "--seed", 3)
    assert first.out == chat(lines, "--seed", 3).out != chat(lines, "--seed", 4).out
    a, b = first.out.split("the conversation is forgotten\n")
    assert a != b


def test_the_oldest_turns_are_forgotten_when_they_no_longer_fit(chat, prompts):
    long = "x" * 150
    code, _, err = chat(f"{long}\nshort\n{long}\n")
    assert code == 0
    assert [long in prompt for prompt in prompts] == [True, True, True]
    assert [prompt.count("user") for prompt in prompts] == [1, 2, 2]
    assert "short" in prompts[2]
    assert err == "unveil chat: the oldest turn no longer fits and is forgotten\n"


def test_a_turn_that_cannot_be_answered_is_told_and_the_chat_goes_on(chat, prompts):
    code, out, err = chat(f"{'x' * 300}\n<|mask|>\nfine\n")
    assert code == 2
    assert err.count("unveil chat: error: ") == 2
    assert "longer than the 248 tokens that --gen_length 8 leaves" in err
    assert "error: this turn: longer" in err
    assert "prompts 0" not in err
    assert [prompt.count("user") for prompt in prompts][-1] == 1
    assert "fine" in prompts[-1]
    assert out.endswith("\n")


def test_a_chat_with_all_defaults_works_on_the_shipped_model(unveil, monkeypatch):
    """It holds 128 tokens: half of them are the canvas, and what was said is forgotten when it fills the other half."""
    model = Path(chat_command.__file__).parents[1] / "demo" / "assets" / "base"
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{'a good film ' * 15}\n{'a bad film ' * 15}\n"))
    code, _, err = unveil("chat", "--model_name_or_path", model)
    assert (code, err) == (0, "unveil chat: the oldest turn no longer fits and is forgotten\n")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--num_samples", 2), "--num_samples 2: a turn has one answer"),
        (("--gen_length", 256), "--gen_length 256: leaves nothing of the model's 256 tokens"),
        (("--confidence_threshold", 0.9, "--remasking", "random"), "--confidence_threshold 0.9: --remasking random"),
    ],
)
def test_flags_that_do_not_fit_a_chat_are_refused(chat, flags, message):
    code, _, err = chat("one\n", *flags)
    assert code == 2
    assert message in err


def test_a_terminal_shows_the_masks_go(base):
    denoiser, tokenizer = load_for_use(UseArguments(model_name_or_path=base), base)
    assert isinstance(denoiser, Denoiser)
    ids = tokenizer("abc\x1b[2J")["input_ids"][:4]
    terminal = Console(file=io.StringIO(), force_terminal=True, width=40)
    with live_canvases(tokenizer, ["a question"], [0], terminal) as view:
        assert view is not None
        tokens = torch.tensor([[ids[0], 1, ids[2], ids[3], 0, 1]])
        view(Step([0], tokens, tokens == 1, torch.tensor([0]), torch.tensor([2]), tokens[0, 2:3], torch.ones(1)))
    shown = terminal.file.getvalue()
    assert "a question" in shown
    assert f"a\x1b[2m{MASK}\x1b[0m\x1b[1;32mc\x1b[0m" in shown  # old, masked, revealed in this step
    assert f"{MASK}{MASK}" not in shown  # what follows an end token is not shown
    assert "\x1b[2J" not in shown
    with live_canvases(tokenizer, ["a question"], [0], Console(file=io.StringIO())) as nothing:
        assert nothing is None


def test_control_characters_do_not_reach_the_terminal():
    assert printable("a\x1b[31mb\x07\n\tc") == "a\\x1b[31mb\\x07\n\tc"
