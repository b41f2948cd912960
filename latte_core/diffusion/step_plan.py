"""Which steps run the network, which only half of it, and which not at all: a table made ahead.

A plan has one entry per call of the network. Guidance needs two rows, the prompt's and the
negative prompt's; an entry may leave out the second, or both:

    both      both rows, as always
    prompt    the prompt's row; the guidance difference is extrapolated from the last ones, or
              left out where the entry has no weights (guidance in an interval of the steps)
    reuse     no row; the noise that the network sees is extrapolated from the last evaluations

What an evaluated step does with its noise may be mended by the noises before it: its own and
theirs, each with a weight. So a step behind left-out ones sets right what these did wrong, and
takes the next ones into account, which costs no row (a linear multistep method, arXiv 2302.04867).

Since the table is static, nothing is decided while a run goes on, and what it saves is known
before. Sources: guidance in an interval, arXiv 2404.07724; guidance from a cached difference,
arXiv 2410.19355; a static table found by its final error, arXiv 2511.00090. Needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from latte_core.errors import ConfigError

Evaluation = Literal["both", "prompt", "reuse"]
EVALUATIONS: tuple[str, ...] = get_args(Evaluation)
ROWS: dict[str, int] = {"both": 2, "prompt": 1, "reuse": 0}
FULL = "full"
MAX_ORDER = 2  # a parabola through the last three; higher orders only amplify noise
MAX_WEIGHT = 16.0  # order 2 over a gap of two steps needs 10; more is a damaged file


@dataclass(frozen=True)
class PlannedStep:
    """One entry: what is evaluated, and the weights of what is remembered, the newest first.

    `weights` are those of the guidance differences (prompt) or of the guided noise (reuse). `mix`
    are those of the step's own guided noise and of the ones before it; without it the own noise is
    taken as it is. Raises ConfigError for what cannot be carried out.
    """

    evaluation: Evaluation
    weights: tuple[float, ...] = ()
    mix: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.evaluation not in EVALUATIONS:
            raise ConfigError(
                f"A step evaluates {self.evaluation!r}, but must be one of: "
                f"{', '.join(EVALUATIONS)}."
            )
        few = {"both": 0, "prompt": 0, "reuse": 1}[self.evaluation]
        most = 0 if self.evaluation == "both" else MAX_ORDER + 1
        if not few <= len(self.weights) <= most:
            raise ConfigError(
                f"A step that evaluates {self.evaluation} has {len(self.weights)} weights, but "
                f"must have {few} to {most}."
            )
        most = 0 if self.evaluation == "reuse" else MAX_ORDER + 2
        if len(self.mix) > most:
            raise ConfigError(
                f"A step that evaluates {self.evaluation} mixes {len(self.mix)} noises, but "
                f"may mix {most} at most."
            )
        told = (*self.weights, *self.mix)
        if not all(math.isfinite(w) and abs(w) <= MAX_WEIGHT for w in told):
            raise ConfigError(
                f"The weights of a step are {list(told)}, but each must be a number from "
                f"-{MAX_WEIGHT:g} to {MAX_WEIGHT:g}."
            )

    @property
    def order(self) -> int:
        """Order of the extrapolation: 0 repeats the last, 1 follows a line; -1 without any."""
        return len(self.weights) - 1


BOTH = PlannedStep("both")
UNGUIDED = PlannedStep("prompt")


@dataclass(frozen=True)
class StepPlan:
    """A name and an entry for every call of the network in a run.

    Raises ConfigError for entries that read more than was remembered before them.
    """

    name: str
    steps: tuple[PlannedStep, ...]

    def __post_init__(self) -> None:
        differences = noises = 0
        for index, step in enumerate(self.steps, start=1):
            known = differences if step.evaluation == "prompt" else noises
            for read, there in ((len(step.weights), known), (len(step.mix) - 1, noises)):
                if read > there:
                    raise ConfigError(
                        f"Step {index} of the plan {self.name} reads {read} remembered values, but "
                        f"there are {there}: evaluate more before it."
                    )
            differences += step.evaluation == "both"
            noises += step.evaluation != "reuse"

    @property
    def rows(self) -> int:
        """Rows that the network runs with guidance; 2 a step in the full plan."""
        return sum(ROWS[step.evaluation] for step in self.steps)

    @property
    def calls(self) -> int:
        """Calls of the network; without guidance each is one row."""
        return sum(step.evaluation != "reuse" for step in self.steps)

    @property
    def share(self) -> float:
        """Rows of the full plan's that this one runs, with guidance; 1 saves nothing."""
        return self.rows / (2 * max(1, len(self.steps)))

    def evaluating(self, index: int) -> StepPlan:
        """The same plan up to entry `index`, counted from 0, which evaluates both rows."""
        return StepPlan(self.name, (*self.steps[:index], BOTH))

    def remembered(self, evaluation: Evaluation) -> int:
        """How many guided noises (reuse) or guidance differences (prompt) have to be kept."""
        read = [len(s.weights) for s in self.steps if s.evaluation == evaluation]
        mixed = [len(s.mix) - 1 for s in self.steps] if evaluation == "reuse" else []
        return max([0, *read, *mixed])

    def extra_bytes(self, latents: Sequence[int], learned_variance: bool) -> int:
        """Memory for what is remembered, for latents of this shape in float32.

        With a learned variance the last one is kept too, which is as large.
        """
        noises, differences = self.remembered("reuse"), self.remembered("prompt")
        variance = int(learned_variance and noises > 0)
        return 4 * math.prod(latents) * (noises + differences + variance)


