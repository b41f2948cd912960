"""Turn weights of any known origin into a model folder, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from latte_core.checkpoints.files import (
    INDEX,
    WEIGHTS,
    read_json,
    replacing,
    weight_files,
    write_json,
)
from latte_core.checkpoints.folders import CLASSES, TEXT_INDEX, TEXT_WEIGHTS, check_part
from latte_core.checkpoints.image_models import start
from latte_core.checkpoints.manifest import (
    MANIFEST,
    Manifest,
    build_manifest,
    read_manifest,
    write_manifest,
)
from latte_core.checkpoints.published import (
    CLASS_SCHEDULER,
    KINDS,
    PIXELS_PER_LATENT,
    class_names,
    find_defaults,
    find_kind,
    plain_preview,
)
from latte_core.checkpoints.recognise import Intake, recognise
from latte_core.checkpoints.transformer import save_transformer
from latte_core.checkpoints.weights import Source, read_source
from latte_core.errors import CheckpointError
from latte_core.model import Latte, ModelConfig

MAX_SHARD_BYTES = 5_000_000_000  # every published model is one file
TEXT_PARTS = ("tokenizer", "text_encoder", "vae", "scheduler")
TEMPORAL_DECODER = "vae_temporal_decoder"
SMALL_FILES = (".json", ".model", ".txt")  # of a component, beside its weights
DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class ConvertOptions:
    """What the caller chooses about a conversion.

    `kind` is a key of KINDS, None to find it out. `fields` are those of a ModelConfig that the
    weights do not tell, or that are to be others. `components` is a model folder that the other
    parts are taken from, `vae` an autoencoder's folder, or one with a `vae` in it. `dtype` is one
    of DTYPES, None for that of the weights. `overwrite` lets an old model folder be replaced.
    """

    kind: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    components: Path | None = None
    vae: Path | None = None
    dtype: str | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Conversion:
    """What became of the weights, and what the new folder is; `parts` maps parts to origins."""

    intake: Intake
    kind: str
    dtype: str
    parts: Mapping[str, str]
    bytes: int

    @property
    def config(self) -> ModelConfig:
        """The new model's configuration."""
        return self.intake.model.config


def convert(source: Path, out: Path, options: ConvertOptions | None = None) -> Conversion:
    """Write the model folder `out` from weights of any known layout.

    `source` is as for `read_source`. A class or unconditional model gets a scheduler of its own and
    the autoencoder that `options` give; a text model takes its other parts from
    `options.components`, or from the folder that it lies in. Raises CheckpointError, and then
    leaves `out` as it was.
    """
    options = options or ConvertOptions()
    _check_out(source, out, options)
    if options.dtype not in (None, *DTYPES):
        raise CheckpointError(f"dtype is {options.dtype!r}; it can be {', '.join(DTYPES)}.")
    read = read_source(source)
    found = recognise(read.state, options.fields, read.config)
    intake = start(found)
    config = intake.model.config
    kind = find_kind(options.kind, source.stem, config, found.layout.image)
    parts = _find_parts(read, config, options)
    dtype = getattr(torch, options.dtype) if options.dtype else _widest(intake.model)
    _check_space(out, intake.model, dtype, parts)
    with replacing(out) as fresh:
        save_transformer(intake.model, fresh / "transformer", dtype, MAX_SHARD_BYTES)
        for part, folder in parts.items():
            _copy_part(folder, fresh / part)
        _write_rest(fresh, config, parts)
        old = read_manifest(read.pipeline) if read.pipeline and options.kind is None else None
        _write_manifest(fresh, source, kind, config, old)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    told = {part: str(folder) for part, folder in parts.items()}
    return Conversion(intake, kind, str(dtype).removeprefix("torch."), told, size)


