"""In which numbers a model computes: one word, asked for or chosen by the device. Needs no torch.

Exact is fp32. Left alone, a GPU takes fp16, a CPU bf16 where it multiplies that faster, else fp32.
T5 overflows fp16, so that its half precision is bf16 everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from latte_core.errors import ConfigError

Device = Literal["cuda", "mps", "cpu"]
AUTO = "auto"
REFERENCE = "reference"  # what other numbers are compared with: a GPU's own, on the CPU fp32


@dataclass(frozen=True)
class Precision:
    """Numbers of the text encoder and of the other networks, torch's names; where they can be."""

    text: str
    networks: str
    devices: tuple[Device, ...]
    meaning: str


PRECISIONS: dict[str, Precision] = {
    "fp32": Precision("float32", "float32", ("cuda", "mps", "cpu"), "exact"),
    "bf16": Precision("bfloat16", "bfloat16", ("cuda", "mps", "cpu"), "near-exact, half the bytes"),
    "fp16": Precision("bfloat16", "float16", ("cuda", "mps"), "a GPU's own"),
    "fp16-accumulate": Precision(
        "bfloat16", "float16", ("cuda",), "sums in fp16 too, twice as fast on GeForce cards"
    ),
    "fp8": Precision(
        "bfloat16", "bfloat16", ("cuda",), "inner blocks in fp8 by torchao, the rest in bf16"
    ),
}
CHOICES = (AUTO, *PRECISIONS)
USUAL: dict[Device, str] = {"cuda": "fp16", "mps": "fp16", "cpu": "fp32"}
# How they compute is not to be seen from the numbers in memory alone.
SPECIAL = ("fp16-accumulate", "fp8")


def chosen(precision: str, device: Device, cpu_bf16_pays: bool) -> str:
    """The word behind `auto` and `reference`."""
    if precision == AUTO and device == "cpu" and cpu_bf16_pays:
        return "bf16"
    return USUAL[device] if precision in (AUTO, REFERENCE) else precision


def devices_for(precision: str, present: tuple[Device, ...]) -> tuple[Device, ...]:
    """Those of the devices that compute so. Raises ConfigError if none does."""
    everywhere = precision in (AUTO, REFERENCE)
    if not everywhere and precision not in PRECISIONS:
        raise ConfigError(f"precision is {precision!r}, but must be one of: {', '.join(CHOICES)}.")
    able = tuple(d for d in present if everywhere or d in PRECISIONS[precision].devices)
    if not able:
        others = [w for w, p in PRECISIONS.items() if any(d in p.devices for d in present)]
        raise ConfigError(
            f"precision is {precision}, which needs {' or '.join(PRECISIONS[precision].devices)}, "
            f"but the device is {' or '.join(present)}: choose {', '.join((AUTO, *others))}."
        )
    return able


def text_numbers(precision: str, device: Device, cpu_bf16_pays: bool) -> str:
    """Numbers of the text encoder, `device` being that of the rest, or the CPU's beside a GPU.

    On the CPU of a GPU's machine bf16 is taken only where the CPU multiplies it faster.
    """
    wanted = PRECISIONS[precision].text
    slow = device == "cpu" and "cpu" not in PRECISIONS[precision].devices and not cpu_bf16_pays
    return "float32" if slow else wanted


def remark(precision: str, device: Device, cpu_bf16_pays: bool) -> str:
    """What is to be said of numbers that slow the device down; mostly nothing."""
    if device == "cpu" and precision == "bf16" and not cpu_bf16_pays:
        return " This CPU has no fast bf16 unit: the result is right, but fp32 is faster here."
    return ""
