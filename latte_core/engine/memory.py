"""Where the parts of a model live: free memory, and the policies that move parts about.

A policy is asked for a part (`with policy.using("vae") as vae`) and sees to it that the part is
on its device inside the block, and gone again after it, whatever happens in between.
"""

from __future__ import annotations

import gc
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import torch

from latte_core.components.block_streaming import stream_blocks, unstream_blocks
from latte_core.engine.plans import GIB, Plan
from latte_core.engine.precision import Device

CGROUP = Path("/sys/fs/cgroup")
CPUINFO = Path("/proc/cpuinfo")


class MemoryPolicy(Protocol):
    """Puts parts onto their devices and takes them off."""

    def using(self, name: str) -> Any:
        """A context manager that yields the module `name`, ready on its device."""

    def release(self) -> None:
        """Undo everything: no hook stays on a module."""


class Resident:
    """All parts are put onto their devices once and stay there."""

    def __init__(self, modules: Mapping[str, torch.nn.Module], devices: Mapping[str, str]) -> None:
        self._modules = dict(modules)
        for name, module in self._modules.items():
            if not is_packed(module):
                module.to(devices[name])

    @contextmanager
    def using(self, name: str) -> Iterator[torch.nn.Module]:
        """The module as it is."""
        yield self._modules[name]

    def release(self) -> None:
        """Nothing to undo."""


class Offload:
    """Parts wait in main memory and are moved to their device for the time of a block.

    The moving is done by accelerate's hooks. Modules with packed 8- or 4-bit weights are left
    where they were loaded: moving them after a forward would damage them.
    """

    def __init__(self, modules: Mapping[str, torch.nn.Module], devices: Mapping[str, str]) -> None:
        from accelerate import cpu_offload_with_hook

        self._modules = dict(modules)
        self._hooks: dict[str, Any] = {}
        for name, module in self._modules.items():
            if not is_packed(module):
                _, hook = cpu_offload_with_hook(module, execution_device=devices[name])
                self._hooks[name] = hook

    @contextmanager
    def using(self, name: str) -> Iterator[torch.nn.Module]:
        """The module on its device; back in main memory afterwards, also after an error."""
        module, hook = self._modules[name], self._hooks.get(name)
        try:
            if hook is not None:
                hook.hook.pre_forward(module)
            yield module
        finally:
            if hook is not None:
                hook.offload()
            empty_cache()

    def release(self) -> None:
        """Take the hooks off; the parts stay in main memory."""
        for hook in self._hooks.values():
            hook.remove()
        self._hooks.clear()


class Streamed:
    """As Offload, but a transformer comes in block by block while it runs, by diffusers' hooks.

    On CUDA the next block is copied on a stream of its own while the present one computes.
    """

    def __init__(self, modules: Mapping[str, torch.nn.Module], devices: Mapping[str, str]) -> None:
        self._streamed = {name: m for name, m in modules.items() if hasattr(m, "blocks")}
        rest = {name: m for name, m in modules.items() if name not in self._streamed}
        self._rest = Offload(rest, devices)
        for name, module in self._streamed.items():
            stream_blocks(module, devices[name])

    @contextmanager
    def using(self, name: str) -> Iterator[torch.nn.Module]:
        """The module, whose blocks come and go by themselves if it has any."""
        if name not in self._streamed:
            with self._rest.using(name) as module:
                yield module
            return
        try:
            yield self._streamed[name]
        finally:
            empty_cache()

    def release(self) -> None:
        """Take the hooks off; the parts stay in main memory."""
        self._rest.release()
        for module in self._streamed.values():
            unstream_blocks(module)


POLICIES: dict[str, type[Resident] | type[Offload] | type[Streamed]] = {
    "resident": Resident,
    "offload": Offload,
    "streamed": Streamed,
}


def make_policy(plan: Plan, modules: Mapping[str, torch.nn.Module]) -> MemoryPolicy:
    """The policy that carries out `plan` for these modules."""
    devices = {
        name: plan.text_device if name == "text_encoder" else plan.device for name in modules
    }
    kind = "streamed" if plan.streamed else "offload" if plan.offload else "resident"
    return POLICIES[kind](modules, devices)


def to_main_memory(modules: Mapping[str, torch.nn.Module]) -> None:
    """Move all parts off their devices; packed ones stay where they were loaded."""
    for module in modules.values():
        if not is_packed(module):
            module.to("cpu")


def is_packed(module: torch.nn.Module) -> bool:
    """Whether bitsandbytes holds this module's weights in 8 or 4 bits."""
    return bool(getattr(module, "is_loaded_in_8bit", False)) or bool(
        getattr(module, "is_loaded_in_4bit", False)
    )


class MemoryMeter:
    """What one run takes on a device; `sample` is to be called while it goes on.

    CUDA keeps its own peak; elsewhere the peak is that of the samples. On the CPU the memory is
    the process's own.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self._before = self._peak = _used_bytes(device)

    def sample(self) -> None:
        """Note what is in use now."""
        self._peak = max(self._peak, _used_bytes(self._device))

    def gib(self) -> dict[str, float]:
        """`before`, `peak` and `after`, which is now, in GiB."""
        after = _used_bytes(self._device)
        peak = max(self._peak, after)
        if self._device == "cuda":
            peak = max(peak, torch.cuda.max_memory_allocated())
        return {"before": self._before / GIB, "peak": peak / GIB, "after": after / GIB}


def free_memory() -> dict[Device, int]:
    """Free bytes of every device of this machine."""
    free: dict[Device, int] = {"cpu": _free_host_bytes()}
    if torch.cuda.is_available():
        free["cuda"] = torch.cuda.mem_get_info()[0]
    if torch.backends.mps.is_available():
        free["mps"] = int(0.7 * free["cpu"])  # what macOS lets the GPU hold of its memory
    return free


def cpu_bf16_pays() -> bool:
    """Whether the CPU multiplies bf16 faster than fp32, which is more than that it can.

    AMX does. Of AVX512-BF16 a core by AMD multiplies twice as many as of fp32 (products of 1024 x
    1024: 1.7 times as fast on an EPYC), one by Intel no more (0.53 times on a Xeon whose AMX the
    virtual machine hides).
    """
    support = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    amx = getattr(torch.cpu, "_is_amx_tile_supported", None)
    if amx is not None and amx():
        return True
    vendor = said_of_cpu("vendor_id", CPUINFO) or platform.processor()
    return support is not None and bool(support()) and "GenuineIntel" not in vendor


@cache
def said_of_cpu(name: str, path: Path = CPUINFO) -> str:
    """What Linux says of the first processor under a name ("model name"); elsewhere nothing."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in pairs if key.strip() == name), "")


def empty_cache() -> None:
    """Give unused memory back to the device."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def recover() -> None:
    """After a job that failed or was stopped: free what its frames left behind, then the cache."""
    gc.collect()
    empty_cache()


def _used_bytes(device: Device) -> int:
    """Bytes in use: tensors on a GPU, on the CPU all that this process holds."""
    if device == "cuda":
        return int(torch.cuda.memory_allocated())
    if device == "mps":
        return int(torch.mps.current_allocated_memory())
    import psutil  # comes with accelerate

    return int(psutil.Process().memory_info().rss)


def _free_host_bytes() -> int:
    import psutil  # comes with accelerate

    free = int(psutil.virtual_memory().available)
    try:  # a container's own limit; what it cached of files can be taken back
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        free = min(free, limit - used + int(stat["inactive_file"]))
    except (OSError, ValueError, KeyError):  # no limit, or another system
        pass
    return free
