"""The numbers of `unveil plan`: the run's flags, a network without weights and the data's lengths, put together."""

import functools
from dataclasses import dataclass, replace
from typing import Any

import torch

from unveil.cli.loading import read_tokenizer
from unveil.cli.options import ModelArguments
from unveil.cli.train import TrainScriptArguments, read_feedback, read_replay
from unveil.errors import UserError
from unveil.models import Denoiser, LLaDAConfig, LLaDAModelLM, check_tokenizer, load_config, settle_mask_token
from unveil.models.adapters import adapter_config
from unveil.models.loading import dtype_named
from unveil.models.lora_targets import read_targets
from unveil.models.weight_files import is_adapter
from unveil.planning import (
    NOTHING,
    Adapters,
    Answers,
    Batching,
    Devices,
    Fit,
    Method,
    Passes,
    Precision,
    Rows,
    Schedule,
    Shape,
    Work,
    fit,
    forward,
    fused_bytes_per_token,
    hours,
    largest_device_batch,
    play,
    published_flops,
    quantiles,
    run_flops,
    saved_bytes_per_token,
    steps_of,
)
from unveil.training import PreferenceConfig, objective_of, tokenize
from unveil.training.preference_metrics import averages_margins

PUBLISHED_DRAWS, PUBLISHED_LENGTH = 8, 4096
SHARDED_OVER = 8
"""Devices that DDP and FSDP2 are told for where --gpus names one."""
STEPS_PER_BUDGET = 10


@dataclass
class PlanConfig(PreferenceConfig):
    """What `unveil train` takes, but for machines that are not this one."""

    def __post_init__(self) -> None:
        """`bf16` stays as given: whether this machine could do it does not matter."""
        given, self.bf16 = self.bf16, False
        super().__post_init__()
        self.bf16 = given


