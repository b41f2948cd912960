"""Flags and environment of the app, read once into one frozen value."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
DEFAULT_MODEL = str(PROJECT / "assets" / "latte-world")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
DEFAULT_PORT = 7860  # Gradio's own default, and the port that a Space expects


@dataclass(frozen=True)
class Settings:
    """How this server runs."""

    model: str = DEFAULT_MODEL
    also: tuple[str, ...] = ()  # further models, for sheets
    memory: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    compile: bool = False
    share: bool = False
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    queue: int = 16
    history: str = ""  # empty: finished runs go when the server goes
    mcp: bool = False
    on_space: bool = False
    auth: str = field(default="", repr=False)  # name:password; empty: open to all
    zero_gpu: bool = False  # the host lends a GPU for each call

    @property
    def public(self) -> bool:
        """Whether people other than the one at this machine can reach the page."""
        return self.share or self.on_space or self.host not in LOOPBACK


def parse_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Settings from the command line, then the environment, then the defaults.

    Exits with a sentence on stderr, as argparse does, when a flag cannot be used.
    """
    parser = argparse.ArgumentParser(prog="app.py", description="Latte Studio: prompt to video.")
    add = parser.add_argument
    add("--model", default=DEFAULT_MODEL, help="model folder or hub id (default: the bundled one)")
    add("--also", action="append", metavar="MODEL", default=[], help="compare with it in sheets")
    add("--memory", default="auto", help="memory plan: auto, resident, offload, ...")
    add("--device", default="auto", help="auto, cuda, mps or cpu")
    add("--precision", default="auto", help="auto, fp32, bf16, fp16, fp16-accumulate or fp8")
    add("--compile", action="store_true", help="compile the blocks once, for faster steps")
    add("--share", action="store_true", help="ask Gradio for a public link")
    add(
        "--auth",
        type=_auth,
        metavar="NAME:PASSWORD",
        default=environ.get("LATTE_STUDIO_AUTH"),
        help="ask every visitor for these; LATTE_STUDIO_AUTH keeps them out of the process list",
    )
    add("--host", default=environ.get("GRADIO_SERVER_NAME", "127.0.0.1"))
    add("--port", type=_port, default=environ.get("GRADIO_SERVER_PORT", DEFAULT_PORT))
    add("--queue", type=_queue, default=16, help="how many jobs may wait (default: 16)")
    add(
        "--history",
        default=environ.get("LATTE_STUDIO_HISTORY", _history_folder(environ)),
        help="folder where finished runs are kept; empty to forget them (default: %(default)s)",
    )
    add(
        "--mcp",
        action="store_true",
        default=environ.get("GRADIO_MCP_SERVER", "").lower() in ("true", "1"),
        help="offer the endpoints as MCP tools; needs pip install 'gradio[mcp]'",
    )
    parser.set_defaults(
        on_space=bool(environ.get("SPACE_ID")),
        zero_gpu=environ.get("SPACES_ZERO_GPU", "").lower() in ("true", "1", "t"),
    )
    given = vars(parser.parse_args(list(argv)))
    return Settings(**given | {"auth": given["auth"] or "", "also": tuple(given["also"])})


def _history_folder(environ: Mapping[str, str]) -> str:
    """Where a desktop keeps the data of its programs (XDG base directories)."""
    data = environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return str(Path(data) / "latte-studio" / "history")


def _port(text: str) -> int:
    return _whole("port", text, low=1, high=65535)


def _queue(text: str) -> int:
    return _whole("queue", text, low=0, high=1000)


def _auth(text: str) -> str:
    """The text itself, which is not repeated in the message: it may hold a password."""
    name, _, password = text.partition(":")
    if not name or not password:
        raise argparse.ArgumentTypeError(
            "a name and a password are needed, with a colon between them: NAME:PASSWORD"
        )
    return text


def _whole(name: str, text: str, low: int, high: int) -> int:
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(
            f"{name} is {text!r}, but must be a whole number from {low} to {high}"
        )
    return int(text)
