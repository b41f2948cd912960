"""`python -m latte_core bench`: the engine and stock diffusers in turns, on the same weights."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from latte_core.diffusion.step_plan import FULL

ASSETS = Path(__file__).resolve().parents[2] / "assets"
SHAPES = ("world", "latte-1")
TURBO = "turbo"  # among the plans: the few-step transformer
DEFAULT = "default"  # among the plans: what a request that leaves all open gets
LATTE_1_STEPS = 50  # of the stock pipeline and of Latte-1's samples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add("--shape", choices=SHAPES, default="world", help="the bundled model, or Latte-1's shape")
    add("--model", type=Path, default=ASSETS / "latte-world", help="model folder of shape world")
    add("--probe", type=Path, default=ASSETS / "world" / "probe.safetensors")
    add(
        "--plans",
        default="full",
        help="step plans to run beside full, such as budget-50,turbo, a precision as bf16, "
        "default for the model's own settings, or a plan in other numbers as budget-50+bf16",
    )
    add("--steps", type=int, help="denoising steps (default: the model's own)")
    add("--stock-steps", type=int, help="denoising steps of stock, if others")
    add("--size", type=int, help="height and width in pixels (default: the model's own)")
    add("--repeats", type=int, default=5, help="rounds that are clocked (default: 5)")
    add("--prompts", type=int, default=16, help="held-out prompts to judge; 0 for none")
    add("--seed", type=int, default=2024, help="which prompts and noise")
    add("--device", default="auto", help="auto, cuda or cpu")
    add("--compile", action="store_true", help="compile our blocks first, and say how long it took")
    add("--threads", type=int, help="threads of torch on the CPU")
    add("--start", action="store_true", help="only time `python app.py` to its first clip")
    add("--growth", type=Path, help="only write how cost grows to this CSV and a PNG beside it")
    add("--json", type=Path, help="write the figures here too")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.start:
        return _start()
    return _compare(arguments) if arguments.growth is None else _grow(arguments)


def _start() -> int:
    """From `python app.py` to the first finished clip."""
    from latte_core.benchmark.report import this_machine
    from latte_core.benchmark.start import time_to_first_clip

    first = time_to_first_clip()
    machine = this_machine("cpu")
    sys.stdout.write(
        f"page after {first.page_s:.1f} s, first clip after {first.clip_s:.1f} s "
        f"({machine['cores']} cores, load {machine['load']}, {machine['date']})\n"
    )
    return 0


def _grow(arguments: argparse.Namespace) -> int:
    """Cost along frames, size and steps, as CSV and as a chart beside it."""
    from latte_core.benchmark.chart import draw_chart
    from latte_core.benchmark.growth import compute_growth, measure_growth, to_table, write_csv

    points = [*measure_growth(arguments.model, _say), *compute_growth()]
    _say("")
    write_csv(points, arguments.growth)
    draw_chart(points, arguments.growth.with_suffix(".png"))
    sys.stdout.write(to_table(points) + "\n")
    return 0


@dataclass(frozen=True, eq=False)
class _Asked:
    """What is to be made: the rounds' cases, and specs to judge clips by, if they can be judged."""

    cases: list[Any]
    specs: list[Any]
    warm_up: Any


def _compare(arguments: argparse.Namespace) -> int:
    """Stock and ours in turns."""
    from latte_core.benchmark.measure import measure
    from latte_core.benchmark.report import Report, as_json, this_machine, to_text
    from latte_core.benchmark.shapes import latte_1, open_folder
    from latte_core.benchmark.subjects import Ours, Stock
    from latte_core.engine.compiling import compile_blocks

    world = arguments.shape == "world"
    _say("loading")
    bench = open_folder(arguments.model, arguments.device) if world else latte_1(arguments.device)
    if arguments.compile:
        told: list[str] = []
        pipeline = compile_blocks(bench.pipeline, lambda event: told.append(event.message))
        bench = replace(bench, pipeline=pipeline, notes=(*bench.notes, told[-1]))
    stock, *ours = _settings(arguments, bench.pipeline.parts)
    subjects: list[Any] = [
        Stock(bench.stock, stock, bench.embeds),
        *(Ours(_ours(bench, setting.precision, arguments.compile), setting) for setting in ours),
    ]
    asked = _asked(arguments, bench)
    rounds = asked.cases[: arguments.repeats]
    rows = measure(subjects, rounds, asked.warm_up, bench.device, _say)
    quality = _judge(arguments, rows, asked) if bench.trained else {}
    _say("")
    report = Report(arguments.shape, tuple(rows), quality, bench.notes, this_machine(bench.device))
    sys.stdout.write(to_text(report) + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(as_json(report), indent=2) + "\n", encoding="utf-8")
    return 0


def _ours(bench: Any, precision: str | None, compiled: bool) -> Any:
    """Our pipeline for a row, its blocks compiled if that is wanted."""
    from latte_core.engine.compiling import compile_blocks

    pipeline = bench.forgetful(precision)
    if compiled and precision is not None:  # with networks of its own
        return compile_blocks(pipeline, lambda event: _say(event.message))
    return pipeline


def _settings(arguments: argparse.Namespace, parts: Any) -> list[Any]:
    """The stock pipeline's setting, then ours for each plan. "full" is always the first of ours.

    "turbo" among the plans is the few-step transformer with its own steps, a precision's name the
    full plan in those numbers, "default" the model's own steps and plan, whatever the others run,
    in the numbers that the device takes by itself. PLAN+PRECISION is any of them in other numbers.
    """
    rows = _Rows(arguments, parts)
    stock_steps = arguments.stock_steps or rows.steps
    plans = [name for name in arguments.plans.split(",") if name and name != FULL]
    return [
        rows.setting(f"stock, {stock_steps} steps", stock_steps),
        rows.planned(FULL),
        *map(rows.asked, plans),
    ]