def estimate(
    model_args: ModelArguments,
    script: TrainScriptArguments,
    args: PlanConfig,
    on: Devices,
    utilisation: float,
    load_in_4bit: bool = False,
) -> dict[str, Any]:
    """Everything that is printed, as numbers: tokens, FLOP, bytes, hours."""
    objective = objective_of(args)
    denoiser, tokenizer = _without_weights(model_args)
    config: Any = denoiser.model.config
    shape = Shape.of(config)

    def counted(rows: Any, source: str | None) -> Answers:
        return Answers.of(tokenize(rows, tokenizer, denoiser, args, str(source)))

    held_out_name = script.dataset_name if script.eval_size is not None else None
    feedback, _ = read_feedback(script, args, objective, held_out_name)
    answers = counted(feedback, script.dataset_name)
    replay = read_replay(script, args)
    replayed = None if replay is None else counted(replay, script.replay_dataset_name)

    sample = answers.some(seed=args.seed)
    rows, first = (_drawn(sample, args, draws) for draws in (args.num_draws, args.num_draws_weight or args.num_draws))
    keeps = args.num_draws_weight in (None, args.num_draws)

    @functools.cache
    def cut(budget: int, count: int, most_steps: int = STEPS_PER_BUDGET) -> Schedule:
        return play(sample, rows, _batching(args, count, budget, keeps), args.seed, most_steps)

    batching = replace(
        _batching(args, on.count, args.tokens_per_batch, keeps), lone_row_joins=averages_margins(objective)
    )
    steps, epochs = steps_of(answers.rows, args.num_train_epochs, args.max_steps, batching)
    schedule = cut(args.tokens_per_batch, on.count, 5 * STEPS_PER_BUDGET)
    scale = len(answers) / len(sample) * answers.tokens.mean() / sample.tokens.mean()
    passes = Passes(
        first=first.work.times(scale),
        second=rows.work.times(scale),
        epochs=epochs,
        reference_epochs=_reference_epochs(args, objective.needs_reference, epochs),
        row_budget=args.row_budget,
        checkpointing=bool(args.gradient_checkpointing),
        replay=_replay_work(replayed, args, steps),
    )
    methods = _methods(model_args, script, args, config, on, objective.needs_reference)
    chosen = methods["QLoRA" if load_in_4bit else "LoRA" if model_args.use_peft else "full"]
    flops = run_flops(shape, passes, schedule, chosen.adapters)
    total = sum(part.total for part in flops.values())
    length = min(denoiser.max_length or PUBLISHED_LENGTH, PUBLISHED_LENGTH)
    published = published_flops(
        shape, len(answers), length, PUBLISHED_DRAWS, epochs, passes.reference_epochs, chosen.adapters
    )
    share = rows.work.hidden / rows.work.tokens
    largest_batch = largest_device_batch(sample, rows, args.per_device_train_batch_size)
    fits = [
        fit(shape, method, sharding, count, on.usable, args.tokens_per_batch, cut, largest_batch, share,
            bool(args.gradient_checkpointing))
        for method in methods.values()
        for sharding, count in _shardings(on)
    ]  # fmt: skip
    return {
        "model": {
            "name": model_args.model_name_or_path,
            "parameters": shape.parameters,
            "trained": chosen.adapters.parameters(shape) if chosen.adapters else shape.parameters,
            "method": chosen.name,
            "can_be_trained": not chosen.quantised,
            "weights_bytes": chosen.precision.weights,
            "autocast": chosen.precision.autocast,
            "dtype_known": model_args.dtype is not None or not chosen.adapters or config.dtype is not None,
        },
        "data": {
            "name": script.dataset_name,
            "rows": answers.rows,
            "answers": len(answers),
            "tokens": quantiles(answers.tokens),
            "scored": quantiles(answers.scored),
            "draws_simulated_on": len(sample),
        },
        "draws": {
            "objective": args.objective,
            "design": args.draw_design,
            "num_draws": args.num_draws,
            "rows_per_answer": len(rows.tokens) / len(sample),
            "hidden_share_of_scored": float(rows.hidden.sum() / sample.scored[rows.answers].sum()),
            "hidden_share_of_tokens": share,
            "tokens_per_epoch": passes.second.tokens,
        },
        "run": {
            "devices": str(on),
            "steps": steps,
            "epochs": epochs,
            "rows_per_step": _batching(args, on.count, args.tokens_per_batch, keeps).rows,
            "tokens_per_batch": args.tokens_per_batch,
            "packed_tokens": schedule.packed_tokens,
            "largest_tokens": schedule.largest_tokens,
            "live_tokens": schedule.live_tokens,
            "longest_alone": schedule.longest_alone,
            "kept_share": schedule.kept.tokens,
            "checkpointed_share": schedule.checkpointed.tokens,
            "balance": schedule.balance,
            "flops": {name: {**part._asdict(), "total": part.total} for name, part in flops.items()},
            "total_flops": total,
            "units": _units(shape, flops, passes, chosen.adapters),
        },
        "published": {
            "length": length,
            "draws": PUBLISHED_DRAWS,
            "flops": published,
            "ratio": published / total,
        },
        "hours": hours(total, on, utilisation, schedule.balance),
        "utilisation": utilisation,
        "device": on._asdict(),
        "activation_bytes_per_token": saved_bytes_per_token(shape, chosen, share),
        "activation_bytes_per_token_fused": fused_bytes_per_token(shape, chosen.precision),
        "memory": [_memory_record(one) for one in fits],
    }


def _without_weights(model_args: ModelArguments) -> tuple[Denoiser, Any]:
    """The denoiser of a network that holds no numbers, and the tokenizer, checked as training checks them."""
    name = str(model_args.model_name_or_path)
    config = load_config(name, model_args.model_revision)
    if not isinstance(config, LLaDAConfig):
        raise UserError(f"{name}: model_type {config.model_type!r} cannot be planned for yet; llada can")
    tokenizer = read_tokenizer(model_args, name)
    with torch.device("meta"):
        model = LLaDAModelLM(config)
    settle_mask_token(model, tokenizer, model_args.mask_token_id)
    check_tokenizer(tokenizer, model)
    return Denoiser(model), tokenizer


def _drawn(answers: Answers, args: PlanConfig, num_draws: int) -> Rows:
    """Rows of the first epoch, as training draws them."""
    return Rows.drawn(answers, lambda name, length: args.plan_of(name, 0, length, num_draws))


