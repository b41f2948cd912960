"""What plans keep: nearness to the full run, and prompt following, on prompts of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latte_core.benchmark.fidelity import nearness
from latte_core.calibration.samples import Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latte_core import Engine

PROBE = Path(__file__).resolve().parents[2] / "assets" / "world" / "probe.safetensors"


@dataclass(frozen=True)
class Kept:
    """One plan on some prompts, against the full plan with the same seeds.

    rows is what the network ran per clip, share that of the full plan's; psnr_db the mean over
    clips, worst_db the lowest; seconds the mean CPU time of a clip; following the share of clips
    that have everything right that their prompt says, None for models that the probe cannot judge.
    """

    plan: str
    steps: int
    rows: int
    share: float
    psnr_db: float
    worst_db: float
    ssim: float
    seconds: float
    following: float | None


def check_plans(
    engine: Engine, samples: Sequence[Sample], names: Sequence[str], say: Callable[[str], None]
) -> list[Kept]:
    """Make every sample with every plan; the samples are alike in sampler and steps."""
    info = engine.describe()
    request = samples[0].request
    scheduler = request.scheduler or info.defaults.scheduler
    steps = request.num_inference_steps or info.defaults.num_inference_steps
    assert info.step_plans is not None
    # What else would save half of the work: half of the steps. No step plan should be worse.
    halved = {"plan": "full", "num_inference_steps": max(1, steps // 2)}
    ways: dict[str, dict[str, Any]] = {"full": {"plan": "full"}, "full, half the steps": halved}
    ways |= {name: {"plan": name} for name in names if name != "full"}
    whole: list[NDArray[np.uint8]] = []
    found = []
    for name, fields in ways.items():
        clips, seconds = _make(engine, samples, fields)
        whole = whole or clips
        taken = int(fields.get("num_inference_steps", steps))
        plan = info.step_plans.find(str(fields["plan"]), scheduler, taken)
        near = [nearness(made, exact) for made, exact in zip(clips, whole, strict=True)]
        found.append(
            Kept(
                name,
                taken,
                plan.rows,
                plan.rows / (2 * steps),
                float(np.mean([one.psnr for one in near])),
                float(np.min([one.psnr for one in near])),
                float(np.mean([one.ssim for one in near])),
                seconds,
                _following(clips, samples),
            )
        )
        say(as_line(found[-1]))
    return found


def _make(
    engine: Engine, samples: Sequence[Sample], fields: dict[str, Any]
) -> tuple[list[NDArray[np.uint8]], float]:
    """Clips of all samples with some fields changed, and the mean CPU seconds of one."""
    began = time.process_time()
    clips = [engine.generate(replace(one.request, **fields)).frames for one in samples]
    return clips, (time.process_time() - began) / len(samples)


def _following(clips: list[NDArray[np.uint8]], samples: Sequence[Sample]) -> float | None:
    specs = [sample.spec for sample in samples if sample.spec is not None]
    if len(specs) < len(samples) or not PROBE.is_file():
        return None
    from latte_core.evaluation.probe import load_probe
    from latte_core.evaluation.prompt_following import score

    return score(load_probe(PROBE), clips, specs, "").right["all"]


HEADER = (
    "| plan | steps | rows of the network | PSNR | worst clip | SSIM | CPU seconds | all right |\n"
    "|---|---|---|---|---|---|---|---|"
)


def as_line(kept: Kept) -> str:
    """A row of the table."""
    following = "" if kept.following is None else f"{100 * kept.following:.1f} %"
    exact = kept.psnr_db == float("inf")
    near = (
        "exact | | 1.000"
        if exact
        else f"{kept.psnr_db:.1f} dB | {kept.worst_db:.1f} dB | {kept.ssim:.3f}"
    )
    return (
        f"| {kept.plan} | {kept.steps} | {kept.rows} ({100 * kept.share:.0f} %) | {near} "
        f"| {kept.seconds:.1f} | {following} |"
    )


def as_json(rows: Sequence[Kept]) -> list[dict[str, Any]]:
    """The rows as plain data; the full plan's infinite PSNR is None."""
    return [
        {name: None if value == float("inf") else value for name, value in asdict(row).items()}
        for row in rows
    ]
