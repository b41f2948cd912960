"""Take turns and clock: one warm-up that counts, then rounds in which every subject runs once."""

from __future__ import annotations

import gc
import math
import statistics
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from latte_core.benchmark.subjects import STAGES, Run, Subject
from latte_core.engine.memory import MemoryMeter, recover
from latte_core.engine.plans import GIB
from latte_core.engine.precision import Device
from latte_core.model.linear import FUSED

SAMPLE_S = 0.002  # between two looks at the memory in use


@dataclass(frozen=True)
class Case:
    """What one round asks of every subject."""

    prompt: str
    seed: int


@dataclass(frozen=True)
class Counts:
    """What does not depend on the machine's mood.

    FLOPs by stage and in all (a multiplication with its addition is two), rows through the network,
    and the bytes that the run took above what the process held before it.
    """

    flops: dict[str, int]
    evaluations: int
    peak_bytes: int


@dataclass(frozen=True, eq=False)
class Measured:
    """A subject's counts and its runs, one for each case."""

    subject: Subject
    counts: Counts
    runs: tuple[Run, ...]

    def median_s(self, stage: str) -> float:
        """Median wall seconds of a stage."""
        return statistics.median(run.seconds[stage] for run in self.runs)

    def range_s(self, stage: str) -> tuple[float, float]:
        """The fastest and the slowest run's seconds of a stage."""
        seconds = [run.seconds[stage] for run in self.runs]
        return min(seconds), max(seconds)

    def cpu_s(self) -> float:
        """Median CPU seconds of a whole run."""
        return statistics.median(run.cpu_s for run in self.runs)


def ratio(base: Measured, other: Measured, stage: str) -> float:
    """How often `other` does a stage while `base` does it once: the median over the rounds.

    Runs of one round follow each other, so a busy moment of the machine meets both.
    """
    pairs = zip(base.runs, other.runs, strict=True)
    return statistics.median(b.seconds[stage] / max(o.seconds[stage], 1e-9) for b, o in pairs)


def cpu_ratio(base: Measured, other: Measured) -> float:
    """The same in CPU seconds of whole runs, which other programs disturb less."""
    pairs = zip(base.runs, other.runs, strict=True)
    return statistics.median(b.cpu_s / max(o.cpu_s, 1e-9) for b, o in pairs)


def latents_apart(base: Measured, other: Measured) -> float:
    """The largest relative distance |other - base| / |base| of the latents of one round."""
    norm = np.linalg.norm
    pairs = [(b.latents, o.latents) for b, o in zip(base.runs, other.runs, strict=True)]
    return max(float(norm(ours - theirs) / norm(theirs)) for theirs, ours in pairs)


def measure(
    subjects: Sequence[Subject],
    cases: Sequence[Case],
    warm_up: Case,
    device: Device,
    report: Callable[[str], None],
) -> list[Measured]:
    """Count each subject once on `warm_up`, then let all make every case in turn.

    Each round begins with another subject. `report` hears what is going on.
    """
    counts = []
    for subject in subjects:
        report(f"counting: {subject.setting.name}")
        counts.append(count(subject, warm_up, device))
    runs: list[list[Run]] = [[] for _ in subjects]
    for number, case in enumerate(cases):
        for turn in range(len(subjects)):
            index = (number + turn) % len(subjects)
            report(f"round {number + 1} of {len(cases)}: {subjects[index].setting.name}")
            runs[index].append(subjects[index].generate(case.prompt, case.seed))
    made = zip(subjects, counts, runs, strict=True)
    return [Measured(subject, counted, tuple(own)) for subject, counted, own in made]


def count(subject: Subject, case: Case, device: Device) -> Counts:
    """Make one clip and count what it takes; also warms the subject up."""
    with _peak(device) as peak, subject.counting() as counter, flop_counter() as flops:
        subject.direct(case.prompt, case.seed)
    return Counts(_by_stage(flops, subject.network), counter.evaluations, peak[0])


def flop_counter() -> Any:
    """The FLOP counter of torch, told of the CPU's kernels that it does not know by itself."""
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    def attention(q: Any, k: Any, v: Any, *rest: Any, **named: Any) -> int:
        return int(sdpa_flop_count(q, k, v))

    def linear(x: Any, weight: Any, *rest: Any, **named: Any) -> int:
        return 2 * math.prod(x) * int(weight[0])

    known: dict[Any, Any] = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    if FUSED is not None:
        known[FUSED] = linear
    return FlopCounterMode(display=False, custom_mapping=known)


def _by_stage(flops: Any, network: str) -> dict[str, int]:
    """Text encoder and denoiser by the names of their classes, the decoder being the rest."""
    by_module = flops.get_flop_counts()
    total = flops.get_total_flops()

    def of(root: str) -> int:
        return int(sum(by_module.get(root, {}).values()))

    text, denoise = of("T5EncoderModel"), of(network)
    stages = {"text": text, "denoise": denoise, "decode": total - text - denoise, "all": total}
    return {stage: stages[stage] for stage in STAGES}


@contextmanager
def _peak(device: Device) -> Iterator[list[int]]:
    """Watch the memory in use; afterwards the list holds the bytes above those before."""
    recover()
    _trim()
    meter, over, result = MemoryMeter(device), threading.Event(), [0]

    def watch() -> None:
        while not over.wait(SAMPLE_S):
            meter.sample()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield result
    finally:
        over.set()
        watcher.join()
        used = meter.gib()
        result[0] = int((used["peak"] - used["before"]) * GIB)


def _trim() -> None:
    """Give memory that is free back to the system, so that a peak is not hidden in it."""
    import ctypes

    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
        if trim is not None:
            trim(0)
