"""One process, several with whole copies of the model (DDP), or several with shards (FSDP2)."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import torch

from latte_core.errors import ConfigError
from latte_core.training.one_process import OneProcess

if TYPE_CHECKING:
    from accelerate import Accelerator

Strategy = Literal["ddp", "fsdp2"]
WRAPPED = ["Block"]  # the class whose weights are gathered and freed together under FSDP2
NOTHING_TO_SHARD = (
    "strategy is 'fsdp2', which shards the model over several processes, and this is one: start it "
    "with torchrun --nproc_per_node 2 or more, or take 'ddp'."
)


def make_accelerator(
    cpu: bool, precision: Literal["fp32", "bf16"], accumulate: int, strategy: Strategy
) -> Accelerator | OneProcess:
    """The accelerator of a run: accelerate's, or where that is missing one process's own.

    Raises ConfigError for fsdp2 on one process, and for several processes without accelerate.
    """
    if find_spec("accelerate") is None:
        _check_alone(strategy)
        return OneProcess(cpu, precision, accumulate)
    from accelerate import Accelerator, DistributedDataParallelKwargs

    _forget_earlier_run()
    plugin = _fsdp2_plugin() if strategy == "fsdp2" else None
    accelerator = Accelerator(
        cpu=cpu or not torch.cuda.is_available(),
        mixed_precision="bf16" if precision == "bf16" else "no",
        gradient_accumulation_steps=accumulate,
        fsdp_plugin=plugin,
        # A batch of stills leaves the time blocks without a gradient.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if plugin is not None:
        if accelerator.num_processes < 2:
            raise ConfigError(NOTHING_TO_SHARD)
        _shard(accelerator, plugin)
    return accelerator


def _check_alone(strategy: Strategy) -> None:
    """Refuse what needs accelerate."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        raise ConfigError(
            f"This is one of {world} processes, which share a run by means of accelerate, and that "
            "is not installed: pip install accelerate, or start one process without torchrun."
        )
    if strategy == "fsdp2":
        raise ConfigError(NOTHING_TO_SHARD)


def _forget_earlier_run() -> None:
    """Clear accelerate's one state per process, which refuses another precision or strategy."""
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType

    if AcceleratorState._shared_state:
        sharded = AcceleratorState._shared_state["distributed_type"] == DistributedType.FSDP
        AcceleratorState._reset_state(reset_partial_state=sharded)


def _fsdp2_plugin() -> Any:
    """How accelerate shards: block by block, checkpoints in shards."""
    from accelerate import FullyShardedDataParallelPlugin

    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=WRAPPED,
        cpu_ram_efficient_loading=False,
        state_dict_type="SHARDED_STATE_DICT",
    )


def _shard(accelerator: Accelerator, plugin: Any) -> None:
    """Choose FSDP2 on CPUs too: accelerate leaves them to DDP, but its code runs when told to."""
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    if accelerator.distributed_type == DistributedType.FSDP:
        return
    if accelerator.mixed_precision != "no":
        plugin.set_mixed_precision(accelerator.mixed_precision)
    accelerator.state.distributed_type = DistributedType.FSDP
    PartialState._shared_state["distributed_type"] = DistributedType.FSDP
    accelerator.state.fsdp_plugin = plugin
