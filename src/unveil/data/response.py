"""One tokenised response: its fields, how a batch of them looks, and how one is shown to a person."""

from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SHOWN = 600


class TokenizedResponse(TypedDict):
    """Columns after `tokenize_responses`. The model sees `prompt_ids + completion_ids + tail_ids`."""

    example_id: int  # seeds the draws of this row; 2i and 2i+1 for the halves of pair i
    prompt_ids: list[int]  # visible, never hidden, never scored
    completion_ids: list[int]  # scored: exactly the tokens that may be hidden, a scored EOS included
    tail_ids: list[int]  # visible EOS after the answer, never hidden, never scored
    truncated: bool  # the answer (or its scored EOS) did not fit
    label: NotRequired[bool]  # True = desirable; absent for SFT


def collate(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Rows to columns, as lists: nothing is padded, since the model packs. Picklable, for `DataLoader` workers."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def describe_example(row: dict[str, Any], tokenizer: "PreTrainedTokenizerBase") -> str:
    """One response as the model sees it, for the start of a run: what is given, what is scored, what is neither."""
    label = {True: " (desirable)", False: " (undesirable)", None: ""}[row.get("label")]
    lines = [
        f"example_id {row['example_id']}{label}",
        f"  prompt, {len(row['prompt_ids'])} tokens, given: {_shown(row['prompt_ids'], tokenizer)}",
        f"  answer, {len(row['completion_ids'])} tokens, scored: {_shown(row['completion_ids'], tokenizer)}",
    ]
    if row["tail_ids"]:
        tail = tokenizer.decode(row["tail_ids"][:1])
        lines.append(f"  tail, {len(row['tail_ids'])} tokens, seen but not scored: {tail!r} each")
    if row["truncated"]:
        lines.append("  the answer was cut, so no EOS follows it")
    return "\n".join(lines)


def _shown(ids: list[int], tokenizer: "PreTrainedTokenizerBase") -> str:
    """Quoted text with special tokens; the middle of a long one is left out, since both ends matter."""
    text = str(tokenizer.decode(ids, skip_special_tokens=False))
    if len(text) > _SHOWN:
        text = f"{text[: _SHOWN // 2]} [...] {text[-_SHOWN // 2 :]}"
    return repr(text)
