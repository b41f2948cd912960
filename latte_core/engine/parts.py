"""Read a model folder into the parts that an engine needs."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from latte_core.checkpoints import (
    TURBO_FOLDER,
    Defaults,
    PreviewMap,
    check_layout,
    load_transformer,
    model_hash,
    plain_preview,
    read_manifest,
    resolve_model,
    verify_folder,
)
from latte_core.checkpoints.files import read_json
from latte_core.checkpoints.lora import lora_file, merge_lora
from latte_core.checkpoints.manifest import sha256
from latte_core.components.text_encoder import TextEncoder, load_text_encoder
from latte_core.components.vae import for_decoding, load_temporal_vae, load_vae
from latte_core.diffusion.schedulers import LEARNED_VARIANCE
from latte_core.diffusion.step_plan import BUILT_IN, FULL
from latte_core.engine.events import Loading
from latte_core.engine.low_precision import require, to_fp8
from latte_core.engine.memory import cpu_bf16_pays, free_memory, recover
from latte_core.engine.plan_book import PlanBook, read_plans
from latte_core.engine.plans import ModelSizes, Plan, choose_plan, needed, next_plan
from latte_core.engine.precision import AUTO
from latte_core.engine.request import MODES, GenerationRequest
from latte_core.engine.shortage import ran_out_of_memory
from latte_core.engine.survey import (
    check_vae,
    class_names,
    conditioning_of,
    folder_defaults,
    measure,
)
from latte_core.engine.windows import possible_lengths
from latte_core.errors import CheckpointError, MemoryPlanError, RequestError

if TYPE_CHECKING:
    from latte_core.checkpoints import Manifest
    from latte_core.model import Latte
    from latte_core.model.config import Conditioning

OnProgress = Callable[[Loading], None]
STEPPED_DOWN = "stepped down"  # stage of a Loading event

logger = logging.getLogger(__name__)

TURBO_STEPS = 8  # where the card says nothing


@dataclass(frozen=True)
class Parts:
    """A loaded model: its networks, and what its folder says about them.

    `text` is there if the transformer reads prompts; `classes` names a class model's classes;
    `turbo` is a few-step transformer that shares the rest. `plan` is the memory plan, `plans` are
    the step plans to choose from. `folder` and `sizes` serve to place the parts anew.
    """

    name: str
    hash: str
    text: TextEncoder | None
    transformer: Latte
    vae: Any
    temporal_vae: Any | None
    scheduler_config: dict[str, Any]
    preview: PreviewMap
    defaults: Defaults
    plan: Plan
    card: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    plans: PlanBook = field(default_factory=PlanBook)
    turbo: Latte | None = None
    folder: Path | None = None
    sizes: ModelSizes | None = None

    def wanted(self, request: GenerationRequest) -> tuple[str, Latte]:
        """The transformer that a request wants, and its name among `modules`."""
        if request.turbo and self.turbo is not None:
            return TURBO_FOLDER, self.turbo
        return "transformer", self.transformer

    def defaults_for(self, request: GenerationRequest) -> Defaults:
        """What a request leaves open: turbo has steps of its own and no guidance.

        The model's own step plan is left out where `missing_plan` names it.
        """
        plan = FULL if self.missing_plan(request) else self.defaults.plan
        if not request.turbo:
            return replace(self.defaults, plan=plan)
        steps = int(self.card.get("turbo", {}).get("num_inference_steps", TURBO_STEPS))
        return replace(
            self.defaults,
            num_inference_steps=steps,
            guidance_scale=1.0,
            scheduler="ddim",
            plan=plan,
        )

    def missing_plan(self, request: GenerationRequest) -> str:
        """The model's own step plan, if it was not found for what a request asks; "" if it was.

        It was found on clips from noise of the model's own size and length, for one sampler and
        number of steps: stills and other clips take other paths, on which it loses more.
        """
        own = self.defaults
        if own.plan == FULL:
            return ""
        settings = ("scheduler", "num_inference_steps", "num_frames", "height", "width")
        alike = all(getattr(request, n) in (None, getattr(own, n)) for n in settings)
        clip = request.mode == "video" and request.first_frame is None and not request.turbo
        found = self.plans.has(own.plan, own.scheduler, own.num_inference_steps)
        return "" if alike and clip and found else own.plan

    @property
    def vae_factor(self) -> int:
        """Pixels of a side per latent."""
        return int(self.vae.config.factor)

    @property
    def prediction_type(self) -> str:
        """What the transformer predicts, in diffusers' words."""
        return str(self.scheduler_config.get("prediction_type", "epsilon"))

    @property
    def clip_lengths(self) -> tuple[int, ...]:
        """Frame numbers that the model can make; those over the trained number in windows."""
        return possible_lengths(self.transformer.config)

    @property
    def modes(self) -> tuple[str, ...]:
        """Modes that the transformer can do; one that joins frames into tubes makes no stills."""
        return MODES if self.transformer.config.patch_frames == 1 else ("video",)

    @property
    def conditioning(self) -> Conditioning:
        """What the transformer is told: a prompt, a class or nothing."""
        return self.transformer.config.conditioning

    @property
    def size_multiple(self) -> int:
        """Height and width are multiples of so many pixels: a patch of latents."""
        return self.vae_factor * self.transformer.config.patch_size

    def check(self, request: GenerationRequest) -> None:
        """Raise RequestError for a resolved request that this model cannot make."""
        request.check_conditioning(self.conditioning, self.classes)
        if request.plan and request.scheduler and request.num_inference_steps:
            self.plans.find(request.plan, request.scheduler, request.num_inference_steps)
        if request.turbo and self.turbo is None:
            raise RequestError(
                "turbo",
                f"turbo is on, but {self.name} has no turbo transformer: turn it off, or take "
                "fewer steps.",
            )
        if request.turbo and request.plan not in (None, *BUILT_IN):
            raise RequestError(
                "plan",
                f"The plan {request.plan} was found for the full transformer, but turbo is on: "
                f"choose one of {', '.join(BUILT_IN)}, or turn turbo off.",
            )
        if request.mode not in self.modes:
            raise RequestError(
                "mode", f"mode is {request.mode}, but this model has: {', '.join(self.modes)}."
            )
        for name, value in (("height", request.height), ("width", request.width)):
            if value is not None and value % self.size_multiple:
                raise RequestError(
                    name,
                    f"{name} is {value}, but this model needs a multiple of "
                    f"{self.size_multiple}: take {max(1, value // self.size_multiple)} times that.",
                )

    @property
    def closed_vocabulary(self) -> bool:
        """Whether the text encoder knows a list of words and no others."""
        vocabulary = self.card.get("vocabulary")
        return vocabulary == "closed" or isinstance(vocabulary, (list, dict))

    @property
    def aliases(self) -> dict[str, str]:
        """Words outside the vocabulary and the known word nearest to each."""
        return dict(self.card.get("aliases", {}))

    def modules(self) -> dict[str, torch.nn.Module]:
        """The networks by the names that memory policies use."""
        modules = {
            "text_encoder": None if self.text is None else self.text.model,
            "transformer": self.transformer,
            TURBO_FOLDER: self.turbo,
            "vae": self.vae,
            "temporal_vae": self.temporal_vae,
        }
        return {name: module for name, module in modules.items() if module is not None}


