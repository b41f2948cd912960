"""What a caller may ask for, and the only place where it is checked.

Page, API and command line all build a `GenerationRequest`; once it exists, every value is known
to be of the right type and inside its limits. Needs neither torch nor numpy.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from latte_core.diffusion.schedulers import SCHEDULERS
from latte_core.engine import values
from latte_core.engine.start_picture import check_picture
from latte_core.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latte_core.checkpoints import Defaults
    from latte_core.model.config import Conditioning

Mode = Literal["video", "image", "joint"]
MODES: tuple[str, ...] = get_args(Mode)
TEMPOS = ("stretch", "steady")

OPTIONAL_WHOLE = ("seed", "num_inference_steps", "num_frames", "height", "width", "class_label")
# Latte-1's full clip at the 250 steps of the paper's samples: frames x height x width x steps.
MAX_WORK = 16 * 512 * 512 * 250
DEFAULT_STILLS = {"video": 0, "image": 1, "joint": 4}


@dataclass(frozen=True)
class GenerationRequest:
    """One thing to generate. None stands for the model's own default (a fresh one for the seed).

    Modes: `video` is a clip, `image` is `num_images` stills (1 if 0), `joint` is a clip and
    `num_images` stills (4 if 0) in one pass. Still i starts from the noise of frame i of the
    clip of `num_frames` frames with the same seed, in both modes.

    A text model is told a `prompt`, a class model a `class_label` (0, 1, ...), an unconditional
    model neither. `image_class_labels` are the stills' own classes, one each, `image_prompts` their
    own prompts, "" being the clip's; without them they have the clip's.

    `plan` names a step plan of the model, which saves work where the result changes least; "full"
    leaves nothing out. `EngineInfo.plans` are the names, which depend on sampler and steps. The
    default is the model's own, or "full" for what it was not found for: stills, other samplers,
    steps, sizes, lengths and start pictures.
    `turbo` takes the model's few-step transformer, which has guidance built in.

    A clip longer than the model was trained on has a `tempo`: one motion stretched over it, or
    steady, at the trained speed. `EngineInfo.tempos` has the model's own first.

    `first_frame` is a picture that the clip begins with, as a data URL; `load_picture` makes it of
    a file.
    Raises RequestError, which names the field, for any value outside its limits.
    """

    prompt: str = ""
    negative_prompt: str = ""
    mode: Mode = "video"
    num_images: int = 0
    seed: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    scheduler: str | None = None
    class_label: int | None = None
    image_class_labels: tuple[int, ...] = ()
    image_prompts: tuple[str, ...] = ()
    plan: str | None = None
    turbo: bool = False
    tempo: str | None = None
    first_frame: str | None = None

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {
            "prompt": values.one_line("prompt", self.prompt),
            "negative_prompt": values.one_line("negative_prompt", self.negative_prompt),
            "mode": values.choice("mode", self.mode, MODES),
            "num_images": values.whole("num_images", self.num_images),
            "image_class_labels": values.label_list(self.image_class_labels),
            "image_prompts": values.prompt_list(self.image_prompts),
        }
        if not isinstance(self.turbo, bool):
            raise RequestError(
                "turbo", f"turbo must be true or false, not {values.shown(self.turbo)}."
            )
        for name in OPTIONAL_WHOLE:
            value = getattr(self, name)
            checked[name] = None if value is None else values.whole(name, value)
        if self.guidance_scale is not None:
            checked["guidance_scale"] = values.guidance(self.guidance_scale)
        if self.scheduler is not None:
            checked["scheduler"] = values.choice("scheduler", self.scheduler, tuple(SCHEDULERS))
        if self.plan is not None:
            checked["plan"] = values.plain_name("plan", self.plan)
        if self.tempo is not None:
            checked["tempo"] = values.choice("tempo", self.tempo, TEMPOS)
        if self.first_frame is not None:
            checked["first_frame"] = check_picture(self.first_frame)
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        self._check_together()

    def resolve(
        self, defaults: Defaults, clip_lengths: Sequence[int] | None = None
    ) -> GenerationRequest:
        """Fill every None: the seed with a fresh one, the rest from the model's defaults.

        `clip_lengths` are the numbers of frames that the model can make; one frame and its
        default number if not given.
        """
        filled = replace(
            self,
            num_images=self.stills,
            seed=secrets.randbelow(values.MAX_SEED + 1) if self.seed is None else self.seed,
            num_inference_steps=self.num_inference_steps or defaults.num_inference_steps,
            guidance_scale=self.guidance_scale or defaults.guidance_scale,
            num_frames=self.num_frames or defaults.num_frames,
            height=self.height or defaults.height,
            width=self.width or defaults.width,
            scheduler=self.scheduler or defaults.scheduler,
            plan=self.plan or defaults.plan,
        )
        lengths = clip_lengths or (1, defaults.num_frames)
        if filled.num_frames not in lengths:
            raise RequestError(
                "num_frames",
                f"num_frames is {filled.num_frames}, but this model makes clips of "
                f"{values.ranges(lengths)} frames: choose one of these.",
            )
        return filled

    @property
    def stills(self) -> int:
        """Still images that come out."""
        own = len(self.image_class_labels) or len(self.image_prompts)
        return self.num_images or own or DEFAULT_STILLS[self.mode]

    def check_conditioning(self, conditioning: Conditioning, classes: Sequence[str] = ()) -> None:
        """Check that a model of this kind is told what it needs, and nothing that it cannot read.

        `classes` are the names of a class model's classes, in the order of their labels.
        Raises RequestError that names the field.
        """
        told_classes = self.class_label is not None or self.image_class_labels
        if conditioning == "text":
            if told_classes:
                raise RequestError(
                    "class_label",
                    "class_label is set, but this model reads a prompt and knows no classes: "
                    "leave it out and describe the video.",
                )
            if not self.prompt:
                raise RequestError(
                    "prompt",
                    "prompt is empty: describe the video in 1 to "
                    f"{values.MAX_PROMPT_CHARS} characters.",
                )
            return
        told = (self.prompt, self.negative_prompt, "".join(self.image_prompts))
        for name, value in zip(("prompt", "negative_prompt", "image_prompts"), told, strict=True):
            if value:
                instead = "choose a class" if conditioning == "class" else "leave it empty"
                raise RequestError(
                    name,
                    f"{name} is {values.shown(value)}, but this model reads no text: {instead}.",
                )
        if conditioning == "class":
            self._check_labels(classes)
        elif told_classes:
            raise RequestError(
                "class_label",
                "class_label is set, but this model is unconditional and has no classes: "
                "leave it out.",
            )
        elif (self.guidance_scale or 1.0) > 1:
            raise RequestError(
                "guidance_scale",
                f"guidance_scale is {self.guidance_scale:g}, but this model is unconditional and "
                "has nothing to be guided by: leave it out or set it to 1.",
            )

    def _check_labels(self, classes: Sequence[str]) -> None:
        last = len(classes) - 1
        if self.class_label is None:
            few = ", ".join(f"{label} {name[:30]}" for label, name in enumerate(classes[:3]))
            raise RequestError(
                "class_label",
                f"class_label is missing: this model makes {len(classes)} classes ({few}, ...), so "
                f"choose one from 0 to {last}.",
            )
        for name, label in (
            ("class_label", self.class_label),
            *(("image_class_labels", label) for label in self.image_class_labels),
        ):
            if label > last:
                raise RequestError(
                    name,
                    f"{name} has {label}, but this model makes {len(classes)} classes: choose from "
                    f"0 to {last}.",
                )

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, JSON-able."""
        return asdict(self)

    def _check_together(self) -> None:
        """Limits that involve more than one field."""
        if self.mode == "video" and self.num_images:
            raise RequestError(
                "num_images",
                f"num_images is {self.num_images}, but mode video makes no stills: leave it at 0 "
                "or choose mode image or joint.",
            )
        if self.first_frame and (self.mode == "image" or self.num_frames == 1):
            raise RequestError(
                "first_frame",
                "first_frame is set, but nothing moves in a still: choose mode video or joint and "
                "more than one frame, or leave it out.",
            )
        self._check_classes()
        self._check_turbo()
        stills = self.stills
        if self.mode == "joint" and self.num_frames is not None and stills > self.num_frames:
            raise RequestError(
                "num_images",
                f"num_images is {stills}: stills cannot start from the first frames of a clip of "
                f"{self.num_frames}: ask for at most {self.num_frames} stills or more frames.",
            )
        clip = 0 if self.mode == "image" else self.num_frames or 1
        work = (clip + stills) * (self.height or 32) * (self.width or 32)
        work *= self.num_inference_steps or 1
        # The stills of joint mode come on top of the largest clip that is allowed.
        allowed = MAX_WORK + (MAX_WORK * values.MAX_IMAGES // 16 if stills else 0)
        if work > allowed:
            raise RequestError(
                "num_inference_steps",
                f"Frames x height x width x steps is {work:,}, the limit is {allowed:,}: "
                "lower the steps, the size or the number of frames.",
            )

    def _check_turbo(self) -> None:
        """Guidance is built into the turbo transformer, and with it no negative prompt."""
        if self.turbo and (self.guidance_scale or 1.0) > 1:
            raise RequestError(
                "guidance_scale",
                f"guidance_scale is {self.guidance_scale:g}, but turbo has its guidance built in: "
                "leave it out or set it to 1.",
            )
        if self.turbo and self.plan not in (None, "full"):
            raise RequestError(
                "plan",
                f"plan is {values.shown(self.plan)}, but plans are found for the full transformer, "
                "not for turbo: leave it out, or turn turbo off.",
            )
        if self.turbo and self.negative_prompt:
            raise RequestError(
                "negative_prompt",
                f"negative_prompt is {values.shown(self.negative_prompt)}, but turbo has its "
                "guidance built in and leads away from nothing: leave it empty, or turn turbo off.",
            )

    def _check_classes(self) -> None:
        """A class or a prompt, and one of either for each still."""
        if self.class_label is not None and (self.prompt or self.negative_prompt):
            raise RequestError(
                "class_label",
                "class_label is set and there is a prompt as well: give a class to a class model, "
                "a prompt to a text model.",
            )
        for name, what in (("image_class_labels", "classes"), ("image_prompts", "prompts")):
            own = len(getattr(self, name))
            if own and self.mode == "video":
                raise RequestError(
                    name,
                    f"{name} holds {own} {what}, but mode video makes no stills: leave it out or "
                    "choose mode image or joint.",
                )
            if own and own != self.stills:
                raise RequestError(
                    name, f"{name} holds {own} {what} for {self.stills} stills: give one each."
                )
