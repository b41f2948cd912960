"""A stand-in for the engine: same protocol, no model, paced by the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from latte_core import (
    Cancelled,
    Decoding,
    Encoded,
    EngineInfo,
    Finished,
    Generation,
    GenerationRequest,
    LatteError,
    Loading,
    Step,
)
from latte_core.engine.plan_book import PlanBook

DEFAULTS = SimpleNamespace(
    num_inference_steps=6,
    guidance_scale=3.0,
    num_frames=8,
    height=64,
    width=64,
    fps=8,
    scheduler="ddim",
    plan="full",
)


class FakeInfo(SimpleNamespace):
    """An `EngineInfo` whose fields a test may change."""

    class_index = EngineInfo.class_index
    plan_shares = EngineInfo.plan_shares
    nearest_plan = EngineInfo.nearest_plan
    plans = EngineInfo.plans
    default_share = EngineInfo.default_share


INFO = FakeInfo(
    model="fake-world",
    model_hash="0123456789ab",
    device="cpu",
    plan="everything resident, 0.1 GiB",
    defaults=DEFAULTS,
    schedulers=("ddim", "euler"),
    modes=("video", "image", "joint"),
    card={"name": "fake world"},
    conditioning="text",
    classes=(),
    step_plans=PlanBook(),
    clip_lengths=(1, *range(8, 65)),
    turbo=False,
    trained_frames=8,
    tempos=("stretch", "steady"),
    size_multiple=16,
    memory=None,
)


class FakeEngine:
    """Runs one job at a time, `step_s` seconds a step; `fail` is raised at the second step."""

    def __init__(self, step_s: float = 0.0, fail: BaseException | None = None) -> None:
        self.step_s = step_s
        self.hold_at: int | None = None  # before this step a job waits for `go`
        self.go = threading.Event()
        self.info = FakeInfo(**vars(INFO))
        self.fail = fail
        self.in_model = threading.Lock()
        self.most_at_once = 0
        self.requests: list[GenerationRequest] = []

    def describe(self) -> FakeInfo:
        return self.info

    def submit(self, request: GenerationRequest) -> FakeJob:
        self.requests.append(request)
        own = SimpleNamespace(**{**vars(DEFAULTS), "guidance_scale": 1.0})
        defaults = own if request.turbo else DEFAULTS  # turbo has its guidance built in
        return FakeJob(self, request.resolve(defaults, self.info.clip_lengths))


class FakeJob:
    def __init__(self, engine: FakeEngine, request: GenerationRequest) -> None:
        self.engine = engine
        self.request = request
        self.stop = threading.Event()

    def cancel(self) -> None:
        self.stop.set()

    def events(self) -> Iterator[Any]:
        with self.engine.in_model:
            yield from self._events()

    def _events(self) -> Iterator[Any]:
        request, total = self.request, self.request.num_inference_steps
        known = {"a", "the", "rocket", "cat", "red", "sea"}
        words = tuple(word for word in request.prompt.split() if word not in known)
        unknown = words[:2] if "zeppelin" in words else ()
        yield Step(0, total, *self._pictures(0.0, 8), 0.0, None)
        while self.engine.hold_at == 0 and not self.engine.go.wait(0.05):  # a slow text encoder
            if self.stop.is_set():
                raise Cancelled(0, total)
        yield Encoded(len(words), unknown, 0.01, {"zeppelin": "balloon"} if unknown else {})
        for index in range(1, total + 1):
            if self.stop.wait(self.engine.step_s):
                raise Cancelled(index - 1, total)
            while index == self.engine.hold_at and not self.engine.go.wait(0.05):
                if self.stop.is_set():
                    raise Cancelled(index - 1, total)
            if index == 2 and self.engine.fail:
                raise self.engine.fail
            frames, stills = self._pictures(index / total, 8)
            eta = (total - index) * self.engine.step_s if index > 1 else None
            yield Step(index, total, frames, stills, self.engine.step_s, eta)
        frames, stills = self._pictures(1.0, 1)
        for index in range(len(frames)):
            yield Decoding(index + 1, len(frames))
        yield Finished(self._finish(frames, stills))

    def _pictures(self, share: float, factor: int) -> tuple[np.ndarray, np.ndarray]:
        """A ball that crosses a gradient, out of noise; `factor` pixels of a side become one."""
        request = self.request
        high, wide = request.height // factor, request.width // factor
        count = request.num_frames + request.num_images
        noise = np.random.default_rng(request.seed).uniform(0, 255, (count, high, wide, 3))
        y, x = np.mgrid[0:high, 0:wide] / np.array([high, wide])[:, None, None]
        clean = np.empty_like(noise)
        for index in range(count):
            place = (index % request.num_frames) / request.num_frames
            ball = (x - place) ** 2 + (y - 0.5) ** 2 < 0.04
            sky = np.stack([90 + 80 * y, 130 - 40 * y, 200 - 120 * y], -1)
            clean[index] = np.where(ball[..., None], (235, 120, 60), sky)
        mixed = (share * clean + (1 - share) * noise).astype(np.uint8)
        video = 0 if request.mode == "image" else request.num_frames
        return mixed[:video], mixed[request.num_frames :]

    def _finish(self, frames: np.ndarray, stills: np.ndarray) -> Generation:
        latents = np.zeros((1, 4, 8, 8, 8), np.float32)
        return Generation(
            frames=frames if len(frames) else stills[:1],
            stills=tuple(stills),
            latents=latents,
            initial_latents=latents,
            seed=self.request.seed,
            fps=DEFAULTS.fps,
            timings={"denoise": 0.1},
            recipe={**self.request.to_dict(), "model": "fake-world"},
            memory_gib={"before": 0.5, "peak": 0.75, "after": 0.5},
        )


def load_fake(
    engine: FakeEngine, wait_s: float = 0.0
) -> Callable[[Callable[[Loading], None]], FakeEngine]:
    """A loader that reports two stages and then hands over `engine`."""

    def load(on_progress: Callable[[Loading], None]) -> FakeEngine:
        for share in (0.2, 0.7):
            on_progress(Loading("weights", "reading the weights", share))
            time.sleep(wait_s)
        return engine

    return load


def drain(run: Any, wait_s: float) -> tuple[list[Any], LatteError | None]:
    """All events of a run, and what ended it early. None stands for `wait_s` without an event."""
    events: list[Any] = []
    while True:
        try:
            event = run.poll(wait_s)
        except LatteError as error:
            return events, error
        events.append(event)
        if event is None or isinstance(event, Finished):
            return events, None