def load_parts(
    model: str,
    memory: str,
    device: str,
    report: OnProgress,
    lora: str | Path | None = None,
    precision: str = AUTO,
) -> Parts:
    """Find, check and read a model folder, placing nothing yet; merge a LoRA file if there is one.

    Memory that runs out meanwhile steps down one plan and says so. Raises CheckpointError for a
    missing or damaged folder, MemoryPlanError if no plan is left, ConfigError if this machine
    cannot compute in `precision`.
    """
    report(Loading("find", f"Looking for {model}", 0.0))
    folder = resolve_model(model, lambda done, total: report(fetching(model, done, total)))
    report(Loading("verify", f"Checking {folder.name}", 0.05))
    check_vae(folder)
    check_layout(folder)
    manifest = read_manifest(folder)
    if manifest is not None:
        verify_folder(folder, manifest)
    transformer_config = read_json(folder / "transformer" / "config.json")
    vae_config = read_json(folder / "vae" / "config.json")
    defaults = manifest.defaults if manifest else folder_defaults(transformer_config, vae_config)
    if conditioning_of(transformer_config) == "text" and not (folder / "text_encoder").is_dir():
        raise CheckpointError(
            f"The model reads prompts, but {folder / 'text_encoder'} is missing. Fetch the model "
            "folder again."
        )
    if conditioning_of(transformer_config) == "none":
        defaults = replace(defaults, guidance_scale=1.0)  # nothing to be guided by
    sizes = measure(folder, transformer_config, vae_config, defaults)
    plan = choose_plan(sizes, free_memory(), memory, device, cpu_bf16_pays(), precision)
    require(plan.precision)
    report(Loading("plan", plan.sentence, 0.1))
    described = (manifest, defaults)
    while (parts := _attempt(model, folder, plan, described, report)) is None:
        recover()  # outside of the handler: the error that kept half-read parts alive is gone
        plan = _lower(plan, sizes)
        report(Loading(STEPPED_DOWN, plan.sentence, 0.1))
    parts = replace(parts, sizes=sizes)
    parts = parts if lora is None else _with_lora(parts, Path(lora).expanduser())
    if plan.precision == "fp8":
        for network in (parts.transformer, parts.turbo):
            to_fp8(network, plan.device)
    return parts


