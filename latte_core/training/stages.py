"""The stages of a recipe, each a run in a folder of its own below the run's folder.

autoencoder -> clips -> order -> stills -> motion -> video -> turbo -> bundle; `probe` stands
beside them, and `order` is for worlds with two subjects in a clip.
"""

from __future__ import annotations

import copy
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from latte_core.components.text_encoder import TextEncoder, new_text_encoder
from latte_core.components.vae import encode_frames, load_vae, new_vae, save_vae
from latte_core.data.captions import vocabulary
from latte_core.data.latents import (
    LatentClips,
    Renders,
    draw_specs,
    encode_clips,
    load_clips,
    save_clips,
)
from latte_core.data.pixels import to_pixels
from latte_core.data.world import ClipSpec
from latte_core.diffusion.loss import DiffusionLoss
from latte_core.errors import ConfigError, DataError
from latte_core.model import Latte, zero_init_temporal
from latte_core.training.autoencoder import (
    AutoencoderTask,
    Reconstruction,
    WorldFrames,
    measure_reconstruction,
)
from latte_core.training.loop import LoopConfig, Task, Trainer, write_summary
from latte_core.training.order import CaptionBatches, OrderTask
from latte_core.training.pyramid import start_as_pyramid
from latte_core.training.recipe import OrderRecipe, Recipe, StageRecipe, TurboRecipe
from latte_core.training.start import copy_vae, start_latte, start_turbo, start_vae
from latte_core.training.text_to_video import ClipBatches, TextToVideo, TextToVideoTask
from latte_core.training.turbo import TurboTask
from latte_core.training.weights import WEIGHTS, load_average, save_average

log = logging.getLogger(__name__)

CLIPS = "clips.safetensors"
ORDER = "order"
TEXT_TO_VIDEO = ("stills", "motion", "video")
WITH_TEXT_ENCODER = (ORDER, *TEXT_TO_VIDEO)
TURBO = "turbo"


@dataclass(frozen=True)
class Run:
    """A recipe, where its runs live, and what the caller changes about every loop.

    `start_from` is a model folder whose weights a stage begins with if it has no state of its own
    and no earlier stage to follow; for the stage "probe" it is a probe's file.
    """

    recipe: Recipe
    folder: Path
    changes: dict[str, Any]
    fresh: bool = False
    start_from: Path | None = None

    @property
    def device(self) -> torch.device:
        """Where whole-run work outside the trainer is done: a GPU if there is one."""
        gpu = torch.cuda.is_available() and self.changes.get("device") != "cpu"
        return torch.device("cuda" if gpu else "cpu")

    def train(self, task: Task, loop: LoopConfig, stage: str) -> nn.Module:
        """Train one stage, going on where it stopped unless `fresh`; the average is returned."""
        trainer = Trainer(task, replace(loop, **self.changes), self.folder / stage)
        if not self.fresh:
            trainer.resume()
        return trainer.run()


def train_autoencoder(run: Run) -> None:
    """Train the autoencoder, measure it on held-out frames, fix the scale of its latents."""
    task = autoencoder_task(run)
    model: Any = run.train(task, run.recipe.autoencoder.loop, "autoencoder")
    finish_autoencoder(run, model)


def autoencoder_task(run: Run) -> AutoencoderTask:
    """Put the autoencoder's task together, with the network as it starts."""
    r = run.recipe.autoencoder
    torch.manual_seed(run.recipe.seed)
    frames = WorldFrames(
        run.recipe.world,
        run.recipe.size,
        r.batch_size,
        run.recipe.seed + 1,
        mirrored=r.mirrored,
        favoured=r.favoured,
    )
    vae: Any = new_vae(r.shape)
    vae.to(memory_format=torch.channels_last)
    started = run.start_from is not None and start_vae(vae, run.start_from)
    if r.learns == "decoder" and not started:
        raise ConfigError(
            'autoencoder.learns is "decoder", whose latents are those of another one: give '
            "--start-from a folder with an autoencoder of this shape, or let all of it learn."
        )
    if not started and r.shape.norm_num_groups == 1:
        start_as_pyramid(vae, replace(frames, batch_size=64, seed=run.recipe.seed + 3)[0].pixels)
    return AutoencoderTask(
        Reconstruction(vae, r.learns == "decoder"),
        frames,
        r.kl_weight,
        r.edge_weight,
        subject_weight=r.subject_weight,
        contrast_power=r.contrast_power,
    )