def _batching(args: PlanConfig, count: int, budget: int, keeps: bool) -> Batching:
    """Graphs are kept on one device only, see `SurrogateTrainer.tokens_to_keep`."""
    kept = budget if args.kept_tokens is None else args.kept_tokens
    if count > 1 or args.gradient_checkpointing or not args.disable_dropout or not keeps:
        kept = 0
    return Batching(
        args.per_device_train_batch_size, args.gradient_accumulation_steps, count, budget, kept,
        bool(args.dataloader_drop_last),
    )  # fmt: skip


def _reference_epochs(args: PlanConfig, needed: bool, epochs: float) -> float:
    """How often every row meets the reference."""
    if not needed:
        return 0.0
    if not args.precompute_ref_log_probs:
        return epochs
    return float(-(-epochs // 1)) if args.draws == "fresh" else 1.0


def _replay_work(replayed: Answers | None, args: PlanConfig, steps: int) -> Work:
    """Of all steps: rows chosen at random."""
    if replayed is None:
        return NOTHING
    sample = replayed.some(seed=args.seed)
    rows = _drawn(sample, args, args.replay_num_draws)
    return rows.work.times(steps * args.replay_batch_size / len(sample))


def _methods(
    model_args: ModelArguments,
    script: TrainScriptArguments,
    args: PlanConfig,
    config: LLaDAConfig,
    on: Devices,
    needs_reference: bool,
) -> dict[str, Method]:
    """Full, LoRA and QLoRA with the run's flags; 4-bit matrices need a GPU."""
    autocast = args.bf16 if args.bf16 is not None else on.name != "cpu"
    own = model_args.dtype if model_args.dtype != "auto" else None
    own_bytes = dtype_named(own or config.dtype or "bfloat16").itemsize
    full_bytes = own_bytes if model_args.dtype == "auto" else dtype_named(own or "float32").itemsize
    rank, targets = _adapters_of(model_args)
    adapters = Adapters.on(Shape.of(config), rank, targets)
    if not adapters.head and not any(adapters.blocks):
        raise UserError(f"--lora_target_modules {model_args.lora_target_modules}: matches no linear layer of the model")
    kept = needs_reference and not args.precompute_ref_log_probs
    other = kept and script.ref_model_name_or_path is not None
    optimizer = 2 if "8bit" in str(args.optim) else 8
    found = {
        "full": Method("full", Precision(full_bytes, autocast), None, False, kept, optimizer),
        "LoRA": Method("LoRA", Precision(own_bytes, autocast), adapters, False, other, optimizer),
        "QLoRA": Method("QLoRA", Precision(own_bytes, autocast), adapters, True, other, optimizer),
    }
    if on.name == "cpu":
        del found["QLoRA"]
    return found


def _adapters_of(model_args: ModelArguments) -> tuple[int, list[str] | str | None]:
    """Rank and targets: of the flags, or of the adapters that go on being trained."""
    name = str(model_args.model_name_or_path)
    if not (model_args.use_peft and is_adapter(name)):
        return model_args.lora_r, read_targets(model_args.lora_target_modules)
    config: Any = adapter_config(name)
    targets = config.target_modules
    return config.r, targets if isinstance(targets, str) else sorted(targets)


def _shardings(on: Devices) -> list[tuple[str, int]]:
    if on.name == "cpu":
        return [("one", 1)]
    count = on.count if on.count > 1 else SHARDED_OVER
    return [("one", 1), ("ddp", count), ("fsdp2", count)]


def _units(shape: Shape, flops: dict[str, Any], passes: Passes, adapters: Adapters | None) -> float:
    """All passes but replay, in forward passes of the base model over the rows of pass 2."""
    one = forward(shape, passes.second).total * passes.epochs
    return sum(part.total for name, part in flops.items() if name != "replay") / one


def _memory_record(one: Fit) -> dict[str, Any]:
    return {
        "method": one.method,
        "sharding": one.sharding,
        "devices": one.devices,
        **one.memory._asdict(),
        "total": one.memory.total,
        "fits": one.fits,
        "largest_tokens_per_batch": one.largest_tokens_per_batch,
    }
