"""Which device and memory plan a model gets: a pure function of sizes and free memory.

Peaks follow the shapes of the parts; the constants are measured on the public Latte-1 at
512 x 512 x 16 (see each), and its published peaks come out within a few per cent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from latte_core.engine.precision import (
    AUTO,
    PRECISIONS,
    SPECIAL,
    Device,
    chosen,
    devices_for,
    remark,
    text_numbers,
)
from latte_core.errors import MemoryPlanError

GIB = 2**30
DEVICES: tuple[Device, ...] = ("cuda", "mps", "cpu")

# Blocks of the transformer on the device at once when they come in by turns: the one that runs, the
# one that is fetched meanwhile, the one that leaves; the layers beside the blocks weigh one more.
STREAMED_BLOCKS = 4
# Live tensors of the size of the token stream at the peak of one forward: 0.98 GB / 75.5 MB.
STREAM_TENSORS = 13
# Full-size feature maps alive at the peak of decoding one frame: 0.403 GB / 134 MB.
DECODER_MAPS = 3
# 4-bit weights carry one fp32 scale per 64: half a byte and 1/16.
WEIGHT_BYTES = {None: 2.0, 8: 1.0, 4: 0.5625}
# The CUDA context, cuBLAS workspaces, and what the allocator cannot reuse.
OVERHEAD_BYTES = {"cuda": 700 * 2**20, "mps": 300 * 2**20, "cpu": 200 * 2**20}
FRAGMENTATION = 1.05


@dataclass(frozen=True)
class ModelSizes:
    """Parameters of the parts and the shapes that decide the activations.

    `text_packed` counts those text parameters that bitsandbytes packs (neither `wo` nor the
    embedding); a model that reads no prompt has 0 of both. tokens is (F + I) x N of the largest
    request that must fit, for one of `halves` (2 with guidance); `decoder_elements` is channels x
    height x width of the decoder's widest full-size map; `blocks` is the transformer's depth.
    """

    text: int
    text_packed: int
    transformer: int
    vae: int
    hidden_size: int
    tokens: int
    decoder_elements: int
    frames_at_once: int = 1
    halves: int = 2
    blocks: int = 1


@dataclass(frozen=True)
class Plan:
    """What goes where. dtypes are torch names; `text_device` is "cpu" where only T5 is there.

    `split` runs the halves of guidance one at a time, `streamed` brings the transformer in block by
    block. `precision` is a word of `PRECISIONS`; `compiled` says that its blocks
    are. `sentence` says what was chosen and why, in GiB.
    """

    name: str
    device: Device
    offload: bool
    text_device: Device
    text_bits: Literal[8, 4] | None
    text_dtype: str
    transformer_dtype: str
    vae_dtype: str
    peak_bytes: int
    sentence: str = ""
    split: bool = False
    streamed: bool = False
    precision: str = "fp32"
    compiled: bool = False

    @property
    def absorbs(self) -> bool:
        """Whether prompts take weights up into their keys and values; measured on a CPU only."""
        return self.device == "cpu"

    @property
    def numbers(self) -> str:
        """How the transformer computes: its dtype, or the word of a special way."""
        return self.precision if self.precision in SPECIAL else self.transformer_dtype


@dataclass(frozen=True)
class PlanKind:
    """A memory plan before it meets a device."""

    offload: bool
    text_bits: Literal[8, 4] | None = None
    text_on_cpu: bool = False
    meaning: str = ""
    split: bool = False
    streamed: bool = False

    @property
    def about_text(self) -> bool:
        """Whether the plan only says where or how the text encoder is held."""
        return not self.split and (self.text_bits is not None or self.text_on_cpu)


# In the order in which `auto` tries them: fastest first, then the least loss.
PLANS: dict[str, PlanKind] = {
    "resident": PlanKind(False, meaning="all parts stay in memory"),
    "offload": PlanKind(True, meaning="the parts take turns on the device"),
    "offload-8bit": PlanKind(True, 8, meaning="the text encoder is held in 8 bits"),
    "offload-4bit": PlanKind(True, 4, meaning="the text encoder is held in 4 bits (NF4)"),
    "text-on-cpu": PlanKind(
        True, None, True, meaning="the text encoder runs on the CPU, the rest takes turns"
    ),
    "split": PlanKind(
        True, None, True, meaning="as text-on-cpu, the halves of guidance one at a time", split=True
    ),
    "streamed": PlanKind(
        True,
        None,
        True,
        meaning="as split, the transformer comes in block by block",
        split=True,
        streamed=True,
    ),
}
PLANS_OF: dict[Device, tuple[str, ...]] = {
    "cuda": tuple(PLANS),
    "mps": ("resident",),  # its memory is the CPU's own, so moving parts frees nothing
    "cpu": ("resident", "offload", "split", "offload-8bit", "offload-4bit"),
}
# On the CPU, parts that "take turns" stay where they are, so `auto` skips that plan there.
AUTO_SKIPS: dict[Device, tuple[str, ...]] = {"cuda": (), "mps": (), "cpu": ("offload",)}


def choose_plan(
    sizes: ModelSizes,
    free_bytes: Mapping[Device, int],
    memory: str = "auto",
    device: str = "auto",
    cpu_bf16_pays: bool = False,
    precision: str = AUTO,
) -> Plan:
    """The first plan that fits, on the first device that has one.

    free_bytes holds the devices that exist here. `memory` and `device` may fix either choice.
    Raises MemoryPlanError, with the figures in GiB and the remedy, if nothing fits, ConfigError if
    no device here computes in `precision`.
    """
    names, present = _allowed(memory, device, free_bytes)
    devices = devices_for(precision, present)
    if not sizes.text:
        names = _without_text(names)
    rejected: list[str] = []
    for place in devices:
        for name in PLANS_OF[place]:
            if name not in names or (memory == "auto" and name in AUTO_SKIPS[place]):
                continue
            word = chosen(precision, place, cpu_bf16_pays)
            plan = _price(name, place, sizes, cpu_bf16_pays, word)
            need = _needed(plan)
            host_need = _host_bytes(plan, sizes)
            if need <= free_bytes[place] and host_need <= free_bytes.get("cpu", host_need):
                free = free_bytes[place]
                return _with_sentence(plan, need, free, rejected, bool(sizes.text))
            short = need if need > free_bytes[place] else host_need
            where = place if need > free_bytes[place] else "cpu"
            rejected.append(
                f"{name} on {where} needs {_gib(short)} of {_gib(free_bytes[where])} free"
            )
    if not rejected:
        raise MemoryPlanError(
            f"The memory plan {memory} does not exist on {device}: choose one of "
            f"{', '.join(PLANS_OF[devices[0]])}."
        )
    raise MemoryPlanError(
        "The model does not fit into memory: "
        + "; ".join(rejected)
        + ". Close other programs, or choose a smaller model or plan."
    )


def next_plan(
    plan: Plan, sizes: ModelSizes, free_bytes: Mapping[Device, int], cpu_bf16_pays: bool = False
) -> Plan | None:
    """The plan to go on with on the same device where memory ran out with `plan`.

    It is the first of those behind it whose peak is lower; None if there is none. Its sentence says
    what happened, in GiB.
    """
    order = PLANS_OF[plan.device]
    for name in order[order.index(plan.name) + 1 :]:
        lower = _price(name, plan.device, sizes, cpu_bf16_pays, plan.precision)
        if (sizes.text or not PLANS[name].about_text) and lower.peak_bytes < plan.peak_bytes:
            free = free_bytes[plan.device]
            lower = _with_sentence(lower, _needed(lower), free, [], bool(sizes.text))
            why = (
                f" Chosen because memory ran out with {plan.name}, which needs {needed(plan)} at "
                "the model's default size; close other programs to have that back."
            )
            return replace(lower, sentence=lower.sentence + why)
    return None


def rungs(
    plan: Plan, sizes: ModelSizes, free_bytes: Mapping[Device, int], cpu_bf16_pays: bool = False
) -> tuple[Plan, ...]:
    """A plan, priced for `sizes`, and those behind it on its device, each with a lower peak."""
    order = PLANS_OF[plan.device]
    found: list[Plan] = []
    for name in order[order.index(plan.name) :]:
        lower = _price(name, plan.device, sizes, cpu_bf16_pays, plan.precision)
        means = not found or bool(sizes.text) or not PLANS[name].about_text
        if means and (not found or lower.peak_bytes < found[-1].peak_bytes):
            free = free_bytes[plan.device]
            found.append(_with_sentence(lower, _needed(lower), free, [], bool(sizes.text)))
    return tuple(found)


def needed_bytes(plan: Plan) -> int:
    """What a plan needs on its device with all overheads."""
    return _needed(plan)


def needed(plan: Plan) -> str:
    """What a plan needs on its device with all overheads, in GiB."""
    return _gib(_needed(plan))


def _allowed(
    memory: str, device: str, free_bytes: Mapping[Device, int]
) -> tuple[tuple[str, ...], tuple[Device, ...]]:
    """Plan names and devices to try, in order. Raises MemoryPlanError for unknown words."""
    if memory != "auto" and memory not in PLANS:
        raise MemoryPlanError(
            f"memory is {memory!r}, but must be auto or one of: {', '.join(PLANS)}."
        )
    present = tuple(place for place in DEVICES if place in free_bytes)
    if device == "auto":
        return (tuple(PLANS) if memory == "auto" else (memory,)), present
    chosen = tuple(place for place in present if place == device)
    if not chosen:
        raise MemoryPlanError(
            f"device is {device!r}, but this machine has: auto, {', '.join(present)}."
        )
    return (tuple(PLANS) if memory == "auto" else (memory,)), chosen


def _without_text(names: tuple[str, ...]) -> tuple[str, ...]:
    """The plans that mean something for a model without a text encoder."""
    left = tuple(name for name in names if not PLANS[name].about_text)
    if not left:
        others = [name for name, kind in PLANS.items() if not kind.about_text]
        raise MemoryPlanError(
            f"The memory plan {names[0]} is about the text encoder, which this model does not "
            f"have: choose auto, {' or '.join(others)}."
        )
    return left


def _price(
    name: str, device: Device, sizes: ModelSizes, cpu_bf16_pays: bool, precision: str
) -> Plan:
    """The plan with its dtypes and its peak on `device`."""
    kind = PLANS[name]
    text_device: Device = "cpu" if kind.text_on_cpu else device
    text_dtype = text_numbers(precision, text_device, cpu_bf16_pays)
    dtype = PRECISIONS[precision].networks
    plan = Plan(
        name,
        device,
        kind.offload,
        text_device,
        kind.text_bits,
        text_dtype,
        dtype,
        dtype,
        0,
        remark(precision, device, cpu_bf16_pays),
        kind.split,
        kind.streamed,
        precision,
    )
    width = 4 if dtype == "float32" else 2
    text = _text_bytes(plan, sizes) if text_device == device else 0
    transformer, vae = width * sizes.transformer, width * sizes.vae
    if kind.streamed:
        transformer = transformer * min(STREAMED_BLOCKS, sizes.blocks) // sizes.blocks
    # Both halves of guidance run as one batch, unless they are split.
    rows = 1 if kind.split else sizes.halves
    denoising = STREAM_TENSORS * width * rows * sizes.tokens * sizes.hidden_size
    decoding = DECODER_MAPS * width * sizes.decoder_elements * sizes.frames_at_once
    if not kind.offload or device == "cpu":
        peak = text + transformer + vae + max(denoising, decoding)
    elif kind.text_bits is not None:  # packed weights are never moved
        peak = text + max(transformer + denoising, vae + decoding)
    else:
        peak = max(text, transformer + denoising, vae + decoding)
    return replace(plan, peak_bytes=int(peak))


def _text_bytes(plan: Plan, sizes: ModelSizes) -> float:
    width = 4 if plan.text_dtype == "float32" else 2
    if plan.text_bits is None:
        return width * sizes.text
    kept = sizes.text - sizes.text_packed
    return WEIGHT_BYTES[plan.text_bits] * sizes.text_packed + width * kept


def _needed(plan: Plan) -> int:
    return int(plan.peak_bytes * FRAGMENTATION) + OVERHEAD_BYTES[plan.device]


def _host_bytes(plan: Plan, sizes: ModelSizes) -> int:
    """Main memory for the parts that wait there while another device works."""
    if plan.device == "cpu" or not plan.offload:
        return 0
    width = 4.0 if plan.transformer_dtype == "float32" else 2.0
    waiting = width * (sizes.transformer + sizes.vae)
    if plan.text_bits is None:
        waiting += _text_bytes(plan, sizes)
    return int(waiting)


def _with_sentence(plan: Plan, need: int, free: int, rejected: list[str], has_text: bool) -> Plan:
    text = f"text encoder {f'{plan.text_bits}-bit' if plan.text_bits else plan.text_dtype}, "
    sentence = (
        f"{plan.name} on {plan.device}: {PLANS[plan.name].meaning} ({text if has_text else ''}"
        f"transformer {plan.numbers}); needs {_gib(need)} of {_gib(free)} free.{plan.sentence}"
    )
    if rejected:
        sentence += f" Chosen because {'; '.join(rejected)}."
    return replace(plan, sentence=sentence)


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"
