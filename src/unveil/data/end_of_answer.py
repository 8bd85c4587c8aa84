"""What happens at the end of an answer: which tokens are scored, and which are only seen.

A masked diffusion model answers on a canvas whose unused tail is EOS, so "the likelihood of an answer" needs a
convention about that tail. The rules define different conditionals; their values in nats are not comparable.

    rule              scored                     visible, never scored     where it comes from
    one_eos           answer + one EOS           nothing                   default: the end is learned once
    end_of_turn       answer + end of turn       nothing                   the chat template's own end of a turn
    none              answer                     nothing                   packed, no tail (VRPO-like)
    visible_tail      answer                     EOS up to the canvas      ELBO-KTO as published
    eos_visible_tail  answer + one EOS           EOS up to the canvas
    scored_tail       answer + EOS up to canvas  nothing                   SFT of LLaDA (arXiv 2502.09992)

The canvas is counted in response tokens. An answer that does not fit is cut, and gets no EOS of any kind: the text
did not end there. Under end_of_turn the token of the template (`<|eot_id|>` of LLaDA's chats) takes the place of EOS:
where a template ends turns with a token of its own, a model that was tuned on it ends answers with that token, and EOS
fills what is left of the canvas. Sampling then stops at that token too (`unveil generate --end_of_answer`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from unveil.errors import UserError
from unveil.time_limit import SECONDS_OF_A_TEMPLATE, time_limit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Rule = Literal["one_eos", "none", "visible_tail", "eos_visible_tail", "scored_tail"]
EndOfAnswer = Literal[Rule, "end_of_turn"]
"""`end_of_turn` is `one_eos` with another token."""

RULES: tuple[str, ...] = get_args(Rule)
CHOICES = (*RULES, "end_of_turn")
RULES_WITH_CANVAS = ("visible_tail", "eos_visible_tail", "scored_tail")
RULES_SCORING_EOS = ("one_eos", "eos_visible_tail", "scored_tail")


def finish_answer(
    ids: Sequence[int], eos_id: int | None, rule: Rule, canvas_length: int | None, room: int
) -> tuple[list[int], list[int], bool]:
    """(completion_ids, tail_ids, truncated): the scored tokens, the visible ones after them, and whether it was cut.

    `ids` are the answer's tokens without EOS; EOS tokens at their end are taken off first, since the rule decides
    about them. `room` is the number of tokens that the context has left after the prompt; `canvas_length` the
    response tokens of the canvas, `None` for all of the room. `truncated` is true when the answer, or the EOS that
    the rule scores, did not fit. `eos_id` may be `None` for the rule "none" only.
    """
    check_rule(rule, eos_id)
    answer = list(ids)
    while answer and answer[-1] == eos_id:
        answer.pop()
    limit = max(room if canvas_length is None else min(room, canvas_length), 0)
    scored_eos = rule in RULES_SCORING_EOS
    if len(answer) + scored_eos > limit:
        return answer[:limit], [], True
    if eos_id is None or rule == "none":
        return answer, [], False
    if rule == "scored_tail":
        return answer + [eos_id] * (limit - len(answer)), [], False
    if scored_eos:
        answer = [*answer, eos_id]
    tail = limit - len(answer) if rule in RULES_WITH_CANVAS else 0
    return answer, [eos_id] * tail, False


def check_rule(rule: str, eos_id: int | None, canvas_length: int | None = None) -> None:
    """Raise `UserError` for an unknown rule, a rule without the EOS it needs, or a canvas that it would ignore."""
    if rule not in CHOICES:
        raise UserError(f"--end_of_answer {rule}: unknown rule; use one of {', '.join(CHOICES)}")
    if eos_id is None and rule != "none":
        raise UserError(
            f"--end_of_answer {rule}: the tokenizer has no EOS token; give one to the tokenizer, or use the rule none"
        )
    if canvas_length is not None and rule not in RULES_WITH_CANVAS:
        raise UserError(
            f"--canvas_length {canvas_length}: has no meaning with --end_of_answer {rule}; leave it out, or use one "
            f"of {', '.join(RULES_WITH_CANVAS)}"
        )
    if canvas_length is not None and canvas_length < 1:
        raise UserError(f"--canvas_length {canvas_length}: no room for an answer; give at least 1")


def end_of_turn_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    """Id of the token that the chat template writes after an assistant's answer.

    Raises `UserError` where there is no template, or where text and no token of its own follows the answer.
    """
    where = "--end_of_answer end_of_turn"
    if not tokenizer.chat_template:
        raise UserError(f"{where}: the tokenizer has no chat template; give one with --chat_template_path, or one_eos")
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _ANSWER}]
    try:
        with time_limit(SECONDS_OF_A_TEMPLATE):
            text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except Exception as error:  # a template is a program of its own
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{where}: the chat template refuses a turn ({reason}); use one_eos") from error
    after = text.rpartition(_ANSWER)[2].lstrip()
    known: Any = tokenizer
    tokens = {token: number for token, number in known.get_added_vocab().items() if after.startswith(token)}
    if not tokens:
        raise UserError(f"{where}: the chat template ends a turn with no token of its own; use one_eos")
    return tokens[max(tokens, key=len)]


_ANSWER = "the answer of unveil"
