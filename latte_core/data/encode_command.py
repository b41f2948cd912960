"""`python -m latte_core encode ROOT OUT --model FOLDER`: a data set to shards of latents."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from latte_core.data.source_options import add_source_arguments, counter, source_of
from latte_core.errors import ConfigError

if TYPE_CHECKING:
    from latte_core.data.shards import Part


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_source_arguments(parser)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the shards")
    parser.add_argument("--model", required=True, help="model folder or hub id, for VAE and text")
    parser.add_argument("--device", default="auto", help="cuda or cpu; auto by default")
    parser.add_argument("--batch", type=int, default=8, help="frames encoded at once (8)")
    parser.add_argument("--no-text", action="store_true", help="keep captions as texts only")
    parser.add_argument(
        "--part", default="1/1", metavar="K/N", help="write every N-th shard only, from the K-th on"
    )
    parser.add_argument(
        "--shard-frames", type=int, help="frames in a shard; 32768, about 256 MiB at 256 pixels"
    )


def run(arguments: argparse.Namespace) -> int:
    """Encode what is not encoded yet, check all of it, and say what is there."""
    from latte_core.checkpoints import resolve_model
    from latte_core.data.encoders import load_encoders
    from latte_core.data.latent_set import open_shards
    from latte_core.data.shards import SHARD_FRAMES, write_shards
    from latte_core.data.video_set import open_source

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    part = _part(arguments.part)
    if arguments.batch < 1:
        raise ConfigError(f"--batch is {arguments.batch}, but must be at least 1.")
    videos = open_source(source_of(arguments), counter("looked at"))
    if left_out := sum(problem.kind != "caption" for problem in videos.problems):
        sys.stderr.write(f"{left_out} clips cannot be used, check names them all.\n")
    captioned = any(item.captions for item in videos.items)
    folder = resolve_model(arguments.model)
    encoders = load_encoders(
        folder, arguments.device, arguments.batch, captioned and not arguments.no_text
    )
    written = write_shards(
        videos,
        encoders,
        arguments.out,
        part=part,
        shard_frames=arguments.shard_frames or SHARD_FRAMES,
        on_progress=counter("frames encoded:"),
    )
    if part.total > 1:
        sys.stdout.write(f"Wrote {written} shards of part {part.number} of {part.total}.\n")
        return 0
    latents = open_shards(arguments.out, verify=True)
    frames = sum(sample.length for sample in latents.samples)
    sys.stdout.write(
        f"{arguments.out}: {len(latents)} clips, {frames} frames as latents "
        f"{' x '.join(map(str, latents.latent_shape))}; {written} shards written now.\n"
    )
    for problem in latents.problems:
        sys.stdout.write(f"left out: {problem.key}: {problem.reason}\n")
    return 0


def _part(text: str) -> Part:
    """`K/N` as a Part. Raises ConfigError."""
    from latte_core.data.shards import Part

    number, slash, total = text.partition("/")
    if not (slash and number.isdigit() and total.isdigit()):
        raise ConfigError(f"--part is {text!r}, but must be like 1/4.")
    return Part(int(number), int(total))
