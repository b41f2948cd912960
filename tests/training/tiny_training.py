"""Small things to train: a line through points, a recipe that runs in seconds."""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import nn

from latte_core.training.loop import LoopConfig

LOOP: dict[str, Any] = {
    "steps": 6,
    "learning_rate": 0.05,
    "warmup_steps": 2,
    "ema_decay": 0.9,
    "workers": 0,
    "log_every": 1,
    "save_every": 3,
    "picture_every": 100,
    "device": "cpu",
}
RECIPE: dict[str, Any] = {
    "name": "tiny",
    "size": 32,
    "seed": 3,
    "world": {
        "subjects": ["cat", "rocket"],
        "motions": ["left", "right"],
        "scenes": ["plain", "night"],
        "colours": ["red", "blue", "white"],
    },
    "autoencoder": {
        "shape": {
            "block_out_channels": [8, 8, 16, 16],
            "layers_per_block": 1,
            "latent_channels": 5,
            "sample_size": 32,
            "norm_num_groups": 1,
            "mid_block_add_attention": False,
        },
        "batch_size": 4,
        "clips": 6,
        "loop": {"steps": 2, "workers": 0},
    },
    "text_encoder": {"d_model": 16, "d_ff": 32, "d_kv": 8, "num_layers": 1, "num_heads": 2},
    "transformer": {
        "hidden_size": 32,
        "depth": 4,
        "num_heads": 2,
        "in_channels": 5,
        "out_channels": 10,
        "sample_size": 4,
        "num_frames": 16,
        "patch_size": 2,
        "conditioning": "text",
        "injection": "adaln_single",
        "caption_channels": 16,
        "images": "bypass",
    },
    "objective": {"prediction": "v_prediction", "timesteps": "middle", "length": 16},
    "stills": {"clips": 0, "images": 4, "loop": {"steps": 2, "workers": 0}},
    "motion": {
        "clips": 2,
        "images": 1,
        "timesteps": "noisy",
        "loop": {"steps": 2, "workers": 0},
    },
    "video": {"clips": 2, "images": 2, "loop": {"steps": 2, "workers": 0}},
    "turbo": {
        "clips": 2,
        "images": 1,
        "steps": 4,
        "substeps": 2,
        "loop": {"steps": 2, "workers": 0},
    },
    "probe": {"batch_size": 2, "width": 4, "loop": {"steps": 2, "workers": 0}},
    "defaults": {
        "num_inference_steps": 2,
        "guidance_scale": 2.0,
        "num_frames": 16,
        "height": 32,
        "width": 32,
        "fps": 8,
        "scheduler": "ddim",
        "plan": "alternate",
    },
    "prompts": ["a cat moves left at night", "a rocket goes right on a red background"],
}


def tiny_recipe_data() -> dict[str, Any]:
    """A copy of the recipe's JSON that a test may change."""
    return copy.deepcopy(RECIPE)


@dataclass
class Points(torch.utils.data.Dataset):
    """Batch n: `size` points of a line, the rows n * size to (n + 1) * size of one long table."""

    size: int = 4

    def __getitem__(self, number):
        rows = range(number * self.size, (number + 1) * self.size)
        draws = [torch.randn(4, generator=torch.Generator().manual_seed(r)) for r in rows]
        x = torch.stack(draws)
        return {"x": x[:, :3], "y": x[:, :3] @ torch.tensor([1.0, -2.0, 0.5]) + 0.1 * x[:, 3]}


@dataclass
class LineTask:
    """Fit a line to points; `noise` blurs the input, drawn from the step's own generator.

    `seen` is the weight before each loss; `fail_at` raises when that many losses were asked for;
    `spoil_at` multiplies that loss with `spoil_with`.
    """

    seed: int = 0
    noise: float = 0.0
    batches: Points = field(default_factory=Points)
    fail_at: int | None = None
    spoil_at: int | None = None
    spoil_with: float = float("nan")
    seen: list = field(default_factory=list)

    def __post_init__(self):
        torch.manual_seed(self.seed)
        self.model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))

    def loss(self, model, batch, generator):
        if len(self.seen) == self.fail_at:
            raise KeyboardInterrupt
        self.seen.append(self.model[0].weight.detach().clone())
        x = batch["x"] + self.noise * torch.randn(batch["x"].shape, generator=generator)
        loss = (model(x)[:, 0] - batch["y"]).square().mean()
        if len(self.seen) == self.spoil_at:
            loss = loss * self.spoil_with
        return loss, {"error": float(loss.detach().sqrt())}

    def picture(self, model):
        assert not model.training
        return Image.new("RGB", (8, 8))


def tiny_loop(**changes: Any) -> LoopConfig:
    """The settings of a run of six steps, some of them changed."""
    return LoopConfig(**(LOOP | changes))
