"""The figures as two Markdown tables and as plain data."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

import torch

from latte_core.benchmark.fidelity import Nearness
from latte_core.benchmark.measure import Measured, cpu_ratio, latents_apart, ratio
from latte_core.benchmark.subjects import STAGES
from latte_core.engine.memory import said_of_cpu


@dataclass(frozen=True)
class Quality:
    """A row's pictures: beside the exact ones, and judged. None where it was not asked.

    `followed` is the share of `prompts` held-out prompts of which everything is right.
    """

    near: Nearness | None = None
    followed: float | None = None
    prompts: int = 0


@dataclass(frozen=True, eq=False)
class Report:
    """All that was measured; the first row is what the others are compared with."""

    shape: str
    rows: tuple[Measured, ...]
    quality: dict[str, Quality]
    notes: tuple[str, ...]
    machine: dict[str, Any] = field(default_factory=dict)


def this_machine(device: str) -> dict[str, Any]:
    """What the figures were taken on, and when."""
    chip = torch.cuda.get_device_name() if device == "cuda" else _processor()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {
        "date": date.today().isoformat(),
        "device": f"{device}: {chip}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(load, 1),
        "torch": torch.__version__,
    }


def _processor() -> str:
    """The processor's name, from Linux or from Python."""
    named = said_of_cpu("model name") or platform.processor() or platform.machine()
    return " ".join(named.split())


def to_text(report: Report) -> str:
    """Machine, notes, the table of costs, and that of quality where there is one."""
    about = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    base = report.rows[0]
    near = [
        f"latents of {row.subject.setting.name} are within {latents_apart(base, row):.1e} of "
        f"{base.subject.setting.name}"
        for row in report.rows[1:2]
        if row.subject.setting.steps == base.subject.setting.steps
    ]
    lines = [f"shape {report.shape}; {about}", *report.notes, *near, "", *_costs(report.rows)]
    if report.quality:
        lines += ["", *_qualities(report)]
    return "\n".join(lines)


def _costs(rows: Sequence[Measured]) -> list[str]:
    base = rows[0]
    lines = [
        "| run | stage | seconds, median (range) | times as fast | GFLOP | evaluations "
        "| CPU seconds | times less | memory, MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        for stage in STAGES:
            low, high = row.range_s(stage)
            cells = [
                row.subject.setting.name,
                stage,
                f"{row.median_s(stage):.3g} ({low:.3g}-{high:.3g})",
                f"{ratio(base, row, stage):.2f}",
                f"{row.counts.flops[stage] / 1e9:.4g}",
                str(row.counts.evaluations) if stage in ("denoise", "all") else "",
                f"{row.cpu_s():.3g}" if stage == "all" else "",
                f"{cpu_ratio(base, row):.2f}" if stage == "all" else "",
                f"{row.counts.peak_bytes / 2**20:.0f}" if stage == "all" else "",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def _qualities(report: Report) -> list[str]:
    lines = ["| run | evaluations | PSNR, dB | SSIM | GMSD | prompts followed |"]
    lines.append("|---|---|---|---|---|---|")
    for row in report.rows:
        name = row.subject.setting.name
        if name not in report.quality:
            continue
        quality = report.quality[name]
        near, followed = quality.near, quality.followed
        cells = [
            name,
            str(row.counts.evaluations),
            *(["", "", ""] if near is None else _near(near)),
            "" if followed is None else f"{100 * followed:.1f} % of {quality.prompts}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _near(near: Nearness) -> list[str]:
    level = "equal" if math.isinf(near.psnr) else f"{near.psnr:.1f}"
    return [level, f"{near.ssim:.4f}", f"{near.gmsd:.4f}"]


def as_json(report: Report) -> dict[str, Any]:
    """The same as plain data, with every run's own seconds."""
    base = report.rows[0]
    return {
        "shape": report.shape,
        "machine": report.machine,
        "notes": list(report.notes),
        "rows": [
            {
                **asdict(row.subject.setting),
                "evaluations": row.counts.evaluations,
                "flops": row.counts.flops,
                "peak_bytes": row.counts.peak_bytes,
                "seconds": {s: [run.seconds[s] for run in row.runs] for s in STAGES},
                "median_s": {stage: row.median_s(stage) for stage in STAGES},
                "ratio": {stage: ratio(base, row, stage) for stage in STAGES},
                "cpu_s": [run.cpu_s for run in row.runs],
                "cpu_ratio": cpu_ratio(base, row),
                "latents_apart": latents_apart(base, row),
                **_quality_json(report.quality.get(row.subject.setting.name)),
            }
            for row in report.rows
        ],
    }


def _quality_json(quality: Quality | None) -> dict[str, Any]:
    if quality is None:
        return {}
    near = None if quality.near is None else asdict(quality.near)
    if near is not None and math.isinf(near["psnr"]):
        near["psnr"] = None  # equal; JSON has no infinity
    return {"near": near, "followed": quality.followed, "prompts": quality.prompts}
