"""What an engine says while it works, and what it hands over. Numpy only, no torch."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from latte_core.components.vocabulary import put_nearest
from latte_core.errors import RequestError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from latte_core.checkpoints import Defaults
    from latte_core.engine.inspection import Inspected
    from latte_core.engine.outlook import MemoryOutlook
    from latte_core.engine.plan_book import PlanBook
    from latte_core.model.config import Conditioning


@dataclass(frozen=True)
class Loading:
    """A part of the model is being read. `fraction` is the share done, None if unknown.

    In stage `fetch` the model comes from the hub: `bytes_done` of `bytes_total` are there, and the
    fraction is the download's own.
    """

    stage: str
    message: str
    fraction: float | None = None
    bytes_done: int = 0
    bytes_total: int = 0


@dataclass(frozen=True)
class Encoded:
    """The prompt is encoded.

    `unknown_words` are those that a closed vocabulary lacks; `suggestions` has the nearest known
    word for some of them.
    Models that read no prompt say so too, with 0 tokens. `plan` is the step plan that is followed;
    `missing_plan` the model's own, where it was not found for what the request asks.
    """

    tokens: int
    unknown_words: tuple[str, ...]
    seconds: float
    suggestions: dict[str, str] = field(default_factory=dict)
    plan: str = "full"
    missing_plan: str = ""

    def reworded(self, prompt: str) -> str:
        """The prompt with the nearest known words in place of unknown ones; "" if none changes."""
        reworded = put_nearest(prompt, self.suggestions)
        return reworded if reworded != prompt else ""


@dataclass(frozen=True, eq=False)
class Step:
    """One denoising step is done; index 0 comes before `Encoded` and shows the seed's noise.

    preview uint8 (F, h, w, 3) and stills uint8 (I, h, w, 3) show the model's present estimate of
    the final picture, one pixel a latent. `seconds` is this step's duration, `eta_s` the time
    that the remaining steps should take, None until two steps were timed.
    """

    index: int
    total: int
    preview: NDArray[np.uint8]
    stills: NDArray[np.uint8]
    seconds: float
    eta_s: float | None


@dataclass(frozen=True)
class Decoding:
    """`index` of `total` frames (stills included) are turned into pixels."""

    index: int
    total: int


@dataclass(frozen=True)
class SteppedDown:
    """Memory ran out; the job begins again with a memory plan that needs less.

    `plan` is its name, `sentence` says what happened and what it needs, in GiB. The steps that come
    now start from the first, with the same seed.
    """

    plan: str
    sentence: str


@dataclass(frozen=True, eq=False)
class Generation:
    """What came out.

    frames uint8 (F, H, W, 3): the clip, or the first still in mode image; stills: uint8
    (H, W, 3) each. latents and initial_latents (unit noise) are float32 (1, C, F, h, w) of the
    clip, or of the stills along the frame axis in mode image. timings are seconds by stage;
    recipe is JSON-able and makes the same video again. memory_gib holds what was in use on the
    model's device `before` and `after` the run, and its `peak` (at a step or a frame on the CPU).
    """

    frames: NDArray[np.uint8]
    stills: tuple[NDArray[np.uint8], ...]
    latents: NDArray[np.float32]
    initial_latents: NDArray[np.float32]
    seed: int
    fps: int
    timings: dict[str, float]
    recipe: dict[str, Any]
    memory_gib: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """The last event of a job that ran to its end."""

    generation: Generation


# As text: inspection.py imports this module.
Event: TypeAlias = "Loading | Encoded | Step | Decoding | SteppedDown | Finished | Inspected"


@dataclass(frozen=True)
class EngineInfo:
    """What an engine is made of: for the page, the command line and recipes.

    `plan` is a sentence with sizes in GiB; `clip_lengths` the numbers of frames that it can make;
    `card` the model's own description from its manifest, {} if it has none. `conditioning` is what
    the model is told: a prompt (text), a class (class) or nothing (none); `classes` are the names
    of a class model's classes in the order of their labels, their numbers where it has no names.
    `step_plans` knows the step plans of every sampler and number of steps.
    `turbo` says that there is a few-step transformer beside the full one. Clips of more than
    `trained_frames` are made in windows; `tempos` are the ways to do it, the default first.
    Height and width are multiples of `size_multiple` pixels. `memory` is of the engine as it is
    now: it forecasts what a request needs, and places the model by a smaller plan.
    """

    model: str
    model_hash: str
    device: str
    plan: str
    defaults: Defaults
    schedulers: tuple[str, ...]
    modes: tuple[str, ...]
    clip_lengths: tuple[int, ...]
    card: dict[str, Any] = field(default_factory=dict)
    conditioning: Conditioning = "text"
    classes: tuple[str, ...] = ()
    step_plans: PlanBook | None = None
    turbo: bool = False
    trained_frames: int = 16
    tempos: tuple[str, ...] = ()
    size_multiple: int = 16
    memory: MemoryOutlook | None = None

    def borders(self, num_frames: int) -> tuple[int, ...]:
        """Frames of a longer clip at which a window starts, or the one before has ended."""
        from latte_core.engine.windows import window_starts

        if num_frames <= self.trained_frames:
            return ()
        tube = self.clip_lengths[-1] - self.clip_lengths[-2]
        starts = window_starts(num_frames, self.trained_frames, tube)
        ends = {start + self.trained_frames for start in starts[:-1]}
        return tuple(sorted(ends | set(starts[1:])))

    @property
    def plans(self) -> tuple[str, ...]:
        """Names of the step plans for the default sampler and steps, "full" first."""
        return tuple(self.plan_shares())

    def plan_shares(
        self, scheduler: str | None = None, num_inference_steps: int | None = None
    ) -> dict[str, float]:
        """Every plan for a sampler and steps (the defaults' if not given), and its share of work.

        The share is that of the rows of the full plan which the network runs, with guidance.
        """
        if self.step_plans is None:
            return {"full": 1.0}
        return self.step_plans.shares(
            scheduler or self.defaults.scheduler,
            num_inference_steps or self.defaults.num_inference_steps,
        )

    def nearest_plan(
        self,
        budget: float,
        scheduler: str | None = None,
        num_inference_steps: int | None = None,
    ) -> str:
        """The plan whose share of work comes nearest to `budget`, from 0 to 1.

        Raises RequestError for a budget outside of it.
        """
        if self.step_plans is None:
            return "full"
        return self.step_plans.nearest(
            budget,
            scheduler or self.defaults.scheduler,
            num_inference_steps or self.defaults.num_inference_steps,
        )

    @property
    def default_share(self) -> float:
        """Share of the work that the model's own step plan does, for its own sampler and steps."""
        return self.plan_shares().get(self.defaults.plan, 1.0)

    def class_index(self, name: str) -> int:
        """The label of a class by its name, or by its number from 0.

        Names are compared without case, spaces, hyphens and underscores. Raises RequestError that
        names the closest classes.
        """
        plain = {_plain(known): label for label, known in reversed([*enumerate(self.classes)])}
        if _plain(name) in plain and not name.strip().isdecimal():
            return plain[_plain(name)]
        if name.strip().isdecimal() and len(name) < 9 and int(name) < len(self.classes):
            return int(name)
        if not self.classes:
            raise RequestError(
                "class_label",
                f"There is no class {name[:40]!r}: this model knows no classes, so leave it out.",
            )
        near = difflib.get_close_matches(_plain(name[:100]), plain, n=3)
        closest = ", ".join(f"{self.classes[plain[one]]} ({plain[one]})" for one in near)
        raise RequestError(
            "class_label",
            f"There is no class {name[:40]!r} among the {len(self.classes)} of this model: give a "
            f"name or a number from 0 to {len(self.classes) - 1}"
            + (f"; the closest are {closest}." if closest else "."),
        )


def _plain(name: str) -> str:
    """A class's name as it is compared."""
    return "".join(sign for sign in name.casefold() if sign not in " -_")