def finish_autoencoder(run: Run, model: Any) -> None:
    """Write the averaged autoencoder with its latents' scale and its held-out PSNR."""
    frames = WorldFrames(run.recipe.world, run.recipe.size, 16, run.recipe.seed + 1)
    held_out = replace(frames, seed=run.recipe.seed + 5, held_out=True)
    psnr = measure_reconstruction(model, held_out)
    if run.recipe.autoencoder.learns == "all":
        sample = torch.cat([frames[10**6 + n].pixels for n in range(16)])
        device = next(model.parameters()).device
        with torch.no_grad():
            spread = float(model.vae.encode(sample.to(device)).latent_dist.mean.std())
        model.vae.set_scale(1 / spread)
    save_vae(model.vae, run.folder / "vae", torch.float32)
    write_summary(run.folder / "autoencoder", {"psnr_held_out_db": psnr})
    log.info("autoencoder: %.2f dB on held-out frames", psnr)


def encode_world(run: Run) -> LatentClips:
    """Render and encode the clips that the denoiser learns from, keep them, and return them."""
    if run.start_from is not None:
        copy_vae(run.start_from, run.folder)
    r = run.recipe
    return _encode(run, draw_specs(r.world, r.autoencoder.clips, r.seed + 7), run.folder / CLIPS)


def encode_held_out(run: Run, count: int, path: Path) -> LatentClips:
    """Encode, keep and return clips whose combinations nobody trains on."""
    rng = np.random.default_rng(run.recipe.seed + 17)
    specs = [run.recipe.world.draw(rng, held_out=True) for _ in range(count)]
    return _encode(run, specs, path)


def _encode(run: Run, specs: list[ClipSpec], path: Path) -> LatentClips:
    """Render and encode clips with the run's autoencoder, and keep them at a path."""
    vae = load_vae(run.folder / "vae").to(run.device)

    def encode(frames: np.ndarray) -> torch.Tensor:
        return encode_frames(vae, to_pixels(frames).to(run.device)).cpu()

    r = run.recipe
    clips = encode_clips(Renders(specs, r.size), encode, r.autoencoder.workers)
    save_clips(clips, path)
    return clips


def make_text_encoder(recipe: Recipe) -> TextEncoder:
    """A new text encoder whose vocabulary is the world's words."""
    pieces = [(f"▁{word}", -1.0) for word in vocabulary(recipe.world)]
    t = recipe.text_encoder
    return new_text_encoder(
        pieces,
        d_model=t.d_model,
        d_ff=t.d_ff,
        d_kv=t.d_kv,
        num_layers=t.num_layers,
        num_heads=t.num_heads,
    )


def train_order(run: Run) -> None:
    """Teach the text encoder of `run.start_from`, or a random one, which subject is told first.

    Raises ConfigError if the recipe does not say how.
    """
    settings = run.recipe.order
    if settings is None:
        raise ConfigError(
            'The recipe has no "order" to train: add its settings, for a world with the '
            'composition "pair".'
        )
    model, text_encoder = _starting(run, ORDER)
    average: Any = run.train(order_task(run, settings, text_encoder), settings.loop, ORDER)
    text_encoder.model.load_state_dict(average.state_dict())
    save_average(model, run.folder / ORDER)


def order_task(run: Run, settings: OrderRecipe, text_encoder: TextEncoder) -> OrderTask:
    """Put the lesson together."""
    r = run.recipe
    length, seed = r.objective.length, r.seed + 19
    captions = CaptionBatches(r.world, text_encoder, settings.captions, length, seed)
    return OrderTask(text_encoder, captions, settings.strength)


def _starting(run: Run, stage: str | None = None) -> tuple[TextToVideo, TextEncoder]:
    """The network as a stage begins with it, the last by default, and its text encoder."""
    torch.manual_seed(run.recipe.seed)
    text_encoder = make_text_encoder(run.recipe)
    model = new_text_to_video(run.recipe, text_encoder)
    if (earlier := last_stage(run.folder, before=stage)) is not None:
        load_average(model, run.folder / earlier)
    elif run.start_from is not None:
        start_latte(model.latte, text_encoder, run.start_from)
    return model, text_encoder


def train_text_to_video(run: Run, stage: str) -> None:
    """Train stage "stills", "motion" or "video", from the average of the last one before it.

    Without such it starts from `run.start_from`, or from random weights.
    """
    r = run.recipe
    settings: StageRecipe = getattr(r, stage)
    model, text_encoder = _starting(run, stage)
    model.latte.gradient_checkpointing = settings.gradient_checkpointing
    source = load_clips(run.folder / CLIPS)
    task = make_task(r, settings, model, text_encoder, source, run.folder)
    average: Any = run.train(task, settings.loop, stage)
    save_average(average, run.folder / stage)


def last_stage(folder: Path, before: str | None = None) -> str | None:
    """The last stage in a folder that trained the text encoder, before another one if given.

    None if there is none.
    """
    stages = WITH_TEXT_ENCODER[: None if before is None else WITH_TEXT_ENCODER.index(before)]
    trained = [stage for stage in stages if (folder / stage / WEIGHTS).is_file()]
    return trained[-1] if trained else None


