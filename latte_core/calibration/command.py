"""`python -m latte_core calibrate FOLDER`: find step plans for a model, keep them, check them."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latte_core.errors import RequestError

if TYPE_CHECKING:
    from latte_core.calibration.trajectory import Run
    from latte_core.diffusion.step_plan import StepPlan
    from latte_core.engine.pipeline import Pipeline

BUDGETS = "0.75,0.5,0.33,0.25,0.2,0.15"
PROBES = 17  # of all steps; what lies between is interpolated
CANDIDATES = 2  # plans of a budget that are fitted to see which is best
TRIES = 24  # of neighbours of the best one, fitted too; more than 60 found nothing better


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("model", help="model folder or hub id")
    parser.add_argument("--steps", type=int, nargs="+", help="numbers of steps; the default's")
    parser.add_argument("--scheduler", help="sampler; the model's default")
    parser.add_argument("--guidance", type=float, help="guidance; the model's default")
    parser.add_argument("--prompts", type=int, default=3, help="full runs to learn from")
    parser.add_argument("--every", type=int, help="probe every so many steps; 17 in all")
    parser.add_argument(
        "--tries", type=int, default=TRIES, help="neighbours of a table to try, for every budget"
    )
    parser.add_argument(
        "--budgets", default=BUDGETS, help="shares of the work, with commas between", metavar="LIST"
    )
    parser.add_argument(
        "--check", type=int, default=0, help="then measure the plans on so many other prompts"
    )
    parser.add_argument(
        "--check-only", action="store_true", help="measure the plans that there are; find none"
    )
    parser.add_argument("--out", type=Path, help="file to write; step_plans.json in the folder")
    parser.add_argument("--device", default="auto", help="cuda, mps or cpu; auto by default")
    parser.add_argument("--json", type=Path, help="write the figures of the check here too")


def run(arguments: argparse.Namespace) -> int:
    """Find and write plans, then measure them; prints a table."""
    from latte_core.checkpoints import resolve_model

    budgets = _budgets(arguments.budgets)
    folder = resolve_model(arguments.model)
    if not arguments.check_only:
        target = arguments.out or _target(folder)
        _calibrate(folder, target, budgets, arguments)
        sys.stdout.write(f"{target}\n")
    if arguments.check_only or arguments.check:
        _check(folder, arguments)
    return 0


def _budgets(text: str) -> list[float]:
    """Shares above 0 and below 1. Raises RequestError for other text."""
    try:
        budgets = [float(part) for part in text.split(",")]
    except ValueError:
        budgets = []
    if not budgets or not all(0 < budget < 1 for budget in budgets):
        raise RequestError(
            "budgets", f"budgets is {text!r}, but must be shares between 0 and 1: 0.75,0.5."
        )
    return budgets


def _target(folder: Path) -> Path:
    """Where the plans of a folder go: into it, or beside the models that this project ships."""
    from latte_core.checkpoints.manifest import STEP_PLANS
    from latte_core.engine.plan_book import SHIPPED, plan_key

    if SHIPPED.parent in folder.resolve().parents:
        return SHIPPED / f"{plan_key(folder)}.json"
    return folder / STEP_PLANS


def _calibrate(
    folder: Path, target: Path, budgets: list[float], arguments: argparse.Namespace
) -> None:
    from latte_core.diffusion.step_plan import FULL
    from latte_core.engine.pipeline import open_pipeline
    from latte_core.engine.plan_book import write_plans
    from latte_core.engine.precision import REFERENCE

    pipeline = open_pipeline(folder, arguments.device, REFERENCE)
    defaults = pipeline.parts.defaults
    scheduler = arguments.scheduler or defaults.scheduler
    try:
        for steps in arguments.steps or [defaults.num_inference_steps]:
            settings = {
                "num_inference_steps": steps,
                "scheduler": scheduler,
                "guidance_scale": arguments.guidance,
                "plan": FULL,  # whatever the model's own, which may be the one to be found
            }
            plans = _find(pipeline, settings, budgets, arguments)
            notes = {"command": "python -m latte_core calibrate", "prompts": arguments.prompts}
            write_plans(folder, target, {(scheduler, steps): plans}, notes)
    finally:
        pipeline.policy.release()


def _find(
    pipeline: Pipeline,
    settings: dict[str, Any],
    budgets: list[float],
    arguments: argparse.Namespace,
) -> dict[str, StepPlan]:
    """Record, probe, search; fit the best few of every budget and the neighbours of the best."""
    from latte_core.calibration.follow import evenly, follow, improve
    from latte_core.calibration.samples import CALIBRATING_SEED, draw_samples
    from latte_core.calibration.search import search
    from latte_core.calibration.trajectory import gather_facts, record
    from latte_core.engine.engine import describe

    parts = pipeline.parts
    samples = draw_samples(describe(parts), arguments.prompts, CALIBRATING_SEED, settings)
    runs: list[Run] = []
    for sample in samples:
        _say(f"{settings['num_inference_steps']} steps: full run {len(runs) + 1}/{len(samples)}")
        resolved = sample.request.resolve(parts.defaults, parts.clip_lengths)
        parts.check(resolved)
        runs.append(record(pipeline, resolved))
    _say("what errors cost")
    scale = runs[0].conditions.guidance_scale
    every = arguments.every or max(1, settings["num_inference_steps"] // PROBES)
    facts = gather_facts(pipeline, runs, every, scale)
    found: dict[str, StepPlan] = {}
    for plans in search(facts, budgets, CANDIDATES):
        attempt = partial(follow, pipeline, runs)
        plans.append(evenly(plans[0].name, facts.calls, plans[0].rows))
        start = min(map(attempt, plans), key=lambda fitted: fitted[1])
        best, error = improve(*start, arguments.tries, attempt)
        _say(f"{best.name}: {best.rows} rows, squared error {start[1]:.2g}, then {error:.2g}")
        found[best.name] = best
    return found


def _check(folder: Path, arguments: argparse.Namespace) -> None:
    from latte_core import Engine
    from latte_core.calibration.check import HEADER, as_json, check_plans
    from latte_core.calibration.samples import CHECKING_SEED, draw_samples
    from latte_core.engine.precision import REFERENCE

    rows = []
    with Engine.load(folder, device=arguments.device, precision=REFERENCE) as engine:
        info = engine.describe()
        sys.stdout.write(HEADER + "\n")
        for steps in arguments.steps or [info.defaults.num_inference_steps]:
            settings = {
                "num_inference_steps": steps,
                "scheduler": arguments.scheduler,
                "guidance_scale": arguments.guidance,
            }
            samples = draw_samples(info, arguments.check or 8, CHECKING_SEED, settings)
            names = tuple(info.plan_shares(arguments.scheduler, steps))
            rows += check_plans(engine, samples, names, _print)
    if arguments.json:
        arguments.json.write_text(json.dumps(as_json(rows), indent=2) + "\n")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
