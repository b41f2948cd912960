"""The probe: a small video classifier that says what a clip of the world shows.

It learns from rendered clips, whose captions are exact, and so can judge generated ones. Its
accuracy on real clips is the ceiling of every figure that it gives.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from latte_core.data.pixels import to_frames, to_pixels
from latte_core.data.render import render_clip
from latte_core.data.scenes import SCENES
from latte_core.data.world import CAMERA, ClipSpec, World
from latte_core.errors import CheckpointError

SIDE = 64  # of the frames that a probe reads; others are scaled to it
HEADS = ("subject", "motion", "scene", "colour")
HALVES = ("left", "right")  # of the picture; each has a subject and a motion in a clip of two
IGNORED = -100  # F.cross_entropy passes over this label


def head_names(world: World) -> dict[str, tuple[str, ...]]:
    """The classes of each head, in the order of its logits.

    A world with compositions has heads for what they bring: which way the camera pans, day or
    night, and what is in either half of the picture.
    """
    names: dict[str, tuple[str, ...]] = {
        "subject": world.subjects,
        "motion": world.motions,
        "scene": world.scenes,
        "colour": world.colours,
    }
    if "camera" in world.compositions:
        names["camera"] = ("", *CAMERA)
    if "light" in world.compositions:
        names["light"] = ("day", "night")
    if "pair" in world.compositions:
        for half in HALVES:
            names |= {f"{half} subject": world.subjects, f"{half} motion": world.motions}
    return names


def answers_of(spec: ClipSpec) -> dict[str, str]:
    """What a perfect probe would say of a clip, by head; heads that do not apply are left out.

    Only plain ground has a colour, and only some places are seen by day and night; a clip of two
    has a subject and a motion in each half, no other.
    """
    answers = {"scene": spec.scene, "camera": spec.camera}
    if spec.scene == "plain":
        answers["colour"] = spec.colour
    elif SCENES[spec.scene].nights:
        answers["light"] = spec.light or "day"
    if not spec.partner:
        return answers | {"subject": spec.subject, "motion": spec.motion}
    for half, mover in zip(HALVES, spec.movers, strict=True):
        answers |= {f"{half} subject": mover.subject, f"{half} motion": mover.motion}
    return answers


def labels_of(world: World, spec: ClipSpec, frozen: bool = False) -> dict[str, int]:
    """The right class of each head, IGNORED where it does not apply.

    A `frozen` clip repeats one frame and has no motion.
    """
    answers = answers_of(spec)
    moving = [name for name in answers if name.endswith("motion") or name == "camera"]
    for name in moving if frozen else ():
        del answers[name]
    return {
        name: names.index(answers[name]) if name in answers else IGNORED
        for name, names in head_names(world).items()
    }


class WorldProbe(nn.Module):
    """Clips (B, F, 3, H, W) in -1..1 -> logits per head.

    Frames are read by strided convolutions, then three-dimensional ones look along time. What is
    averaged over time at the end still knows the order, because the time position is an input.
    """

    def __init__(self, world: World, width: int = 32) -> None:
        super().__init__()
        self.world = world
        self.frame = nn.Sequential(
            nn.Conv2d(3, width // 2, 5, 2, 2),
            nn.GELU(),
            nn.Conv2d(width // 2, width, 3, 2, 1),
            nn.GroupNorm(1, width),
            nn.GELU(),
            nn.Conv2d(width, 2 * width, 3, 2, 1),
            nn.GroupNorm(1, 2 * width),
            nn.GELU(),
        )
        self.clip = nn.Sequential(
            nn.Conv3d(2 * width + 1, 3 * width, 3, (2, 2, 2), 1),
            nn.GroupNorm(1, 3 * width),
            nn.GELU(),
            nn.Conv3d(3 * width, 4 * width, 3, (2, 1, 1), 1),
            nn.GroupNorm(1, 4 * width),
            nn.GELU(),
        )
        names = head_names(world)
        self.heads = nn.ModuleDict(
            {
                name: nn.Linear(16 * width, len(classes))
                for name, classes in names.items()
                if not name.startswith(HALVES)
            }
        )
        if "pair" in world.compositions:  # one for both halves
            self.heads["half subject"] = nn.Linear(16 * width, len(world.subjects))
            self.heads["half motion"] = nn.Linear(16 * width, len(world.motions))

    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        """Name what is seen: logits (B, classes) of each head."""
        batch, frames = clips.shape[:2]
        x = self.frame(clips.flatten(0, 1)).unflatten(0, (batch, frames)).transpose(1, 2)
        time = torch.linspace(-1, 1, frames, device=x.device).view(1, 1, frames, 1, 1)
        x = self.clip(torch.cat([x, time.expand(batch, 1, -1, *x.shape[3:])], dim=1))
        pooled, middle = _pool(x), x.shape[4] // 2
        parts = dict(zip(HALVES, (_pool(x[..., :middle]), _pool(x[..., middle:])), strict=True))
        logits = {}
        for name in head_names(self.world):
            half, _, kind = name.partition(" ")
            if kind:
                logits[name] = self.heads[f"half {kind}"](parts[half])
            else:
                logits[name] = self.heads[name](pooled)
        return logits


def _pool(x: Tensor) -> Tensor:
    """Features (B, C, F, h, w) -> (B, 4 C): mean, largest, largest at the beginning and the end."""
    first, last = x[:, :, 0].amax((2, 3)), x[:, :, -1].amax((2, 3))
    return torch.cat([x.mean((2, 3, 4)), x.amax((2, 3, 4)), first, last], dim=1)


def scaled(clip: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A clip (F, H, W, 3) at the size that a probe reads."""
    if clip.shape[1:3] == (SIDE, SIDE):
        return clip
    frames = [Image.fromarray(f).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for f in clip]
    return np.stack([np.asarray(frame) for frame in frames])


