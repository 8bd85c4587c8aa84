"""Answers under other prompts, for TRL's estimate of KL (`--baseline trl_kl`).

Every prompt has one other: the next distinct one in the order of the data, after the last the first. So the estimate
depends neither on the batch that an answer is in nor on the number of processes, and no answer meets its own prompt.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unveil.errors import UserError
from unveil.likelihood import Response
from unveil.objectives import KTO, ExpectationOutside, Jackknife, Objective, WeightedSum
from unveil.training.config import PreferenceConfig
from unveil.training.micro_batch import responses_of

OtherPrompts = Mapping[tuple[int, ...], tuple[int, ...]]


def needs_mismatched(objective: Objective) -> bool:
    """Whether margins of answers under other prompts are asked for."""
    if isinstance(objective, WeightedSum):
        return any(needs_mismatched(term) for _, term in objective.terms)
    if isinstance(objective, ExpectationOutside | Jackknife):
        return needs_mismatched(objective.objective)
    return isinstance(objective, KTO) and objective.baseline == "trl_kl"


def refuse_values_of_other_prompts(objective: Objective, args: PreferenceConfig) -> None:
    """Values computed beforehand are of answers under their own prompts.

    Raises:
        UserError: TRL's KL estimate is asked for, and the reference is not live.
    """
    if needs_mismatched(objective) and (args.precompute_ref_log_probs or args.ref_cache):
        flag = "--ref_cache" if args.ref_cache else "--precompute_ref_log_probs"
        raise UserError(
            f"{flag}: --baseline trl_kl scores answers under other prompts too, and values are kept of answers under "
            "their own; leave one of them out"
        )


def other_prompts_of(
    objective: Objective,
    rows: Iterable[dict[str, Any]],
    flag: str = "--eval_dataset_name",
    more: Iterable[tuple[int, ...]] = (),
) -> OtherPrompts:
    """Map the tokens of every prompt to those of another one; empty if the objective does not ask.

    Args:
        objective: of the run.
        rows: tokenised rows.
        flag: where they come from, for the error.
        more: prompts to take one from where all rows have the same.

    Raises:
        UserError: there is no other prompt.
    """
    if not needs_mismatched(objective):
        return {}
    prompts = list(dict.fromkeys(tuple(one.prompt_ids) for row in rows for one in responses_of(row)))
    if len(prompts) == 1:
        prompts += next(([other] for other in more if other != prompts[0]), [])
    if len(prompts) < 2:
        raise UserError(
            f"{flag}: all rows have one prompt, and --baseline trl_kl scores answers under another one; give "
            "--baseline kl, which needs none"
        )
    return dict(zip(prompts, prompts[1:] + prompts[:1]))


def moved(responses: Sequence[Response], others: OtherPrompts, longest: int | None) -> list[dict[str, Any]]:
    """The answers as rows under their other prompts, whose beginning is cut where it would not fit."""
    rows = []
    for response in responses:
        prompt = list(others[tuple(response.prompt_ids)])
        if longest is not None:
            keep = max(0, longest - response.length - len(response.tail_ids))
            prompt = prompt[len(prompt) - min(len(prompt), keep) :]
        rows.append(
            {
                "example_id": response.example_id,
                "prompt_ids": prompt,
                "completion_ids": response.completion_ids,
                "tail_ids": response.tail_ids,
            }
        )
    return rows
