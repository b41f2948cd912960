"""`python -m latte_core convert IN OUT`: weights of any known origin to a model folder."""

from __future__ import annotations

import argparse
import ast
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latte_core.checkpoints.published import KINDS
from latte_core.errors import ConfigError

if TYPE_CHECKING:
    from latte_core.checkpoints.conversion import Conversion


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", type=Path, metavar="IN", help="file of weights, or a folder")
    parser.add_argument("out", type=Path, metavar="OUT", help="model folder to write")
    parser.add_argument(
        "--kind", choices=tuple(KINDS), help="published settings to write; found if left"
    )
    parser.add_argument(
        "--components",
        type=Path,
        metavar="FOLDER",
        help="model folder that gives a text model its tokenizer, text encoder, VAE and scheduler",
    )
    parser.add_argument("--vae", type=Path, metavar="FOLDER", help="autoencoder to copy in")
    parser.add_argument("--dtype", help="float32, float16 or bfloat16, else as the weights are")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="a field of ModelConfig that the weights do not tell, or another value for one that "
        "they do, such as num_heads=6, sample_size=64, num_frames=32; may be repeated",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the model folder OUT")


def run(arguments: argparse.Namespace) -> int:
    """Convert, and print what came in, what was ignored and what is new."""
    from latte_core.checkpoints.conversion import ConvertOptions, convert

    options = ConvertOptions(
        kind=arguments.kind,
        fields=dict(_setting(text) for text in arguments.set),
        components=arguments.components,
        vae=arguments.vae,
        dtype=arguments.dtype,
        overwrite=arguments.overwrite,
    )
    done = convert(arguments.source, arguments.out, options)
    sys.stdout.write("\n".join(report(done, arguments.source, arguments.out)) + "\n")
    return 0


def _setting(text: str) -> tuple[str, Any]:
    """`field=value`, where a value is a number or a word."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ConfigError(f"--set is {text!r}; it has to look like num_heads=6.")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def report(done: Conversion, source: Path, out: Path) -> list[str]:
    """The lines that tell of a conversion."""
    intake, config = done.intake, done.config
    told = {"class": f"{config.num_classes} classes", "text": "prompts", "none": "nothing"}
    side = config.sample_size
    lines = [
        f"{source}: {intake.title}",
        f"  model: width {config.hidden_size}, {config.depth} blocks, {config.num_heads} heads, "
        f"{intake.model.num_parameters:,} parameters; {config.num_frames} frames of "
        f"{side} x {side} latents; told {told[config.conditioning]}",
        f"  settings: {done.kind}, weights in {done.dtype}",
        f"  came in: {len(intake.taken)} tensors",
        *_listed(intake.taken),
        f"  ignored: {len(intake.ignored)}",
        *[f"    {name}: {why}" for name, why in intake.ignored.items()],
        f"  new: {len(intake.new)}",
        *_listed(intake.new),
        *[f"  note: {note}" for note in intake.notes],
        *[f"  {part} from {folder}" for part, folder in done.parts.items()],
    ]
    if "vae" not in done.parts:
        lines.append(
            "  no autoencoder yet, so it cannot make clips: convert again with --vae FOLDER, a "
            "copy of the one that it was trained with (the published class models: "
            "stabilityai/sd-vae-ft-ema)"
        )
    return [*lines, f"{out}: {done.bytes / 2**20:,.1f} MiB"]


def _listed(names: tuple[str, ...]) -> list[str]:
    """Names with their numbers taken out, each with how many there are."""
    counts: dict[str, int] = {}
    for name in names:
        shape = re.sub(r"(?<=blocks\.)\d+", "*", name)
        counts[shape] = counts.get(shape, 0) + 1
    return [f"    {name}" + (f" ({n})" if n > 1 else "") for name, n in counts.items()]
