"""Command-line options that name a data set, shared by the commands that read one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from latte_core.data.source import SPLITS, VideoSource
from latte_core.data.windows import WINDOWINGS


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the root and the options of a `VideoSource`."""
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of the data set")
    parser.add_argument("--kind", choices=tuple(WINDOWINGS), default="folder")
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument(
        "--split-list", type=int, default=1, help="which official list of UCF101: 1, 2 or 3"
    )
    parser.add_argument("--frames", type=int, default=16, help="frames of a clip (16)")
    parser.add_argument("--stride", type=int, default=3, help="interval between them (3)")
    parser.add_argument("--size", type=int, default=256, help="side of the square (256)")
    parser.add_argument("--flip", type=float, help="share of mirrored clips, else the kind's own")
    parser.add_argument("--captions", type=Path, help="captions as JSON, JSONL or CSV")


def source_of(arguments: argparse.Namespace) -> VideoSource:
    """The data set that was named. Raises ConfigError for values outside their limits."""
    return VideoSource(
        arguments.kind,
        arguments.root,
        num_frames=arguments.frames,
        stride=arguments.stride,
        size=arguments.size,
        split=arguments.split,
        split_list=arguments.split_list,
        flip=arguments.flip,
        captions=arguments.captions,
    )


def counter(what: str) -> Callable[[int, int], None] | None:
    """A line on stderr that counts (done, total); None where stderr is no terminal."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        end = "\n" if done >= total else ""
        sys.stderr.write(f"\r{what} {done} of {total}{end}")
        sys.stderr.flush()

    return show