def _check_out(source: Path, out: Path, options: ConvertOptions) -> None:
    """Refuse to replace anything but an old model folder that nothing lies in that is read.

    The source itself may be `out`: the new folder is whole before the old one goes.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise CheckpointError(f"{out} is a file; give the name of a folder.")
    if not any(out.iterdir()):
        return
    if not options.overwrite:
        raise CheckpointError(f"{out} is not empty; give another folder, or --overwrite.")
    if not (out / "model_index.json").is_file():
        raise CheckpointError(
            f"{out} holds other things than a model, so it is not replaced; give another folder."
        )
    whole = out.resolve()
    for path in (source, options.components, options.vae):
        if path is not None and whole in path.resolve().parents:
            raise CheckpointError(
                f"{path} lies in {out}, which would be replaced; give another folder."
            )


def _find_parts(read: Source, config: ModelConfig, options: ConvertOptions) -> dict[str, Path]:
    """Folders of the parts beside the transformer, checked. Raises CheckpointError."""
    pool = options.components or read.pipeline
    parts: dict[str, Path] = {}
    if config.conditioning == "text":
        if pool is None:
            raise CheckpointError(
                "These weights are the transformer of a text model alone. Give --components, a "
                f"model folder with {', '.join(TEXT_PARTS)}, such as a copy of maxin-cn/Latte-1."
            )
        parts = {part: pool / part for part in TEXT_PARTS}
        if (pool / TEMPORAL_DECODER).is_dir():
            parts[TEMPORAL_DECODER] = pool / TEMPORAL_DECODER
    elif pool is not None and (pool / "vae").is_dir():
        parts["vae"] = pool / "vae"
    if options.vae is not None:
        inner = options.vae / "vae"
        parts["vae"] = inner if inner.is_dir() else options.vae
    for part, folder in parts.items():
        _check_part(part, folder, config)
    return parts


def _check_part(part: str, folder: Path, config: ModelConfig) -> None:
    """A part has its files, and an autoencoder as many channels as the transformer."""
    check_part("vae" if part == TEMPORAL_DECODER else part, folder)
    if part != "vae":
        return
    described = read_json(folder / "config.json")
    if described.get("_class_name") not in CLASSES["vae"]:
        raise CheckpointError(
            f"{folder} holds a {described.get('_class_name')}; Latte needs {CLASSES['vae'][0]}."
        )
    if (channels := described.get("latent_channels", 4)) != config.in_channels:
        raise CheckpointError(
            f"{folder} has {channels} latent channels, the transformer {config.in_channels}; give "
            "the autoencoder that it was trained with."
        )


def _widest(model: Latte) -> torch.dtype:
    """The largest dtype among the weights."""
    return max((p.dtype for p in model.parameters()), key=lambda dtype: dtype.itemsize)


def _part_files(folder: Path) -> list[Path]:
    """The files of a part that are read later: its weights, no second form of them, no pickles."""
    files = [
        path for path in sorted(folder.iterdir()) if path.is_file() and path.suffix in SMALL_FILES
    ]
    for single, index in ((WEIGHTS, INDEX), (TEXT_WEIGHTS, TEXT_INDEX)):
        if (folder / single).is_file() or (folder / index).is_file():
            files += weight_files(folder, single)
    return [path for path in files if path.name != MANIFEST]


def _check_space(out: Path, model: Latte, dtype: torch.dtype, parts: Mapping[str, Path]) -> None:
    """Raise CheckpointError before anything is written if the disk cannot hold it."""
    need = dtype.itemsize * sum(p.numel() for p in model.parameters())
    need += sum(path.stat().st_size for folder in parts.values() for path in _part_files(folder))
    place = next(path for path in out.absolute().parents if path.is_dir())
    free = shutil.disk_usage(place).free
    if need > free:
        raise CheckpointError(
            f"The new folder needs {need / 2**30:.2f} GiB, and {place} has {free / 2**30:.2f} GiB "
            "free; make room, or give --dtype float16."
        )


def _copy_part(source: Path, target: Path) -> None:
    target.mkdir()
    for path in _part_files(source):
        shutil.copyfile(path, target / path.name)


def _write_rest(folder: Path, config: ModelConfig, parts: Mapping[str, Path]) -> None:
    """Write the scheduler of a model without one, and the index."""
    text = config.conditioning == "text"
    transformer = ["diffusers", "LatteTransformer3DModel"]
    index: dict[str, Any] = {
        "_class_name": "LattePipeline" if text else "LatteClassPipeline",
        "_diffusers_version": "0.42.0",
        "transformer": transformer if config.is_t2v else ["latte_core", "Latte"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    if text:
        index["text_encoder"] = ["transformers", "T5EncoderModel"]
        index["tokenizer"] = ["transformers", "T5Tokenizer"]
    if "scheduler" not in parts:
        (folder / "scheduler").mkdir()
        described = dict(CLASS_SCHEDULER)
        if not config.learned_variance:
            del described["variance_type"]
        write_json(folder / "scheduler" / "scheduler_config.json", described)
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    index["scheduler"] = ["diffusers", scheduler.get("_class_name", "DDIMScheduler")]
    write_json(folder / "model_index.json", dict(sorted(index.items())))


def _write_manifest(
    folder: Path, source: Path, kind: str, config: ModelConfig, old: Manifest | None
) -> None:
    """Write the manifest: a folder's own settings are kept, else they are the published ones."""
    per_latent = PIXELS_PER_LATENT
    if (folder / "vae").is_dir():
        described = read_json(folder / "vae" / "config.json")
        per_latent = 2 ** (len(described.get("block_out_channels", (0,) * 4)) - 1)
    defaults = find_defaults(kind, config, per_latent)
    preview = plain_preview(config.in_channels)
    card: dict[str, Any] = {"name": KINDS[kind].title, "kind": kind, "source": source.name}
    if old is not None:
        card |= dict(old.card)
        preview = old.preview
        same = (old.defaults.num_frames, old.defaults.height) == (
            defaults.num_frames,
            defaults.height,
        )
        defaults = old.defaults if same else defaults
    if config.conditioning == "class":
        named = card.get("classes")
        kept = isinstance(named, list) and len(named) == config.num_classes
        card["classes"] = named if kept else class_names(kind, config)
    write_manifest(folder, build_manifest(folder, defaults, preview, card))
