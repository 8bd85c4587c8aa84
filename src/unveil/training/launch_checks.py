"""Refuse a launch that is not what was asked for: fewer processes, nothing sharded, batches shared out elsewhere."""

import os
from collections.abc import Mapping
from typing import Any

from unveil.errors import UserError
from unveil.one_voice import processes_of

_BY_HAND = "`torchrun --nproc_per_node N -m unveil.cli.main ... --use_cpu --ddp_backend gloo`"


def check_launch(args: Any, environment: Mapping[str, str] = os.environ) -> None:
    """Hold what the launcher was asked for against what accelerate made of it.

    Args:
        args: made arguments of transformers, which know the processes.
        environment: variables by which launchers speak.

    Raises:
        UserError: one process where several were asked for, or weights that would not be sharded.
    """
    device, size = args.device.type, args.world_size  # the first use settles the processes
    told = processes_of(environment)
    if told and told != size:
        raise UserError(
            f"{told} processes were started, and each would train by itself; start them with {_BY_HAND} or "
            "`accelerate launch --multi_gpu`"
        )
    # `accelerate launch --cpu` names a meeting point for its processes, and starts one.
    if size == 1 and not told and "ACCELERATE_MIXED_PRECISION" in environment and "MASTER_ADDR" in environment:
        raise UserError(
            "accelerate launch --cpu: starts one process, whatever --num_processes says, so each step would have fewer "
            f"rows than was meant; start them with {_BY_HAND}, or give --num_processes 1 (accelerate's own traceback "
            "follows unless it is given --quiet)"
        )
    if args.distributed_state is not None and args.distributed_state.distributed_type.name in ("NO", "MULTI_CPU"):
        for flag, asked in (("--fsdp", "ACCELERATE_USE_FSDP"), ("--deepspeed", "ACCELERATE_USE_DEEPSPEED")):
            if getattr(args, flag[2:]) or environment.get(asked, "").lower() == "true":
                raise UserError(
                    f"{flag}: shards over several GPUs, and here {_found(size, device)}, so nothing would be sharded; "
                    "leave it out, or start one process per GPU with `accelerate launch`"
                )


def _found(size: int, device: str) -> str:
    return (
        f"{size} process{'es' if size > 1 else ''} on {'the CPU' if device == 'cpu' else device} run{'s' * (size == 1)}"
    )


def check_sharing(args: Any) -> None:
    """Rows are shared out in one way (`unveil.training.shared_batches`).

    Raises:
        UserError: accelerate is asked to do it in another way.
    """
    for name in ("split_batches", "dispatch_batches"):
        if getattr(args.accelerator_config, name, None):
            raise UserError(
                f"--accelerator_config {name}: cuts padded batches, and here every process takes its share of the rows "
                "by itself; leave it out"
            )
