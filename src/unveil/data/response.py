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
    weight: NotRequired[float]  # what the row counts in the loss


class TokenizedGroup(TypedDict):
    """Columns after `tokenize_groups`: a prompt with its K candidates. Lists are in the order of `responses`."""

    example_id: int  # that of the first response; pairs made of one list may share it
    responses: list[dict[str, Any]]  # `TokenizedResponse` without `label`
    relevance: list[float]  # larger is better; (1, 0) for a pair
    rank: NotRequired[list[int]]  # the place where each was shown, from 1
    score: NotRequired[list[float]]  # what a separate scorer says, in its own units
    position_weights: NotRequired[list[list[float]]]  # one number per scored token; absent = 1 everywhere
    steps: NotRequired[list[list[list[int]]]]  # [start, end) in scored tokens; start = end where it was cut off
    margin: NotRequired[float]
    weight: NotRequired[float]
    gap: NotRequired[float]


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


def describe_group(row: dict[str, Any], tokenizer: "PreTrainedTokenizerBase", limit: int = 4) -> str:
    """One group as the model sees it: the first `limit` candidates, each with what was said of it."""
    shown = []
    for place, response in enumerate(row["responses"][:limit]):
        said = f"relevance {row['relevance'][place]:g}"
        said += "".join(f", {name} {row[name][place]:g}" for name in ("rank", "score") if row.get(name))
        if row.get("position_weights"):
            weighted = sum(weight != 1.0 for weight in row["position_weights"][place])
            said += f", {weighted} of its tokens count other than 1"
        first, *rest = describe_example(response, tokenizer).split("\n")
        shown += [f"{first} ({said})", *(rest if place == 0 else rest[1:])]  # the prompt is the same for all
    if len(row["responses"]) > limit:
        shown.append(f"and {len(row['responses']) - limit} more")
    return "\n".join(shown)


def _shown(ids: list[int], tokenizer: "PreTrainedTokenizerBase") -> str:
    """Quoted text with special tokens; the middle of a long one is left out, since both ends matter."""
    text = str(tokenizer.decode(ids, skip_special_tokens=False))
    if len(text) > _SHOWN:
        text = f"{text[: _SHOWN // 2]} [...] {text[-_SHOWN // 2 :]}"
    return repr(text)
