"""A judge that is a causal language model on this machine, read by the log-probability of its verdict.

After the template's text the model's next token is A, B or C (neither is better) with some probability each; the most
probable letter is the verdict. Nothing is sampled, so nothing depends on a temperature or a seed, and there is nothing
to parse. Only the logits of the last position are computed.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unveil.errors import UserError
from unveil.judging.columns import rows_of
from unveil.judging.judge import Columns, Verdict, Winner
from unveil.judging.template import Template, shipped_template
from unveil.judging.template_judge import TemplateJudge
from unveil.time_limit import SECONDS_OF_A_TEMPLATE, time_limit

_LETTERS: dict[str, Winner] = {"A": "A", "B": "B", "C": "tie"}


@dataclass
class LocalJudge(TemplateJudge):
    """Reads both answers in one text, so it is asked in both orders.

    template: ends where a single letter A, B or C must follow. With a chat template of the tokenizer it is the user's
    message, else plain text. tokens_per_batch: with padding. least_mass: with less probability on the three letters
    together the model has not said a verdict, and it is unparsed; so is a text longer than the model's context.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    template: Template = field(default_factory=lambda: shipped_template("letter"))
    tokens_per_batch: int = 8192
    least_mass: float = 0.01
    name: str = "local"

    def __post_init__(self) -> None:
        if self.tokens_per_batch < 1:
            raise UserError(f"judge {self.name}: tokens_per_batch is {self.tokens_per_batch}; give 1 or more")
        self._letter_ids = _letter_ids(self.tokenizer, self.name)
        self._takes = inspect.signature(self.model.forward).parameters
        self._longest = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def compare(
        self,
        prompts: Sequence[str],
        answers_a: Sequence[str],
        answers_b: Sequence[str],
        columns: Columns | None = None,
    ) -> list[Verdict]:
        """One verdict per prompt, with the probabilities as its reason. Raises UserError for logits that are NaN."""
        rows = rows_of(columns, len(prompts))
        texts = [
            self._ids(self.template.messages(prompt, a, b, row))
            for prompt, a, b, row in zip(prompts, answers_a, answers_b, rows, strict=True)
        ]
        verdicts: dict[int, Verdict] = {}
        fitting = []
        for place, ids in enumerate(texts):
            if self._longest is not None and len(ids) > self._longest:
                reason = f"the text has {len(ids)} tokens, the model reads {self._longest}"
                verdicts[place] = Verdict("tie", reason, parsed=False)
            else:
                fitting.append(place)
        for batch in self._batches(fitting, texts):
            probabilities = self._probabilities([texts[place] for place in batch])
            for place, row in zip(batch, probabilities.tolist(), strict=True):
                verdicts[place] = self._verdict(row)
        return [verdicts[place] for place in range(len(texts))]

    def _ids(self, messages: list[dict[str, str]]) -> list[int]:
        if getattr(self.tokenizer, "chat_template", None):
            text = _chat_text(self.tokenizer, messages, self.name)
            return self.tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[return-value]
        return self.tokenizer("\n\n".join(message["content"] for message in messages))["input_ids"]  # type: ignore[return-value]

    def _batches(self, places: list[int], texts: list[list[int]]) -> Iterator[list[int]]:
        """Texts of like length together, the longest first."""
        batch: list[int] = []
        for place in sorted(places, key=lambda place: -len(texts[place])):
            if batch and (len(batch) + 1) * len(texts[batch[0]]) > self.tokens_per_batch:
                yield batch
                batch = []
            batch.append(place)
        if batch:
            yield batch

    @torch.inference_mode()
    def _probabilities(self, texts: list[list[int]]) -> Tensor:
        """Probability of A, B and C as the next token of each text, float32 [N, 3] on the CPU."""
        longest = max(map(len, texts))
        ids_NT = torch.zeros(len(texts), longest, dtype=torch.long)
        seen_NT = torch.zeros_like(ids_NT)
        for row, ids in enumerate(texts):  # padded on the left: the last position is the last token of every text
            ids_NT[row, longest - len(ids) :] = torch.tensor(ids)
            seen_NT[row, longest - len(ids) :] = 1
        positions_NT = (seen_NT.cumsum(1) - 1).clamp(min=0)
        device = self.model.device
        model: Any = self.model
        arguments: dict[str, Any] = {"input_ids": ids_NT.to(device), "attention_mask": seen_NT.to(device)}
        if "position_ids" in self._takes:
            arguments["position_ids"] = positions_NT.to(device)
        if "logits_to_keep" in self._takes:
            arguments["logits_to_keep"] = 1
        logits_NV = model(**arguments, use_cache=False).logits[:, -1].float()
        if not torch.isfinite(logits_NV.amax(1)).all():
            raise UserError(f"judge {self.name}: its logits are not finite; try --judge_dtype float32")
        logp_NV = logits_NV.log_softmax(-1)
        return torch.stack([logp_NV[:, ids].exp().sum(1) for ids in self._letter_ids.values()], dim=1).cpu()

    def _verdict(self, probabilities: list[float]) -> Verdict:
        said = ", ".join(
            f"{winner} {share:.3f}" for winner, share in zip(_LETTERS.values(), probabilities, strict=True)
        )
        if sum(probabilities) < self.least_mass:
            return Verdict("tie", f"hardly any probability on a verdict: {said}", parsed=False)
        most = max(probabilities)
        winners: list[Winner] = [
            winner for winner, share in zip(_LETTERS.values(), probabilities, strict=True) if share == most
        ]
        return Verdict(winners[0] if len(winners) == 1 else "tie", said)


