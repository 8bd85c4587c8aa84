"""A tiny LLaDA, a tokenizer that knows every text, and commands run inside the test process: for all rooms."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import logging

from unveil.cli.main import main
from unveil.models import LLaDAConfig, LLaDAModelLM

EOS, MASK, BOS, EOT = "<|endoftext|>", "<|mask|>", "<|begin|>", "<|eot|>"
SPECIALS = (EOS, MASK, BOS, EOT)  # ids 0, 1, 2, 3; then the 256 bytes

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }}\n{{ message['content'] }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}assistant\n{% endif %}"
)


class Outcome(NamedTuple):
    """What a command returned and printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def toy_tokenizer() -> PreTrainedTokenizerBase:
    """Byte-level tokenizer of 260 ids: EOS (= pad) 0, mask 1, BOS 2, EOT 3, with a chat template."""
    vocabulary = {token: number for number, token in enumerate((*SPECIALS, *sorted(ByteLevel.alphabet())))}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens(list(SPECIALS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=EOS,
        mask_token=MASK,
        bos_token=BOS,
        chat_template=CHAT_TEMPLATE,
    )


@pytest.fixture
def tiny_llada() -> Callable[..., LLaDAModelLM]:
    """`tiny_llada(vocab_size=260, seed=0, dtype=torch.float32, **config)` -> a random model in evaluation mode.

    Its ids fit `toy_tokenizer` (EOS and pad 0, mask 1).
    """

    def make(
        vocab_size: int = 260, seed: int = 0, dtype: torch.dtype = torch.float32, **config: object
    ) -> LLaDAModelLM:
        fields: dict[str, object] = {
            "d_model": 32,
            "n_layers": 2,
            "n_heads": 4,
            "mlp_hidden_size": 48,
            "max_sequence_length": 256,
            "eos_token_id": 0,
            "pad_token_id": 0,
            "mask_token_id": 1,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return LLaDAModelLM(LLaDAConfig(vocab_size=vocab_size, **(fields | config))).to(dtype).eval()

    return make


@pytest.fixture
def base(tiny_llada, toy_tokenizer, tmp_path) -> str:
    """A random model and its tokenizer, saved."""
    folder = tmp_path / "base"
    tiny_llada().save_pretrained(folder)
    toy_tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def unveil(capsys) -> Callable[..., Outcome]:
    """`unveil("train", "--beta", 1)` runs a command in this process."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def quiet_transformers():
    """What `unveil.cli.main` asks for before transformers is imported; here it was imported before."""
    logging.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    yield
    logging.set_verbosity(verbosity)
    logging.enable_progress_bar()