@torch.no_grad()
def judge(probe: WorldProbe, frames: NDArray[np.uint8]) -> list[dict[str, str]]:
    """Say what each clip shows. frames uint8 (B, F, H, W, 3) of any size."""
    names = head_names(probe.world)
    logits = probe.eval()(to_pixels(np.stack([scaled(clip) for clip in frames])))
    best = {head: value.argmax(1).tolist() for head, value in logits.items()}
    return [{h: names[h][best[h][i]] for h in names} for i in range(len(frames))]


@dataclass(frozen=True)
class ProbeBatches(Dataset):
    """Batch n: rendered clips, made a little soft and noisy, and their labels.

    A share `frozen` of them repeats one frame, which has no motion to name, so that the probe can
    judge stills too. In a world with compositions a share `composed` shows one of them for certain,
    since a pan of the camera is hard to see and rarely drawn.
    """

    world: World
    size: int
    batch_size: int
    seed: int = 0
    held_out: bool = False
    plain: bool = False
    frozen: float = 0.0
    composed: float = 0.0

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, number))
        specs = [self._draw(rng) for _ in range(self.batch_size)]
        frames = np.stack([render_clip(spec, 16, self.size) for spec in specs])
        frozen = rng.random(len(specs)) < self.frozen
        for k in np.flatnonzero(frozen):
            frames[k] = frames[k, rng.integers(16)]
        labels = [labels_of(self.world, *pair) for pair in zip(specs, frozen, strict=True)]
        clips = to_pixels(frames)
        batch = {head: torch.tensor([label[head] for label in labels]) for head in labels[0]}
        return {"clips": clips if self.plain else _disturb(clips, rng), **batch}

    def _draw(self, rng: np.random.Generator) -> ClipSpec:
        known = self.world.compositions
        if known and rng.random() < self.composed:
            return self.world.draw_composed(rng, str(rng.choice(known)), self.held_out)
        return self.world.draw(rng, self.held_out)


def _disturb(clips: Tensor, rng: np.random.Generator) -> Tensor:
    """Soften and speckle, as an autoencoder and a young model would."""
    soft = F.avg_pool2d(clips.flatten(0, 1), 2)
    soft = F.interpolate(soft, scale_factor=2, mode="bilinear").unflatten(0, clips.shape[:2])
    blend = torch.from_numpy(rng.random((len(clips), 1, 1, 1, 1), np.float32))
    speckle = torch.from_numpy(rng.standard_normal(clips.shape, np.float32))
    return clips + blend * (soft - clips) + 0.05 * float(rng.random()) * speckle


@dataclass
class ProbeTask:
    """Train the probe: one cross-entropy per head."""

    model: WorldProbe
    batches: ProbeBatches

    def loss(
        self, model: nn.Module, batch: Any, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Sum of the heads' cross-entropies; logs their accuracies."""
        logits = model(batch["clips"])
        total, figures = torch.zeros((), device=batch["clips"].device), {}
        for head in logits:
            known = batch[head] != IGNORED
            if known.any():
                total = total + F.cross_entropy(logits[head], batch[head], ignore_index=IGNORED)
                right = (logits[head].argmax(1) == batch[head])[known]
                figures[head] = float(right.float().mean())
            else:
                total = total + 0 * logits[head].sum()  # it may be all that learns
                figures[head] = 1.0
        return total, figures

    def picture(self, model: nn.Module) -> Image.Image:
        """Show the middle frames of a few held-out clips: the probe has no picture of its own."""
        clips = ProbeBatches(self.batches.world, self.batches.size, 8, 9, True, True)[0]["clips"]
        return Image.fromarray(np.concatenate(list(to_frames(clips[:, 8])), axis=1))


def start_probe(probe: WorldProbe, path: Path) -> list[str]:
    """Give a new probe the weights of another; the names of those that it lacks are returned.

    Heads of a half that it lacks begin as those of the whole picture. Raises CheckpointError if the
    file cannot be read.
    """
    theirs, own = load_probe(path).state_dict(), probe.state_dict()
    whole = {n.replace("heads.", "heads.half "): t for n, t in theirs.items() if "half" not in n}
    fitting = {n: t for n, t in (whole | theirs).items() if n in own and own[n].shape == t.shape}
    probe.load_state_dict(own | fitting)
    return sorted(n for n in own if n not in theirs or n not in fitting)


def save_probe(probe: WorldProbe, path: Path) -> None:
    """Write the probe in half precision, its world in the metadata."""
    from safetensors.torch import save_file

    state = {k: v.detach().half().contiguous() for k, v in probe.state_dict().items()}
    save_file(state, path, metadata={"world": json.dumps(asdict(probe.world))})


def load_probe(path: Path) -> WorldProbe:
    """Read a probe. Raises CheckpointError if it is not there or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            world = json.loads(file.metadata()["world"])
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        width = len(state["frame.2.weight"])
        probe = WorldProbe(World(**{name: tuple(names) for name, names in world.items()}), width)
        probe.load_state_dict(state)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"The probe at {path} cannot be read ({error}); train one with "
            "`python -m latte_core train --stage probe`."
        ) from error
    return probe.eval()
