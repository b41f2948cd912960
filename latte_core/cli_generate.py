"""The command `generate`: a prompt or a class in, files out, a progress bar on stderr."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from latte_core.diffusion.step_plan import FULL
from latte_core.engine.events import (
    Decoding,
    Encoded,
    EngineInfo,
    Event,
    Finished,
    Generation,
    Loading,
    Step,
    SteppedDown,
)
from latte_core.engine.request import MODES, GenerationRequest
from latte_core.engine.start_picture import load_picture
from latte_core.errors import LatteError, MediaError, RequestError
from latte_core.media import check_target, write_clip, write_still

BUNDLED_MODEL = Path(__file__).parents[1] / "assets" / "latte-world"
BAR_WIDTH = 24
# Option: (field of GenerationRequest, help). All are checked by the request itself.
OPTIONS = {
    "--negative-prompt": ("negative_prompt", "what the video should not show"),
    "--mode": ("mode", f"one of {', '.join(MODES)}"),
    "--images": ("num_images", "number of stills in mode image or joint"),
    "--seed": ("seed", "whole number; the same seed makes the same video"),
    "--steps": ("num_inference_steps", "denoising steps"),
    "--guidance": ("guidance_scale", "how closely to follow the prompt"),
    "--frames": ("num_frames", "length of the clip"),
    "--height": ("height", "in pixels, a multiple of 16"),
    "--width": ("width", "in pixels, a multiple of 16"),
    "--scheduler": ("scheduler", "sampler, such as ddim, dpm++2m or unipc"),
    "--tempo": ("tempo", "of a clip longer than trained: stretch one motion, or steady speed"),
    "--plan": ("plan", "step plan, such as full, guidance-cache or budget-50"),
}
TEXT_FIELDS = ("negative_prompt", "mode", "scheduler", "plan", "tempo")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `generate` to its parser."""
    parser.add_argument("prompt", nargs="?", default="", help="what the video shows")
    parser.add_argument(
        "--class",
        dest="class_name",
        help="class of the video, for a class model: its name or its number from 0",
        metavar="NAME_OR_NUMBER",
    )
    parser.add_argument(
        "--image-classes",
        help="classes of the stills, one each, with commas between; the video's if not given",
        metavar="LIST",
    )
    parser.add_argument(
        "--image-prompt",
        action="append",
        default=[],
        dest="image_prompts",
        help="a still's own prompt, '' for the video's; once for each still, in their order",
        metavar="PROMPT",
    )
    parser.add_argument(
        "--out", type=Path, help="file to write: .mp4, or .png in mode image", metavar="FILE"
    )
    parser.add_argument(
        "--first-frame",
        help="picture that the clip begins with: PNG, JPEG or WebP, or a data URL of one",
        metavar="FILE",
    )
    for option, (field, text) in OPTIONS.items():
        parser.add_argument(option, dest=field, help=text, metavar="VALUE")
    parser.add_argument(
        "--budget",
        type=float,
        help="share of the work to do, 0 to 1: takes the step plan that comes nearest",
        metavar="SHARE",
    )
    parser.add_argument(
        "--turbo", action="store_true", help="few steps with guidance built in, if the model can"
    )
    parser.add_argument("--model", default=str(BUNDLED_MODEL), help="model folder or hub id")
    parser.add_argument("--lora", help="LoRA file in diffusers' format, or its folder")
    parser.add_argument("--memory", default="auto", help="memory plan, auto by default")
    parser.add_argument("--device", default="auto", help="cuda, mps or cpu; auto by default")
    parser.add_argument(
        "--precision",
        default="auto",
        help="fp32, bf16, fp16, fp16-accumulate or fp8; auto is fp16 on a GPU, on a CPU "
        "bf16 where it has a unit for it, else fp32",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the blocks first: a minute or so, for faster steps",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(arguments: argparse.Namespace) -> int:
    """Generate, write the files, print their paths; returns 0."""
    from latte_core.engine.engine import Engine

    request = _request(arguments)
    target = _target(arguments.out, request)
    progress = Progress(sys.stderr, arguments.quiet)
    with (
        Engine.load(
            arguments.model,
            arguments.memory,
            arguments.device,
            progress.show,
            arguments.lora,
            precision=arguments.precision,
        ) as engine,
        _stop_on_interrupt() as stop,
    ):
        if arguments.compile:
            engine.compile(progress.show)
        info = engine.describe()
        request = _with_plan(_with_classes(request, arguments, info), arguments, info)
        request = _with_picture(request, arguments, info)
        job = engine.submit(request)
        for event in job.events():
            if stop.is_set():
                job.cancel()
            progress.show(event)
            if isinstance(event, Finished):
                progress.close()
                for path in _write(event.generation, target, request.mode):
                    print(path)  # noqa: T201 - the command's answer
                return 0
    raise LatteError("The job ended without a result.")


def _request(arguments: argparse.Namespace) -> GenerationRequest:
    """The request, checked before the model is read; classes stand at 0 until their names are."""
    fields: dict[str, Any] = {"turbo": arguments.turbo}
    if arguments.first_frame is not None:  # so that a wrong file is found before the model is read
        fields["first_frame"] = _picture(arguments.first_frame, 64, 64)
    if arguments.class_name is not None:
        fields["class_label"] = 0
    if arguments.image_classes is not None:
        fields["image_class_labels"] = (0,) * len(arguments.image_classes.split(","))
    for field, _ in OPTIONS.values():
        value = getattr(arguments, field)
        if value is not None:
            fields[field] = value if field in TEXT_FIELDS else _number(value)
    return GenerationRequest(
        arguments.prompt, image_prompts=tuple(arguments.image_prompts), **fields
    )


def _with_classes(
    request: GenerationRequest, arguments: argparse.Namespace, info: EngineInfo
) -> GenerationRequest:
    """The request with the numbers of the classes that were named."""
    if arguments.class_name is not None:
        request = replace(request, class_label=info.class_index(arguments.class_name))
    if arguments.image_classes is not None:
        labels = tuple(info.class_index(name) for name in arguments.image_classes.split(","))
        request = replace(request, image_class_labels=labels)
    return request


def _with_plan(
    request: GenerationRequest, arguments: argparse.Namespace, info: EngineInfo
) -> GenerationRequest:
    """The request with the step plan that comes nearest to the budget."""
    if arguments.budget is None:
        return request
    if request.plan is not None:
        raise RequestError(
            "budget",
            f"budget is {arguments.budget:g} and plan is {request.plan}: a budget chooses the "
            "plan, so give one of the two.",
        )
    steps = request.num_inference_steps
    return replace(request, plan=info.nearest_plan(arguments.budget, request.scheduler, steps))


def _with_picture(
    request: GenerationRequest, arguments: argparse.Namespace, info: EngineInfo
) -> GenerationRequest:
    """The request with its start picture at the clip's size."""
    if arguments.first_frame is None:
        return request
    height = request.height or info.defaults.height
    width = request.width or info.defaults.width
    return replace(request, first_frame=_picture(arguments.first_frame, height, width))


def _picture(given: str, height: int, width: int) -> str:
    return given if given.startswith("data:") else load_picture(given, height, width)


def _number(text: str) -> int | float | str:
    """The number that a text spells; other text as it is, for the request to refuse."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _target(out: Path | None, request: GenerationRequest) -> Path:
    """Where the result goes. Raises RequestError if nothing can be written there."""
    suffix = ".png" if request.mode == "image" else ".mp4"
    target = out or Path(f"latte{suffix}")
    try:
        check_target(target, suffix)
    except MediaError as error:
        raise RequestError("out", str(error)) from error
    return target


def _write(generation: Generation, target: Path, mode: str) -> list[Path]:
    """Write the clip, and the stills beside it under numbered names."""
    written = []
    if mode != "image":
        written.append(write_clip(generation.frames, target, generation.fps, generation.recipe))
    for index, still in enumerate(generation.stills, start=1):
        alone = mode == "image" and len(generation.stills) == 1
        name = target if alone else target.with_name(f"{target.stem}-{index}.png")
        written.append(write_still(still, name, generation.recipe))
    return written


@contextmanager
def _stop_on_interrupt() -> Iterator[threading.Event]:
    """The first Ctrl-C sets the event, so that the job stops cleanly; the second one interrupts."""
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    former = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, former)


class Progress:
    """One line that is redrawn on a terminal; a line per stage elsewhere."""

    def __init__(self, stream: TextIO, quiet: bool) -> None:
        self._stream = stream
        self._quiet = quiet
        self._redraw = stream.isatty()
        self._drawn = 0

    def show(self, event: Event) -> None:
        """Draw what an event says."""
        if isinstance(event, Loading):
            if event.stage in ("plan", "stepped down", "compile", "compiled"):
                self._note(event.message)
            elif self._redraw or event.bytes_done in (0, event.bytes_total):
                self._draw(event.message)
        elif isinstance(event, SteppedDown):
            self._note(event.sentence)
        elif isinstance(event, Encoded):
            if event.unknown_words:
                self._note(f"The model does not know: {_told(event)}")
            if note := _planned(event):
                self._note(note)
        elif isinstance(event, Step):
            left = "" if event.eta_s is None else f"  {event.eta_s:.0f} s left"
            self._draw(f"{_bar(event.index, event.total)} step {event.index}/{event.total}{left}")
        elif isinstance(event, Decoding):
            self._draw(f"{_bar(event.index, event.total)} frame {event.index}/{event.total}")

    def close(self) -> None:
        """End the line."""
        if self._drawn and self._redraw:
            self._stream.write("\n")
        self._drawn = 0

    def _note(self, text: str) -> None:
        if self._quiet:
            return
        self.close()
        self._stream.write(text + "\n")
        self._stream.flush()

    def _draw(self, text: str) -> None:
        if self._quiet:
            return
        if not self._redraw:
            self._note(text)
            return
        self._stream.write("\r" + text.ljust(self._drawn))
        self._stream.flush()
        self._drawn = len(text)


def _bar(done: int, total: int) -> str:
    filled = BAR_WIDTH * done // max(total, 1)
    return f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}]"


def _planned(event: Encoded) -> str:
    """The step plan that is followed, and why it is not the model's own; "" for all the work."""
    if event.plan != FULL:
        return f"Step plan {event.plan}."
    if event.missing_plan:
        return (
            f"All of the work is done: the model's step plan {event.missing_plan} was not found "
            "for these settings."
        )
    return ""


def _told(event: Encoded) -> str:
    """Unknown words, each with the known word that comes nearest."""
    near = event.suggestions
    return ", ".join(f"{w} (nearest: {near[w]})" if w in near else w for w in event.unknown_words)