def extrapolation(position: int, known: Sequence[int], order: int) -> tuple[float, ...]:
    """Weights that carry a polynomial through the last `order + 1` of `known` on to `position`.

    `known` are indices of steps, ascending; the weights belong to them from the newest backwards
    and sum to 1. With fewer known the order is lower. Source: Lagrange's formula.
    """
    nodes = list(known[::-1][: order + 1])
    return tuple(
        math.prod((position - other) / (node - other) for other in nodes if other != node)
        for node in nodes
    )


def tabulate(name: str, evaluations: Sequence[Evaluation], order: int = 0) -> StepPlan:
    """A plan from what is evaluated at every step; what is left out is extrapolated.

    `order` is that of the noise; guidance differences are repeated as they were.
    """
    evaluated: list[int] = []
    steps = []
    for index, evaluation in enumerate(evaluations):
        if evaluation == "both":
            steps.append(BOTH)
        elif evaluation == "prompt":
            steps.append(PlannedStep("prompt", (1.0,)))
        else:
            steps.append(PlannedStep("reuse", extrapolation(index, evaluated, order)))
        if evaluation != "reuse":
            evaluated.append(index)
    return StepPlan(name, tuple(steps))


def full(total: int) -> StepPlan:
    """Every row of every step."""
    return StepPlan(FULL, (BOTH,) * total)


def interval(total: int) -> StepPlan:
    """Guidance in the first 70 % of the steps, where the prompt decides what is seen.

    Late steps draw detail, which guidance hardly changes (arXiv 2404.07724, 2506.08351). Its other
    end, early steps without guidance, loses the motion of the bundled model and is left out.
    """
    guided = math.ceil(0.7 * total)
    return StepPlan("interval", (BOTH,) * guided + (UNGUIDED,) * (total - guided))


def guidance_cache(total: int) -> StepPlan:
    """After the first third, both rows in every third step only, the last one included."""
    return tabulate("guidance-cache", _cached(total))


def alternate(total: int) -> StepPlan:
    """After the first quarter every other step follows the line of the last two evaluations."""
    return tabulate("alternate", _alternating(total, _both(total)), order=1)


def alternate_cache(total: int) -> StepPlan:
    """Both savings at once: every other step, and guidance from a cached difference."""
    return tabulate("alternate-cache", _alternating(total, _cached(total, 4)), order=1)


def _both(total: int) -> list[Evaluation]:
    return ["both"] * total


def _cached(total: int, every: int = 3) -> list[Evaluation]:
    start = math.ceil(total / 3)
    return [
        "both" if index < start or (total - 1 - index) % every == 0 else "prompt"
        for index in range(total)
    ]


def _alternating(total: int, evaluations: list[Evaluation]) -> list[Evaluation]:
    start = max(2, math.ceil(total / 4))
    return [
        "reuse" if index >= start and (total - 1 - index) % 2 == 1 else evaluation
        for index, evaluation in enumerate(evaluations)
    ]


# Plans that suit every model, sampler and number of steps, by their names.
BUILT_IN: Mapping[str, Callable[[int], StepPlan]] = {
    FULL: full,
    "interval": interval,
    "guidance-cache": guidance_cache,
    "alternate": alternate,
    "alternate-cache": alternate_cache,
}


def to_text(step: PlannedStep) -> str:
    """An entry as it stands in a file: `reuse 2 -1`, or with a mix `prompt 1 | 1.1 -0.1`."""
    weights, mix = ([f"{weight:.6g}" for weight in part] for part in (step.weights, step.mix))
    return " ".join([step.evaluation, *weights, *(("|", *mix) if mix else ())])


def from_text(text: Any) -> PlannedStep:
    """An entry of a file. Raises ConfigError for what is none."""
    own, _, mixed = text.partition("|") if isinstance(text, str) else ("", "", "")
    words = own.split()
    try:
        evaluation: Any = words[0]
        weights, mix = (tuple(float(one) for one in part) for part in (words[1:], mixed.split()))
        return PlannedStep(evaluation, weights, mix)
    except (IndexError, ValueError) as error:
        raise ConfigError(
            f"A step of a plan is {text!r}, but must be like 'both', 'prompt 1' or 'reuse 2 -1'."
        ) from error
