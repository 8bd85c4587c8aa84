"""The demo's tokenizer: byte-level BPE, 4,096 tokens in all, lower-casing, with one token for each domain tag."""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from unveil.demo.text import DOMAINS, tag
from unveil.files import write_json, write_text

VOCABULARY_SIZE = 4096
EOS, MASK = "<|eos|>", "<|mask|>"
MODEL_MAX_LENGTH = 128


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train on texts without tags; EOS (also the pad), the mask and the tags take the last ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - 2 - len(DOMAINS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(EOS, special=True), AddedToken(MASK, special=True)])
    # Tags are ordinary text to a reader, so decoding keeps them; single_word leaves `subtext:` alone.
    tokenizer.add_tokens([AddedToken(tag(domain), single_word=True, normalized=False) for domain in DOMAINS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=EOS,
        mask_token=MASK,
        model_max_length=MODEL_MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """`save_pretrained`, with tokenizer.json on one line and merges as strings: half the size."""
    tokenizer.save_pretrained(str(folder))
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    write_text(path, json.dumps(content, ensure_ascii=False, separators=(",", ":")))
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**config, "tokenizer_class": "PreTrainedTokenizerFast"})