def new_text_to_video(recipe: Recipe, text_encoder: TextEncoder) -> TextToVideo:
    """A random network whose time blocks do nothing yet."""
    model = TextToVideo(Latte(recipe.transformer), text_encoder.model)
    zero_init_temporal(model.latte)
    return model


def make_task(
    recipe: Recipe,
    settings: StageRecipe,
    model: TextToVideo,
    text_encoder: TextEncoder,
    source: LatentClips,
    folder: Path,
) -> TextToVideoTask:
    """Put the text-to-video task together."""
    o = recipe.objective
    return TextToVideoTask(
        model,
        make_batches(recipe, settings, text_encoder, source, o.drop),
        text_encoder,
        load_vae(folder / "vae"),
        DiffusionLoss(o.prediction, recipe.transformer.learned_variance),
        settings.timesteps or o.timesteps,
        settings.image_timesteps or o.image_timesteps,
        o.attention,
        recipe.prompts,
        recipe.defaults.guidance_scale,
        settings.subject_weight,
    )


def make_batches(
    recipe: Recipe,
    settings: StageRecipe | TurboRecipe,
    text_encoder: TextEncoder,
    source: LatentClips,
    drop: float,
) -> ClipBatches:
    """Clips and stills of a stage, a share `drop` of their captions left empty."""
    batches = ClipBatches(
        source,
        text_encoder,
        settings.clips,
        settings.images,
        recipe.objective.length,
        drop,
        recipe.seed,
        recipe.world.languages,
    )
    if isinstance(settings, TurboRecipe):
        return batches
    return replace(
        batches,
        pairs=settings.pairs,
        favoured=settings.favoured,
        contrast_power=settings.contrast_power,
    )


def train_turbo(run: Run) -> None:
    """Distil the last stage of text to video, or `run.start_from`, into a few-step student."""
    if last_stage(run.folder) is None and run.start_from is None:
        raise DataError(f"{run.folder} holds no trained model to distil; train video first.")
    teacher, text_encoder = _starting(run)
    source = load_clips(run.folder / CLIPS)
    task = turbo_task(run, teacher, text_encoder, source)
    average: Any = run.train(task, run.recipe.turbo.loop, TURBO)
    save_average(average, run.folder / TURBO)


def turbo_task(
    run: Run, teacher: TextToVideo, text_encoder: TextEncoder, source: LatentClips
) -> TurboTask:
    """Put the distillation together: the student is a copy of the teacher, fast if it can be."""
    r, t, o = run.recipe, run.recipe.turbo, run.recipe.objective
    student = copy.deepcopy(teacher)
    student.text_encoder.requires_grad_(False)
    if run.start_from is not None:
        start_turbo(student.latte, run.start_from)
    return TurboTask(
        student,
        teacher,
        make_batches(r, t, text_encoder, source, drop=0.0),
        text_encoder,
        load_vae(run.folder / "vae"),
        t.steps,
        t.substeps,
        t.guidance_scale,
        DiffusionLoss(o.prediction, r.transformer.learned_variance),
        o.attention,
        r.prompts,
        t.states,
    )


def train_probe(run: Run) -> None:
    """Train the probe on rendered clips and write it."""
    from latte_core.evaluation.probe import save_probe

    average: Any = run.train(probe_task(run), run.recipe.probe.loop, "probe")
    save_probe(average, run.folder / "probe.safetensors")


def probe_task(run: Run) -> Task:
    """Put the probe's task together; it begins with the probe that the run is given, if any."""
    from latte_core.evaluation.probe import SIDE, ProbeBatches, ProbeTask, WorldProbe, start_probe

    recipe = run.recipe
    torch.manual_seed(recipe.seed)
    r = recipe.probe
    probe = WorldProbe(recipe.world, r.width)
    new: list[str] = []
    if run.start_from is not None and run.start_from.is_file():
        new = start_probe(probe, run.start_from)
        log.info("started from %s; new: %s", run.start_from.name, ", ".join(new) or "nothing")
    if r.learns == "new":
        if not new:
            raise ConfigError(
                'probe.learns is "new", and nothing is: give --start-from a probe that lacks some '
                "of this world's heads, or let all of it learn."
            )
        for name, parameter in probe.named_parameters():
            parameter.requires_grad_(name in new)
    batches = ProbeBatches(
        recipe.world,
        SIDE,
        r.batch_size,
        recipe.seed + 11,
        frozen=r.frozen,
        composed=r.composed,
    )
    return ProbeTask(probe, batches)


def read_summary(folder: Path) -> dict[str, Any]:
    """Figures that a stage left, empty if it left none."""
    path = folder / "summary.json"
    return json.loads(path.read_text()) if path.is_file() else {}
