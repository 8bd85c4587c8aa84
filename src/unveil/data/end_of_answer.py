"""What happens at the end of an answer: which tokens are scored, and which are only seen.

A masked diffusion model answers on a canvas whose unused tail is EOS, so "the likelihood of an answer" needs a
convention about that tail. The rules define different conditionals; their values in nats are not comparable.

    rule              scored                     visible, never scored     where it comes from
    one_eos           answer + one EOS           nothing                   default: the end is learned once
    none              answer                     nothing                   packed, no tail (VRPO-like)
    visible_tail      answer                     EOS up to the canvas      ELBO-KTO as published
    eos_visible_tail  answer + one EOS           EOS up to the canvas
    scored_tail       answer + EOS up to canvas  nothing                   SFT of LLaDA (arXiv 2502.09992)

The canvas is counted in response tokens. An answer that does not fit is cut, and gets no EOS of any kind: the text
did not end there.
"""

from collections.abc import Sequence
from typing import Literal, get_args

from unveil.errors import UserError

EndOfAnswer = Literal["one_eos", "none", "visible_tail", "eos_visible_tail", "scored_tail"]

RULES: tuple[str, ...] = get_args(EndOfAnswer)
RULES_WITH_CANVAS = ("visible_tail", "eos_visible_tail", "scored_tail")
RULES_SCORING_EOS = ("one_eos", "eos_visible_tail", "scored_tail")


def finish_answer(
    ids: Sequence[int], eos_id: int | None, rule: EndOfAnswer, canvas_length: int | None, room: int
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
    if rule not in RULES:
        raise UserError(f"--end_of_answer {rule}: unknown rule; use one of {', '.join(RULES)}")
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