@dataclass(frozen=True)
class _Rows:
    """Settings of the table's rows, for what was asked of a model's parts."""

    arguments: argparse.Namespace
    parts: Any

    @property
    def steps(self) -> int:
        """Those of the rows that have none of their own."""
        return int(self.arguments.steps or self.parts.defaults.num_inference_steps)

    def setting(self, name: str, steps: int, plan: str = FULL, turbo: bool = False) -> Any:
        """A row of the model's own guidance, length and, unless others are asked for, sides."""
        from latte_core.benchmark.subjects import Setting

        defaults, size = self.parts.defaults, self.arguments.size
        return Setting(
            name,
            steps,
            1.0 if turbo else defaults.guidance_scale,
            "ddim",
            defaults.num_frames,
            size or defaults.height,
            size or defaults.width,
            plan,
            turbo,
        )

    def asked(self, words: str) -> Any:
        """The row of one entry among the plans."""
        from latte_core.engine.precision import PRECISIONS

        plan, _, precision = words.partition("+")
        if plan in PRECISIONS:
            plan, precision = FULL, plan
        if plan == DEFAULT and not precision:
            precision = self._usual()
        exact = self.planned(plan)
        if precision in ("", self.parts.plan.precision):
            return exact
        return replace(exact, name=f"{exact.name}, {precision}", precision=precision)

    def planned(self, plan: str) -> Any:
        """The row of a plan, or of what stands for one, in the stock pipeline's numbers."""
        from latte_core.engine.request import GenerationRequest

        if plan == FULL:
            return self.setting(f"ours, {self.steps} steps", self.steps)
        if plan == DEFAULT:
            own = self.parts.defaults
            name = f"ours, default settings ({own.num_inference_steps} steps, plan {own.plan})"
            return self.setting(name, own.num_inference_steps, own.plan)
        if plan != TURBO:
            return self.setting(f"ours, {self.steps} steps, plan {plan}", self.steps, plan)
        asked = GenerationRequest("any", turbo=True)
        steps = self.parts.defaults_for(asked).num_inference_steps
        return self.setting(f"ours, turbo, {steps} steps", steps, turbo=True)

    def _usual(self) -> str:
        """Numbers that the device takes by itself; random weights have no others to read."""
        from latte_core.engine.memory import cpu_bf16_pays
        from latte_core.engine.precision import AUTO, chosen

        if self.arguments.shape != "world":
            return ""
        return chosen(AUTO, self.parts.plan.device, cpu_bf16_pays())


def _asked(arguments: argparse.Namespace, bench: Any) -> _Asked:
    """Held-out prompts of the world, or sentences for random weights."""
    from latte_core.benchmark.measure import Case
    from latte_core.benchmark.shapes import SENTENCES

    if not bench.trained:
        count = len(SENTENCES)
        cases = [
            Case(SENTENCES[i % (count - 1)], arguments.seed + i) for i in range(arguments.repeats)
        ]
        return _Asked(cases, [], Case(SENTENCES[-1], arguments.seed))
    from latte_core.evaluation.probe import load_probe
    from latte_core.evaluation.prompt_following import held_out_prompts

    count = max(arguments.prompts, arguments.repeats)
    world = load_probe(arguments.probe).world
    *prompts, last = held_out_prompts(world, count + 1, arguments.seed)
    cases = [Case(one.prompt, one.seed) for one in prompts]
    return _Asked(cases, [one.spec for one in prompts], Case(last.prompt, last.seed))


def _judge(arguments: argparse.Namespace, rows: Sequence[Any], asked: _Asked) -> dict[str, Any]:
    """Make the clips that are not made yet, compare plans with the exact clips, ask the probe."""
    from latte_core.benchmark.report import Quality
    from latte_core.evaluation.probe import load_probe
    from latte_core.evaluation.prompt_following import score

    probe = load_probe(arguments.probe)
    clips = {}
    for row in rows:
        name = row.subject.setting.name
        clips[name] = [one.frames for one in row.runs]
        for case in asked.cases[len(row.runs) : arguments.prompts]:
            _say(f"clip {len(clips[name]) + 1} of {arguments.prompts}: {name}")
            clips[name].append(row.subject.generate(case.prompt, case.seed).frames)
    _, exact, *plans = rows
    exact_clips = clips[exact.subject.setting.name]
    quality = {}
    for row in rows:
        name, made = row.subject.setting.name, clips[row.subject.setting.name]
        followed = None
        if arguments.prompts:
            followed = score(probe, made, asked.specs[: len(made)], name).right["all"]
        # Turbo goes a way of its own: there is no exact clip that it should be near to.
        alike = row.subject.setting.steps == exact.subject.setting.steps
        compared = row in plans and alike and not row.subject.setting.turbo
        near = _mean_nearness(made, exact_clips) if compared else None
        if near is not None or followed is not None:
            quality[name] = Quality(near, followed, len(made))
    return quality


def _mean_nearness(made: Sequence[Any], exact: Sequence[Any]) -> Any:
    """PSNR over the pixels of all clips; SSIM and GMSD as means."""
    import numpy as np

    from latte_core.benchmark.fidelity import nearness

    return nearness(np.concatenate(made), np.concatenate(exact))


def _say(what: str) -> None:
    """One line on stderr that is written over."""
    sys.stderr.write(f"\r{what:<70}" + ("" if what else "\r"))
    sys.stderr.flush()