def _attempt(
    model: str,
    folder: Path,
    plan: Plan,
    described: tuple[Manifest | None, Defaults],
    report: OnProgress,
) -> Parts | None:
    """The parts; None if memory ran out while they were read."""
    try:
        return _read_parts(model, folder, plan, described, report)
    except Exception as error:
        if not ran_out_of_memory(error):
            raise
        logger.warning("Memory ran out while %s was read: %s", folder.name, str(error))
        return None


def _lower(plan: Plan, sizes: ModelSizes) -> Plan:
    """The plan to read with where memory ran out. Raises MemoryPlanError if there is none."""
    lower = next_plan(plan, sizes, free_memory(), cpu_bf16_pays())
    if lower is None:
        raise MemoryPlanError(
            f"Memory ran out on {plan.device} while the model was read, with every memory plan "
            f"down to {plan.name}, which needs {needed(plan)}. Close other programs, or choose a "
            "smaller model."
        )
    return lower


def fetching(model: str, done: int, total: int) -> Loading:
    """A download's event: `done` of `total` bytes have come."""
    message = f"Fetching {model}: {done / 1e9:.2f} of {total / 1e9:.2f} GB"
    return Loading("fetch", message, done / max(1, total), done, total)


def _with_lora(parts: Parts, path: Path) -> Parts:
    """The parts with a LoRA file merged; the model gets a hash and a name of its own."""
    for network in (parts.transformer, parts.turbo):
        if network is not None:
            merge_lora(network, path)
    file = lora_file(path)
    both = hashlib.sha256(f"{parts.hash} {sha256(file)}".encode()).hexdigest()[: len(parts.hash)]
    return replace(parts, name=f"{parts.name} + {path.stem}", hash=both)


def _read_parts(
    model: str,
    folder: Path,
    plan: Plan,
    described: tuple[Manifest | None, Defaults],
    report: OnProgress,
) -> Parts:
    manifest, defaults = described
    text = None
    if conditioning_of(read_json(folder / "transformer" / "config.json")) == "text":
        report(Loading("text_encoder", "Reading the text encoder", 0.15))
        text = read_text(folder, plan)
    report(Loading("transformer", "Reading the transformer", 0.6))
    dtype = getattr(torch, plan.transformer_dtype)
    transformer = load_transformer(folder / "transformer", dtype).requires_grad_(False)
    turbo = None
    if (folder / TURBO_FOLDER).is_dir():
        turbo = load_transformer(folder / TURBO_FOLDER, dtype).requires_grad_(False)
    report(Loading("vae", "Reading the autoencoder", 0.9))
    vae_dtype = getattr(torch, plan.vae_dtype)
    vae = for_decoding(load_vae(folder / "vae", vae_dtype), plan.device)
    channels = transformer.config.in_channels
    if vae.config.latent_channels != channels:
        raise CheckpointError(
            f"{folder / 'vae'} has {vae.config.latent_channels} latent channels, the transformer "
            f"{channels}: give the autoencoder that the transformer was trained with."
        )
    temporal_folder = folder / "vae_temporal_decoder"
    temporal = load_temporal_vae(temporal_folder, vae_dtype) if temporal_folder.is_dir() else None
    card = dict(manifest.card) if manifest else {}
    return Parts(
        name=str(card.get("name") or (folder.name if Path(model).is_dir() else model)),
        hash=model_hash(folder),
        text=text,
        transformer=transformer,
        vae=vae,
        temporal_vae=temporal,
        scheduler_config=_scheduler_config(folder, transformer),
        preview=manifest.preview if manifest else plain_preview(channels),
        defaults=defaults,
        plan=plan,
        card=card,
        classes=class_names(card, transformer.config.num_classes),
        plans=read_plans(folder),
        turbo=turbo,
        folder=folder,
    )


def read_text(folder: Path, plan: Plan) -> TextEncoder:
    """The text encoder of a folder as a memory plan wants it."""
    dtype = getattr(torch, plan.text_dtype)
    return load_text_encoder(folder, dtype, plan.text_bits, plan.text_device)


def _scheduler_config(folder: Path, transformer: Latte) -> dict[str, Any]:
    config = read_json(folder / "scheduler" / "scheduler_config.json")
    learned = config.get("variance_type") in LEARNED_VARIANCE
    if learned and not transformer.config.learned_variance:  # nothing to read a variance from
        del config["variance_type"]
    return config
