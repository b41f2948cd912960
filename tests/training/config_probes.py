"""What each key of a configuration is seen by: a probe, another value, and where it is changed."""

from dataclasses import replace
from types import SimpleNamespace

import torch
from tiny_clips import WIDTH, MadeUpClips, stir, tiny_shape, tiny_task

from latte_core.components.vae import VaeConfig, new_vae
from latte_core.data.world import World
from latte_core.training import networks
from latte_core.training.config import (
    DataConfig,
    LoraConfig,
    ModelChoice,
    SheetConfig,
    TrainingConfig,
)
from latte_core.training.diffusion import Frozen
from latte_core.training.lora import add_lora, lora_of
from latte_core.training.networks import make_batches, make_latte, new_shape, open_clips
from latte_core.training.recipe import ObjectiveRecipe

SHAPE = {"hidden_size": 24, "depth": 2, "num_heads": 2, "conditioning": "class"}
DATA = DataConfig("shards", "shards", num_frames=4, stride=1, batch_size=2)
BASE = TrainingConfig("base", DATA, model=ModelChoice(None, SHAPE))


def flat(value):
    """Something that can be compared: tensors as lists."""
    if isinstance(value, torch.Tensor):
        return value.detach().float().flatten().tolist()
    if isinstance(value, dict):
        return {name: flat(part) for name, part in value.items()}
    return value


# data


def opened(data):
    return open_clips(data, seed=0)


def source_of(data):
    """What is asked of the set of videos; C's tests show what each of these does."""
    return opened(replace(data, kind="folder") if data.kind == "shards" else data)[0]


def of_world(data):
    clips = opened(data)
    return len(clips), clips.classes


def a_batch(data):
    config = replace(BASE, data=data)
    return flat(make_batches(config, tiny_shape(), MadeUpClips(), Frozen())[0])


def encoded(data):
    task = tiny_task(tiny_shape("none"))
    torch.manual_seed(0)
    task.frozen.vae = new_vae(VaeConfig((8, 8), 1, sample_size=8, norm_num_groups=4)).eval()
    task.sample_posterior = data.posterior == "sample"
    pixels = torch.zeros(1, 1, 3, 8, 8)
    return flat(task._latents({"pixels": pixels}, torch.Generator().manual_seed(0)))


WORLD = DataConfig("world", size=16)
DATA_FLIPS = {
    "kind": (source_of, "ucf101", DATA),
    "root": (source_of, "elsewhere", DATA),
    "split": (source_of, "test", DATA),
    "split_list": (source_of, 2, DATA),
    "captions": (source_of, "captions.csv", DATA),
    "flip": (source_of, 0.25, DATA),
    "num_frames": (source_of, 8, DATA),
    "stride": (source_of, 2, DATA),
    "size": (source_of, 128, DATA),
    "batch_size": (a_batch, 3, DATA),
    "images": (a_batch, 1, DATA),
    "world": (of_world, World(("cat", "bee")), WORLD),
    "clips": (of_world, 7, WORLD),
    "posterior": (encoded, "mean", DATA),
}


# the network, where it starts, what it is told to learn


def made(config):
    torch.manual_seed(config.loop.seed)
    sources = networks.find_sources(config)
    clips = MadeUpClips()
    frozen = Frozen()
    latte = make_latte(config, sources, clips, frozen)
    return [flat(p) for p in latte.parameters()], latte.gradient_checkpointing


def shape_of(model):
    return new_shape(replace(BASE, model=model), MadeUpClips(), Frozen())


MODEL_FLIPS = {
    "preset": (shape_of, "S/4", ModelChoice("S/2", {"conditioning": "class"})),
    "fields": (shape_of, {**SHAPE, "variant": 3}, BASE.model),
    "gradient_checkpointing": (lambda model: made(replace(BASE, model=model)), True, BASE.model),
}


def loss_of(objective):
    task = tiny_task(tiny_shape(out_channels=4), images=1)
    stir(task.model)
    task.settings = objective
    task.objective = type(task.objective)(objective.prediction, learned_variance=False)
    return float(task.loss(task.model, task.batches[0], torch.Generator().manual_seed(0))[0])


def told(objective):
    config = replace(BASE, objective=objective)
    return flat(make_batches(config, tiny_shape("text"), MadeUpClips(), Frozen())[0])


def kernels(objective):
    """Whether fused kernels may run while the network does."""
    task = tiny_task(tiny_shape())
    task.settings, seen = objective, []

    def network(noisy, steps, num_images, class_labels):
        seen.append(torch.backends.cuda.flash_sdp_enabled())
        return torch.zeros(len(noisy), 8, *noisy.shape[2:])

    task.loss(network, task.batches[0], torch.Generator())
    return seen


OBJECTIVE = ObjectiveRecipe(drop=0.0, length=8)
OBJECTIVE_FLIPS = {
    "prediction": (loss_of, "v_prediction", OBJECTIVE),
    "timesteps": (loss_of, "noisy", OBJECTIVE),
    "image_timesteps": (loss_of, "single", OBJECTIVE),
    "drop": (told, 0.999, OBJECTIVE),
    "length": (told, 3, OBJECTIVE),
    "attention": (kernels, "math", OBJECTIVE),
}


# LoRA, sheets


def lora_file(settings):
    task = tiny_task(tiny_shape())
    stir(task.model)
    add_lora(task.model, settings)
    lora = lora_of(task.model, settings.alpha)
    task.model.train()
    for value in lora.up.values():
        value.data.fill_(0.1)
    torch.manual_seed(0)
    output = task.model(
        torch.ones(1, 4, 4, 4, 4), torch.tensor([5]), class_labels=torch.tensor([0])
    )
    return {n: list(v.shape) for n, v in lora.down.items()}, lora.alpha, flat(output)


LORA = LoraConfig(rank=2, alpha=2.0, targets=("space",))
LORA_FLIPS = {
    "rank": (lora_file, 3, LORA),
    "alpha": (lora_file, 5.0, LORA),
    "targets": (lora_file, ("time", "mlp"), LORA),
    "dropout": (lora_file, 0.5, LORA),
}


def sheet_of(conditioning):
    def draw(settings):
        task = tiny_task(tiny_shape(conditioning))
        stir(task.model)
        task.sheet = settings
        if conditioning == "text":
            task.frozen.text_encoder = FakeEncoder()
        return task.picture(task.model.eval()).tobytes()

    return draw


class FakeEncoder:
    """An encoder whose states are the prompt's length everywhere."""

    model = SimpleNamespace(device=torch.device("cpu"))
    width = WIDTH

    def tokenize(self, prompts, length):
        ids = torch.tensor([[len(p)] * length for p in prompts])
        return ids, torch.ones_like(ids)

    def forward(self, ids, mask):
        return ids[..., None].float().expand(*ids.shape, WIDTH) / 10


SHEET = SheetConfig(steps=2, samples=2)
SHEET_FLIPS = {
    "prompts": (sheet_of("text"), ("one", "another prompt"), SHEET),
    "classes": (sheet_of("class"), (2, 0), SHEET),
    "samples": (sheet_of("none"), 5, SHEET),
    "steps": (sheet_of("none"), 3, SHEET),
    "guidance_scale": (sheet_of("class"), 1.5, SHEET),
}
