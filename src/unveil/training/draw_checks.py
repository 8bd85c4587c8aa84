"""How many draws pass 1, evaluation and replay may ask for: told before training, of the flag that asks."""

from typing import TYPE_CHECKING, Any

from unveil.draws import DESIGNS, check_design
from unveil.errors import UserError
from unveil.likelihood import check_combiner
from unveil.objectives import Objective

if TYPE_CHECKING:
    from unveil.training.draw_config import DrawConfig


def masks_per_size(args: "DrawConfig", num_draws: int) -> int:
    """Masks that share a size where so many are drawn: `--masks_per_size` if the draws divide by it, else 1."""
    unit = max(1, DESIGNS[args.draw_design].draws_per_unit)
    return args.masks_per_size if num_draws % (unit * args.masks_per_size) == 0 else 1


def check_count(args: "DrawConfig", flag: str) -> None:
    """Refuse a number of draws beside `--num_draws` that the design or the combiner cannot serve.

    Raises:
        UserError: naming `flag` and what would serve.
    """
    count: int | None = getattr(args, flag)
    if count is None:
        return
    if count < 1:
        raise UserError(f"--{flag} {count}: at least 1 is needed; leave it out for the usual number")
    masks = masks_per_size(args, count)
    try:
        check_design(args.draw_design, count, masks, args.strata_exponent, args.size_exponent)
        check_combiner(args.combiner, args.draw_design, count, masks)
    except UserError as error:  # told of the flag that all draws have in common
        raise UserError(str(error).replace("--num_draws", f"--{flag}")) from None


def refuse_other_draws_in_pass_1(objective: Objective, args: Any) -> None:
    """What works draw by draw weighs the very draws that pass 2 back-propagates.

    Raises:
        UserError: pass 1 would have another number of draws.
    """
    if not objective.per_draw or args.num_draws_weight in (None, args.num_draws):
        return
    what = "--debias jackknife" if args.debias == "jackknife" else f"--objective {args.objective}"
    raise UserError(
        f"--num_draws_weight {args.num_draws_weight}: {what} weighs every draw by itself, so that both passes have the "
        f"same {args.num_draws} (--num_draws); leave it out, or raise --num_draws"
    )