def _letter_ids(tokenizer: PreTrainedTokenizerBase, name: str) -> dict[str, list[int]]:
    """The tokens that write each letter, with and without a space before it."""
    found: dict[str, list[int]] = {}
    for letter in _LETTERS:
        written = [tokenizer(form, add_special_tokens=False)["input_ids"] for form in (letter, f" {letter}")]
        found[letter] = sorted({ids[0] for ids in written if len(ids) == 1})  # type: ignore[index,arg-type]
    together = [number for ids in found.values() for number in ids]
    unknown = tokenizer.unk_token_id
    if not all(found.values()) or len(set(together)) < len(together) or unknown in together:
        raise UserError(f"judge {name}: its tokenizer does not write A, B and C as one token each; use another model")
    return found


def _chat_text(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], name: str) -> str:
    joined = [{"role": "user", "content": "\n\n".join(message["content"] for message in messages)}]
    fault: Exception | None = None
    for attempt in (messages, joined):  # some templates know no system message
        try:
            with time_limit(SECONDS_OF_A_TEMPLATE):
                text: Any = tokenizer.apply_chat_template(
                    attempt, tokenize=False, add_generation_prompt=True, enable_thinking=False
                )
            return text
        except Exception as error:  # whatever a template raises
            fault = error
    raise UserError(f"judge {name}: its chat template fails ({' '.join(str(fault).split())}); use another model")


def load_local_judge(
    name_or_path: str,
    *,
    template: Template | None = None,
    dtype: str | None = None,
    device: str | None = None,
    tokens_per_batch: int = 8192,
) -> LocalJudge:
    """The judge made of a hub model or a folder with its tokenizer; no remote code is run.

    Raises:
        UserError: it cannot be loaded, or is no causal language model.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    kind: Any = "auto" if dtype is None else getattr(torch, dtype, None)
    if not (kind == "auto" or isinstance(kind, torch.dtype)):
        raise UserError(f"--judge_dtype {dtype}: unknown; give float32, bfloat16 or float16")
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name_or_path, dtype=kind, trust_remote_code=False, output_loading_info=True
        )
        model, found = loaded[0].to(where).eval(), loaded[1]
    except Exception as error:  # a name that leads nowhere, damaged files, a wrong device: libraries raise of all kinds
        lines = str(error).strip().splitlines()
        told = f"{type(error).__name__}: {lines[0] if lines else ''}"
        raise UserError(
            f"--judge hf:{name_or_path}: cannot be loaded as a causal language model with its tokenizer ({told}); "
            "check the name or folder"
        ) from error
    absent = sorted(found["missing_keys"])
    if absent:  # transformers would have filled them with random numbers
        raise UserError(f"--judge hf:{name_or_path}: lacks {len(absent)} tensors, such as {absent[0]}; mend its files")
    if getattr(model.config, "mask_token_id", None) is not None:
        raise UserError(
            f"--judge hf:{name_or_path}: is a masked diffusion model; a causal language model is needed here"
        )
    return LocalJudge(
        model,
        tokenizer,
        template or shipped_template("letter"),
        tokens_per_batch,
        name=name_or_path.rstrip("/").split("/")[-1],
    )
