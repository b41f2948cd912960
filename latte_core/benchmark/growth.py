"""How cost grows with frames, size and steps: measured on this machine, computed for Latte-1.

Measured points are runs of the bundled model; computed ones count a network of Latte-1's shape that
has no data (meta tensors), and take its memory from the constants of the engine's memory plans.
Costs get a power law, along steps a fixed and a growing share; so does memory.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from latte_core.benchmark.measure import Case, count, flop_counter
from latte_core.benchmark.shapes import open_folder
from latte_core.benchmark.subjects import Ours, Setting
from latte_core.engine.plans import STREAM_TENSORS
from latte_core.model import Latte
from latte_core.model.config import LATTE_1

MEASURED = {"frames": (16, 32, 48), "size": (64, 128, 192, 256), "steps": (2, 4, 8)}
COMPUTED = {"frames": (8, 16, 32, 64), "size": (256, 384, 512, 768, 1024), "steps": (10, 25, 50)}
TOKENS = 20  # of a usual prompt
CASE = Case("a whale goes left in the blue sky", 7)


@dataclass(frozen=True)
class Point:
    """One run. `cost` is seconds of CPU time where measured, FLOPs where computed."""

    kind: str
    axis: str
    value: int
    cost: float
    memory_bytes: int


@dataclass(frozen=True)
class Fit:
    """cost = fixed + factor * value ** exponent along one axis; r2 says how well.

    Steps leave text and decoding as they are: a fixed share and the exponent 1. Frames and sizes
    have none, and their r2 is that of logarithms.
    """

    factor: float
    exponent: float
    r2: float
    fixed: float = 0.0

    def cost(self, value: float) -> float:
        """What the law gives."""
        return self.fixed + self.factor * value**self.exponent


@dataclass(frozen=True)
class MemoryFit:
    """bytes = fixed + growing * work along one axis; r2 says how well."""

    fixed: float
    growing: float
    r2: float


def measure_growth(folder: Path, report: Callable[[str], None]) -> Iterator[Point]:
    """Run the bundled model along every axis; the best of two runs is a point."""
    bench = open_folder(folder, "cpu")
    parts = bench.pipeline.parts
    d = parts.defaults
    base = Setting("growth", 4, d.guidance_scale, "ddim", d.num_frames, d.height, d.width)
    Ours(bench.pipeline, base).direct(CASE.prompt, CASE.seed)  # what only a first run takes
    for axis, values in MEASURED.items():
        for value in values:
            report(f"measuring {axis} {value}")
            sides: dict[str, Any] = {"height": value, "width": value}
            along: dict[str, Any] = sides if axis == "size" else {axis: value}
            setting = replace(base, **along)
            subject = Ours(bench.pipeline, setting)
            memory = count(subject, CASE, "cpu").peak_bytes
            runs = [subject.generate(CASE.prompt, CASE.seed) for _ in range(2)]
            yield Point("measured", axis, value, min(run.cpu_s for run in runs), memory)


def compute_growth() -> Iterator[Point]:
    """Count Latte-1's network along every axis: FLOPs of a whole run, bytes of its peak in fp16."""
    for axis, values in COMPUTED.items():
        for value in values:
            frames = value if axis == "frames" else LATTE_1.num_frames
            size = value if axis == "size" else 8 * LATTE_1.sample_size
            steps = value if axis == "steps" else 50
            flops, memory = step_cost(frames, size)
            yield Point("computed", axis, value, float(steps * flops), memory)


def step_cost(frames: int, size: int) -> tuple[int, int]:
    """FLOPs of one guided step of Latte-1's network, and its peak bytes with weights, in fp16."""
    config = replace(LATTE_1, num_frames=frames)
    with torch.device("meta"), torch.no_grad(), flop_counter() as counter:
        model = Latte(config)
        latents = torch.zeros(2, config.in_channels, frames, size // 8, size // 8)
        prompt = torch.zeros(2, TOKENS, config.caption_channels)
        model.positions.to("meta")
        model(latents, torch.zeros(2), prompt)
    tokens = frames * (size // 8 // config.patch_size) ** 2
    stream = STREAM_TENSORS * 2 * 2 * tokens * config.hidden_size
    return int(counter.get_total_flops()), 2 * model.num_parameters + stream


def fit(points: Sequence[Point]) -> Fit:
    """The law through points of one kind and axis, by least squares."""
    x, y = (np.array([getattr(p, name) for p in points], float) for name in ("value", "cost"))
    if points[0].axis == "steps":
        factor, fixed, r2 = _line(x, y)
        return Fit(factor, 1.0, r2, fixed)
    exponent, offset, r2 = _line(np.log(x), np.log(y))
    return Fit(float(np.exp(offset)), exponent, r2)


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float, float]:
    """Slope, offset and r2 of the straight line through points; 1 if nothing varies.

    An offset that is nothing but rounding is 0.
    """
    slope, offset = np.polyfit(x, y, 1)
    spread = ((y - y.mean()) ** 2).sum()
    rest = ((y - slope * x - offset) ** 2).sum()
    if not spread:
        return 0.0, float(y[0]), 1.0
    share = 0.0 if abs(offset) < 1e-9 * np.abs(y).max() else float(offset)
    return float(slope), share, float(1 - rest / spread)


def work(axis: str, value: float) -> float:
    """What memory grows with: frames, steps, and of a size its pixels."""
    return value**2 if axis == "size" else value


def fit_memory(points: Sequence[Point]) -> MemoryFit:
    """The straight line through the memory of points of one kind and axis, by least squares."""
    x = np.array([work(p.axis, p.value) for p in points], float)
    y = np.array([p.memory_bytes for p in points], float)
    growing, fixed, r2 = _line(x, y)
    return MemoryFit(fixed, growing, r2)


def series(points: Sequence[Point]) -> Iterator[tuple[str, str, list[Point]]]:
    """The points by kind and axis."""
    for kind, axis in dict.fromkeys((point.kind, point.axis) for point in points):
        yield kind, axis, [p for p in points if (p.kind, p.axis) == (kind, axis)]


def write_csv(points: Sequence[Point], path: Path) -> None:
    """One line a point, with the fit of its series."""
    fits = {(kind, axis): fit(own) for kind, axis, own in series(points)}
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = [asdict(p) | asdict(fits[p.kind, p.axis]) for p in points]
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def to_table(points: Sequence[Point]) -> str:
    """A Markdown table of the fits."""
    lines = ["| what | along | from | to | grows as | fit r2 | memory, MiB |", "|" + "---|" * 7]
    for kind, axis, own in series(points):
        law, unit = fit(own), "s" if kind == "measured" else "FLOP"
        first, last = own[0], own[-1]
        memory = f"{first.memory_bytes / 2**20:.0f} to {last.memory_bytes / 2**20:.0f}"
        lines.append(
            f"| {kind} | {axis} | {first.value}: {first.cost:.3g} {unit} | {last.value}: "
            f"{last.cost:.3g} {unit} | {told(axis, law)} | {law.r2:.3f} | {memory} |"
        )
    return "\n".join(lines)


def told(axis: str, law: Fit) -> str:
    """The law in a few signs: "size^2.10", "0.3 + 0.05 steps"."""
    if axis == "steps":
        return f"{law.fixed:.2g} + {law.factor:.2g} {axis}"
    return f"{axis}^{law.exponent:.2f}"
