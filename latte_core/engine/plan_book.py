"""The step plans that a model offers: those that suit every model, and its own calibrated ones.

Calibrated plans stand in a JSON file: `step_plans.json` in the model's folder, which is no part of
the model's hash, or for a model that this repository ships in `assets/plans`, named after the hash
of transformer and scheduler, the two that a plan depends on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latte_core.checkpoints import model_hash
from latte_core.checkpoints.files import read_json, write_json
from latte_core.checkpoints.manifest import STEP_PLANS
from latte_core.diffusion.step_plan import BUILT_IN, FULL, StepPlan, from_text, to_text
from latte_core.errors import CheckpointError, ConfigError, RequestError

SHIPPED = Path(__file__).resolve().parents[2] / "assets" / "plans"
FORMAT = 1
DEPENDS_ON = ("transformer", "scheduler")  # folders whose content a plan was found for

# A sampler's name and a number of steps.
Setting = tuple[str, int]


@dataclass(frozen=True)
class PlanBook:
    """Plans by sampler and number of steps, then by name; built-in ones exist for all."""

    calibrated: Mapping[Setting, Mapping[str, StepPlan]] = field(default_factory=dict)

    def names(self, scheduler: str, num_inference_steps: int) -> tuple[str, ...]:
        """Names of the plans for a sampler and a number of steps, the full one first."""
        return (*BUILT_IN, *self.calibrated.get((scheduler, num_inference_steps), {}))

    def has(self, name: str, scheduler: str, num_inference_steps: int) -> bool:
        """Whether there is such a plan for a sampler and a number of steps."""
        return name in self.names(scheduler, num_inference_steps)

    def find(
        self, name: str, scheduler: str, num_inference_steps: int, calls: int | None = None
    ) -> StepPlan:
        """The plan of this name; `calls` is how often the sampler calls the network in all.

        Raises RequestError, with the names that there are, if it does not exist.
        """
        own = self.calibrated.get((scheduler, num_inference_steps), {})
        if name in own:
            plan = own[name]
            if calls is not None and len(plan.steps) != calls:
                raise RequestError(
                    "plan",
                    f"The plan {name} has {len(plan.steps)} steps, but {scheduler} calls the "
                    f"model {calls} times: calibrate again, or choose plan {FULL}.",
                )
            return plan
        if name in BUILT_IN:
            return BUILT_IN[name](num_inference_steps if calls is None else calls)
        names = ", ".join(self.names(scheduler, num_inference_steps))
        raise RequestError(
            "plan",
            f"plan is {name!r}, but {scheduler} with {num_inference_steps} steps has: {names}. "
            "Choose one of them, or make one with python -m latte_core calibrate.",
        )

    def shares(self, scheduler: str, num_inference_steps: int) -> dict[str, float]:
        """For every plan, the share of the full plan's rows that it runs, with guidance."""
        return {
            name: self.find(name, scheduler, num_inference_steps).share
            for name in self.names(scheduler, num_inference_steps)
        }

    def nearest(self, budget: float, scheduler: str, num_inference_steps: int) -> str:
        """The plan whose share comes nearest to a budget from 0 to 1.

        Of equals a calibrated one is taken. Raises RequestError for another budget.
        """
        if not 0 <= budget <= 1:
            raise RequestError(
                "budget", f"budget is {budget:g}, but must be a share from 0 to 1, such as 0.5."
            )
        own = self.calibrated.get((scheduler, num_inference_steps), {})
        shares = self.shares(scheduler, num_inference_steps)
        return min(shares, key=lambda name: (abs(shares[name] - budget), name not in own))


def read_plans(folder: Path) -> PlanBook:
    """The plans of a model folder: its own file, else the one that is shipped for its weights.

    Raises CheckpointError for a damaged file, or one that was made for other weights.
    """
    key = plan_key(folder)
    own = folder / STEP_PLANS
    path = own if own.is_file() else SHIPPED / f"{key}.json"
    return read_plans_of(path, key) if path.is_file() else PlanBook()


def read_plans_of(path: Path, key: str) -> PlanBook:
    """The plans of one file for the weights that `key` names. Raises CheckpointError."""
    data = read_json(path)
    try:
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']!r} instead of {FORMAT}")
        made_for = data["made_for"]
        tables = [_read_table(table) for table in data["tables"]]
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise CheckpointError(
            f"{path} is damaged ({type(error).__name__}: {error}). Remove it, or make it again "
            "with python -m latte_core calibrate."
        ) from error
    if made_for != key:
        raise CheckpointError(
            f"{path} was made for other weights ({made_for} instead of {key}). Remove it, or make "
            "it again with python -m latte_core calibrate."
        )
    return PlanBook(dict(tables))


def write_plans(
    folder: Path, path: Path, tables: Mapping[Setting, Mapping[str, StepPlan]], notes: Any
) -> None:
    """Write calibrated plans of a model folder, whole or not at all; `notes` is anything JSON-able.

    What the file held for other samplers and numbers of steps stays.
    """
    former = read_plans_of(path, plan_key(folder)).calibrated if path.is_file() else {}
    data = {
        "format": FORMAT,
        "made_for": plan_key(folder),
        "notes": notes,
        "tables": [
            {
                "scheduler": scheduler,
                "num_inference_steps": steps,
                "plans": {
                    name: {"share": plan.share, "steps": [to_text(step) for step in plan.steps]}
                    for name, plan in plans.items()
                },
            }
            for (scheduler, steps), plans in sorted({**former, **tables}.items())
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, data)


def plan_key(folder: Path) -> str:
    """Names the weights and the noise levels that plans are found for."""
    return model_hash(folder, DEPENDS_ON)


def _read_table(data: dict[str, Any]) -> tuple[Setting, dict[str, StepPlan]]:
    plans = {}
    for name, entry in data["plans"].items():
        if name in BUILT_IN:
            raise ValueError(f"{name} is the name of a built-in plan")
        plans[name] = StepPlan(name, tuple(from_text(step) for step in entry["steps"]))
    scheduler, steps = data["scheduler"], data["num_inference_steps"]
    if not isinstance(scheduler, str) or type(steps) is not int:
        raise ValueError(f"no setting: {scheduler!r}, {steps!r}")
    return (scheduler, steps), plans
