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
from latte_core.data.world import ClipSpec, World, render_clip
from latte_core.errors import CheckpointError

HEADS = ("subject", "motion", "scene", "colour")
IGNORED = -100  # F.cross_entropy passes over this label


def head_names(world: World) -> dict[str, tuple[str, ...]]:
    """The classes of each head, in the order of its logits."""
    return {
        "subject": world.subjects,
        "motion": world.motions,
        "scene": world.scenes,
        "colour": world.colours,
    }


def labels_of(world: World, spec: ClipSpec) -> dict[str, int]:
    """The right class of each head; a scene other than "plain" has no colour."""
    labels = {name: names.index(getattr(spec, name)) for name, names in head_names(world).items()}
    if spec.scene != "plain":
        labels["colour"] = IGNORED
    return labels


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
        self.heads = nn.ModuleDict(
            {name: nn.Linear(16 * width, len(names)) for name, names in head_names(world).items()}
        )

    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        """Name what is seen: logits (B, classes) of each head."""
        batch, frames = clips.shape[:2]
        x = self.frame(clips.flatten(0, 1)).unflatten(0, (batch, frames)).transpose(1, 2)
        time = torch.linspace(-1, 1, frames, device=x.device).view(1, 1, frames, 1, 1)
        x = self.clip(torch.cat([x, time.expand(batch, 1, -1, *x.shape[3:])], dim=1))
        pooled = torch.cat(
            [
                x.mean((2, 3, 4)),
                x.amax((2, 3, 4)),
                x[:, :, 0].amax((2, 3)),
                x[:, :, -1].amax((2, 3)),
            ],
            dim=1,
        )
        return {name: head(pooled) for name, head in self.heads.items()}


@torch.no_grad()
def judge(probe: WorldProbe, frames: NDArray[np.uint8]) -> list[dict[str, str]]:
    """Say what each clip shows. frames uint8 (B, F, H, W, 3)."""
    names = head_names(probe.world)
    logits = probe.eval()(to_pixels(frames))
    best = {head: value.argmax(1).tolist() for head, value in logits.items()}
    return [{h: names[h][best[h][i]] for h in HEADS} for i in range(len(frames))]


@dataclass(frozen=True)
class ProbeBatches(Dataset):
    """Batch n: rendered clips, made a little soft and noisy, and their labels.

    A share `frozen` of them repeats one frame, which has no motion to name, so that the probe can
    judge stills too.
    """

    world: World
    size: int
    batch_size: int
    seed: int = 0
    held_out: bool = False
    plain: bool = False
    frozen: float = 0.0

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, number))
        specs = [self.world.draw(rng, self.held_out) for _ in range(self.batch_size)]
        frames = np.stack([render_clip(spec, 16, self.size) for spec in specs])
        labels = [labels_of(self.world, spec) for spec in specs]
        for k in np.flatnonzero(rng.random(len(specs)) < self.frozen):
            frames[k] = frames[k, rng.integers(16)]
            labels[k]["motion"] = IGNORED
        clips = to_pixels(frames)
        batch = {head: torch.tensor([label[head] for label in labels]) for head in HEADS}
        return {"clips": clips if self.plain else _disturb(clips, rng), **batch}


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
        for head in HEADS:
            known = batch[head] != IGNORED
            if known.any():
                total = total + F.cross_entropy(logits[head], batch[head], ignore_index=IGNORED)
                right = (logits[head].argmax(1) == batch[head])[known]
                figures[head] = float(right.float().mean())
            else:
                figures[head] = 1.0
        return total, figures

    def picture(self, model: nn.Module) -> Image.Image:
        """Show the middle frames of a few held-out clips: the probe has no picture of its own."""
        clips = ProbeBatches(self.batches.world, self.batches.size, 8, 9, True, True)[0]["clips"]
        return Image.fromarray(np.concatenate(list(to_frames(clips[:, 8])), axis=1))


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
