"""The tables of `unveil plan`, for terminals of 100 columns."""

from typing import Any

from rich.console import Console
from rich.table import Table

from unveil.terminal import printable

WIDTH = 100
_PREFIXES = ((1e21, "ZFLOP"), (1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"))
_SHARDINGS = {"one": "one device", "ddp": "DDP x{}", "fsdp2": "FSDP2 x{}"}


def print_page(found: dict[str, Any]) -> None:
    """What `estimate` found, as tables and sentences."""
    console = Console(width=WIDTH, highlight=False)
    parts = (_heading(found), *_lengths(found), *_work(found), _published(found), *_memory(found), *_ending(found))
    for part in parts:
        console.print(part)


def _heading(found: dict[str, Any]) -> str:
    model, data, draws = found["model"], found["data"], found["draws"]
    trained = f", {_count(model['trained'])} of them trained" if model["trained"] != model["parameters"] else ""
    answers = f" with {data['answers']:,} answers" if data["answers"] != data["rows"] else ""
    heading = (
        f"{model['name']}: {model['parameters']:,} parameters{trained} ({model['method']})\n"
        f"{data['name']}: {data['rows']:,} rows{answers}; {draws['objective']}, {draws['num_draws']} draws of "
        f"{draws['design']}"
    )
    return printable(heading).replace("[", r"\[")


def _lengths(found: dict[str, Any]) -> list[Any]:
    data, draws = found["data"], found["draws"]
    table = Table("tokens", "mean", "p50", "p95", "max", "all")
    for title, name in (("prompt + answer", "tokens"), ("scored", "scored")):
        numbers = [data[name][key] for key in ("mean", "p50", "p95", "max", "total")]
        table.add_row(title, *(f"{number:,.0f}" for number in numbers))
    table.add_row("read in an epoch", "", "", "", "", f"{draws['tokens_per_epoch']:,.0f}")
    caption = (
        f"A draw hides {draws['hidden_share_of_scored']:.1%} of the scored tokens, which is "
        f"{draws['hidden_share_of_tokens']:.1%} of what is read; logits exist only there."
    )
    return [_right(table), caption]


def _work(found: dict[str, Any]) -> list[Any]:
    run = found["run"]
    size, unit = _scale(run["total_flops"])
    table = Table("pass", "body", "attention", "head", f"all ({unit})")
    for name, part in run["flops"].items():
        table.add_row(name, *(f"{part[key] / size:,.3g}" for key in ("body", "attention", "head", "total")))
    table.add_section()
    table.add_row("all", "", "", "", f"{run['total_flops'] / size:,.3g}")
    epochs = "1 epoch" if run["epochs"] == 1 else f"{run['epochs']:.3g} epochs"
    steps = f"{epochs}: {run['steps']:,} optimizer steps of {run['rows_per_step']:,} rows"
    kept = f"; pass 1 keeps the graphs of {run['kept_share']:.0%} of the tokens" if run["kept_share"] else ""
    alone = run["checkpointed_share"]
    repeated = f"; {alone:.1%} of the tokens are in rows longer than --tokens_per_batch" if alone else ""
    units = f"In all {run['units']:.2f} forward passes per row, reference included{kept}{repeated}."
    return ["", steps, _right(table), units]


def _published(found: dict[str, Any]) -> str:
    published = found["published"]
    size, unit = _scale(published["flops"])
    return (
        f"The published step, {published['draws']} draws padded to {published['length']:,} with logits everywhere and "
        f"checkpointing, would take {published['flops'] / size:,.3g} {unit} on the same rows: "
        f"{published['ratio']:.1f} times as much."
    )


def _memory(found: dict[str, Any]) -> list[Any]:
    device, run = found["device"], found["run"]
    title = f"\nGB per device at --tokens_per_batch {run['tokens_per_batch']}"
    if device["memory_gb"] is not None:
        title += f"; one {device['name']} has {device['memory_gb']:g}"
    table = Table("", "", "weights", "grads", "AdamW", "ref.", "other", "activ.", "all", "fits", "largest")
    before = None
    for one in found["memory"]:
        if before not in (None, one["method"]):
            table.add_section()
        parts = ("weights", "gradients", "optimizer", "reference", "buffers", "activations", "total")
        fits = {None: "?", True: "yes", False: "no"}[one["fits"]]
        largest = one["largest_tokens_per_batch"]
        table.add_row(
            one["method"] if one["method"] != before else "",
            _SHARDINGS[one["sharding"]].format(one["devices"]),
            *(_gb(one[part]) for part in parts),
            fits,
            "-" if largest is None else str(largest),
        )
        before = one["method"]
    caption = (
        "largest: the largest --tokens_per_batch that fits (5 % of the memory is left free). other: cast or gathered "
        "weights, gradient buckets, a chunk of logits. activ.: "
        f"{_bytes(found['activation_bytes_per_token'])} per token as the blocks run, "
        f"{_bytes(found['activation_bytes_per_token_fused'])} with fused norms."
    )
    _right(table)
    table.columns[1].justify = "left"
    return [title, table, caption, ""]


def _ending(found: dict[str, Any]) -> list[str]:
    hours, run, device = found["hours"], found["run"], found["device"]
    share = found["utilisation"]
    lines = [
        f"[bold]{_time(hours['given'])}[/bold] on {run['devices']} at {share:.0%} of {device['tflops']:g} TFLOP/s each "
        f"({_time(hours['high'])} to {_time(hours['low'])} at {min(1.25 * share, 1):.0%} to {0.75 * share:.0%})"
        + (f"; the busiest device has {run['balance'] - 1:.0%} more than the mean." if run["balance"] > 1.005 else ".")
    ]
    verdict = _verdict(found)
    lines += [verdict] if verdict else []
    if any(one["method"] == "QLoRA" for one in found["memory"]):
        lines.append("QLoRA can be planned for, but `unveil train` cannot load weights in 4 bits yet.")
    if not found["model"]["dtype_known"]:
        lines.append("config.json names no dtype: frozen weights are taken to be bfloat16.")
    lines.append(
        "Counted: matrix products of training. Not counted: evaluation, checkpoints, traffic between devices (part of "
        "the utilisation)."
    )
    return lines


def _verdict(found: dict[str, Any]) -> str | None:
    """What to change where the run as flagged does not fit."""
    count, method = found["device"]["count"], found["model"]["method"]
    mine = [one for one in found["memory"] if one["method"] == method and (one["sharding"] == "one") == (count == 1)]
    if any(one["fits"] is not False for one in mine):
        return None
    smaller = [one for one in mine if one["largest_tokens_per_batch"]]
    if smaller:
        best = max(one["largest_tokens_per_batch"] for one in smaller)
        return f"[bold]The run does not fit[/bold]; with --tokens_per_batch {best} it would."
    others = [one for one in found["memory"] if one["fits"] or one["largest_tokens_per_batch"]]
    names = [f"{one['method']} on {_SHARDINGS[one['sharding']].format(one['devices'])}" for one in others]
    if not names:
        return "[bold]The run does not fit[/bold], and none of the other ways does."
    return f"[bold]The run does not fit[/bold]. What would: {', '.join(names)}."


def _right(table: Table) -> Table:
    """Numbers to the right."""
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _gb(size: float) -> str:
    gigabytes = size / 1e9
    return "" if size == 0 else f"{gigabytes:.1f}" if gigabytes >= 0.05 else f"{gigabytes:.1g}"


def _bytes(size: float) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def _count(number: int) -> str:
    return f"{number / 1e6:,.1f} M" if number >= 1e6 else f"{number:,}"


def _scale(flops: float) -> tuple[float, str]:
    return next(((size, name) for size, name in _PREFIXES if flops >= size), _PREFIXES[-1])


def _time(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.1f} hours"
    return f"{60 * hours:.1f} minutes" if hours >= 1 / 60 else f"{3600 * hours:.2g} seconds"
