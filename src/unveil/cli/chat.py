"""`unveil chat`: turns with a model, its answers unmasking in the terminal. Piped lines are turns too."""

import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from unveil.cli.loading import load_for_use
from unveil.cli.options import UseArguments
from unveil.cli.parser import parse
from unveil.cli.prompting import GenerationArguments, all_end_tokens, sampled, texts
from unveil.cli.unmasking import live_canvases
from unveil.data import tokenize_prompts
from unveil.errors import UserError, is_text
from unveil.generation import GenerationConfig
from unveil.models import Denoiser
from unveil.terminal import say

DESCRIPTION = """Talk with a masked diffusion language model. Turns go through the tokenizer's chat template; without
one they are lines of one text that the model continues. /reset forgets the conversation, /quit (or the end of the
input) leaves."""
HELP = "/reset forgets the conversation, /quit leaves"
_NO_LIMIT = 2**31 - 1


@dataclass
class ChatArguments:
    """How to talk"""

    system: str | None = field(default=None, metadata={"help": "What the conversation starts from (system message)."})


def main(argv: Sequence[str]) -> int:
    """Parse, load, answer line by line."""
    model_args, chat, settings = parse(
        (UseArguments, ChatArguments, GenerationArguments),
        argv,
        "unveil chat",
        DESCRIPTION,
        required={"model_name_or_path": "a hub name or a folder"},
    )
    if settings.num_samples != 1:
        raise UserError(f"--num_samples {settings.num_samples}: a turn has one answer; leave the flag out")
    settings.check()
    denoiser, tokenizer = load_for_use(model_args, str(model_args.model_name_or_path))
    settings = settings.ending(str(model_args.model_name_or_path), tokenizer)
    (config,) = settings.configs(denoiser.max_length)
    conversation = Conversation(denoiser, tokenizer, settings, config, chat.system)
    typed = sys.stdin is not None and sys.stdin.isatty()
    if typed:
        how = "chat template" if tokenizer.chat_template else "no chat template: lines of one text"
        say(f"{model_args.model_name_or_path} ({how}); {HELP}")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # bytes that are no text are told of, and end nothing
    failed = False
    for line in _lines(typed):
        if line == "/quit":
            break
        if not is_text(line):
            failed = True
            print("unveil chat: error: this turn is not UTF-8 text; it is left out", file=sys.stderr)
            continue
        if line == "/reset":
            conversation.reset()
            print("the conversation is forgotten")
        elif line.startswith("/"):
            say(f"unveil chat: no command {line.split()[0]}; {HELP}", file=sys.stderr)
        else:
            try:
                say(conversation.answer(line))
            except UserError as error:  # about this turn: the conversation goes on without it
                failed = True
                say(f"unveil chat: error: {error}", file=sys.stderr)
    return 2 if failed and not typed else 0


def _lines(typed: bool) -> Iterator[str]:
    """What the user says, without blank lines, until the input ends."""
    while True:
        if typed:
            try:
                line = input("> ")
            except EOFError:
                print()
                return
        else:
            line = sys.stdin.readline() if sys.stdin is not None else ""  # None where the shell closed it
            if not line:
                return
        if line.strip():
            yield line.strip()


class Conversation:
    """Turns so far; the oldest are forgotten when they no longer fit the model."""

    def __init__(
        self,
        denoiser: Denoiser,
        tokenizer: PreTrainedTokenizerBase,
        settings: GenerationArguments,
        config: GenerationConfig,
        system: str | None = None,
    ) -> None:
        self.denoiser, self.tokenizer, self.settings, self.config = denoiser, tokenizer, settings, config
        self.first = [{"role": "system", "content": system}] if system else []
        self.messages: list[dict[str, str]] = []
        self.turns = 0  # seeds each answer, also after a reset
        if denoiser.max_length is not None and config.gen_length >= denoiser.max_length:
            raise UserError(
                f"--gen_length {config.gen_length}: leaves nothing of the model's {denoiser.max_length} tokens for "
                "what is said; give a smaller one"
            )

    def reset(self) -> None:
        """Forget all turns."""
        self.messages = []

    def answer(self, text: str) -> str:
        """The model's turn. Raises UserError where this turn cannot be answered, which leaves it out."""
        messages = [*self.messages, {"role": "user", "content": text}]
        ids = self._ids(messages)
        forgotten = 0
        while not self._fits(ids) and len(messages) > 1:
            messages, forgotten = messages[2:], forgotten + 1
            ids = self._ids(messages)
        if not self._fits(ids):
            canvas, longest = self.config.gen_length, self.denoiser.max_length or 0
            turn = "this turn with the system message" if self.first else "this turn"
            raise UserError(
                f"{turn}: longer than the {longest - canvas} tokens that --gen_length {canvas} leaves of the model's "
                f"{longest}; shorten it or give a smaller --gen_length"
            )
        ends = all_end_tokens(self.denoiser, self.tokenizer, self.settings.stop_tokens)
        with live_canvases(self.tokenizer, [""], ends) as view:
            samples = sampled(self.denoiser, self.tokenizer, {self.turns: ids}, self.settings, self.config, view)
        if forgotten:
            what = "turn no longer fits and is" if forgotten == 1 else f"{forgotten} turns no longer fit and are"
            print(f"unveil chat: the oldest {what} forgotten", file=sys.stderr)
        self.turns += 1
        ((words, _),) = texts(self.tokenizer, samples)
        self.messages = [*messages, {"role": "assistant", "content": words}]
        return words

    def _fits(self, ids: list[int]) -> bool:
        longest = self.denoiser.max_length
        return longest is None or len(ids) + self.config.gen_length <= longest

    def _ids(self, messages: list[dict[str, str]]) -> list[int]:
        turns = [*self.first, *messages]
        prompt = turns if self.tokenizer.chat_template else "\n".join(turn["content"] for turn in turns)
        tokenized = tokenize_prompts(
            Dataset(pa.table({"example_id": [self.turns], "prompt": [prompt]})),
            self.tokenizer,
            max_length=_NO_LIMIT,
            mask_token_id=self.denoiser.mask_token_id,
            source="this turn",
        )
        return list(tokenized[0]["prompt_ids"])
