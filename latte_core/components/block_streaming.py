"""A network whose blocks wait in main memory and come to the device by turns, by diffusers' hooks.

Needs as much device memory as a few blocks. The weights are the same, and so are the results.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def stream_blocks(module: nn.Module, device: str) -> None:
    """Let every entry of the module's ModuleLists come to `device` for its own forward only.

    On CUDA the next one is copied on a second stream meanwhile, from pinned memory.
    """
    from diffusers.hooks.group_offloading import apply_group_offloading

    apply_group_offloading(
        module,
        onload_device=device,
        offload_device="cpu",
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.startswith("cuda"),
        low_cpu_mem_usage=True,  # pins a block when it is copied, not all of them twice
    )


def unstream_blocks(module: nn.Module) -> None:
    """Take the hooks off again; the weights stay in main memory."""
    for part in module.modules():
        registry: Any = getattr(part, "_diffusers_hook", None)
        for name in [*registry.hooks] if registry is not None else []:
            registry.remove_hook(name, recurse=False)
    module.to("cpu")
