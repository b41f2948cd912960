"""The command line: `python -m latte_core generate "a prompt" --out clip.mp4 --seed 7`.

Every command is a module with `add_arguments(parser)` and `run(arguments) -> exit code`, imported
only when it is called. Bad input is answered by a sentence on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from latte_core.errors import (
    Cancelled,
    CheckpointError,
    ConfigError,
    LatteError,
    MemoryPlanError,
    RequestError,
)

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
INPUT_ERRORS = (RequestError, CheckpointError, ConfigError, MemoryPlanError)


@dataclass(frozen=True)
class Command:
    """Where a command lives, and what it does in a few words."""

    module: str
    summary: str


COMMANDS = {
    "generate": Command(
        "latte_core.cli_generate", "make a clip or stills from a prompt or a class"
    ),
    "convert": Command(
        "latte_core.checkpoints.command", "make a model folder from original weights"
    ),
    "train": Command("latte_core.training.command", "train the bundled model from its recipe"),
    "check": Command("latte_core.data.check_command", "say what a data set holds, what is broken"),
    "encode": Command("latte_core.data.encode_command", "cache a data set's latents in shards"),
    "bench": Command("latte_core.benchmark.command", "time the engine against stock diffusers"),
    "study": Command("latte_core.training.study_command", "measure what a design choice does"),
    "calibrate": Command(
        "latte_core.calibration.command", "find step plans that save a model's work"
    ),
    "evaluate": Command("latte_core.evaluation.command", "measure how well prompts are followed"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser(given[0] if given else "")
    parsed = parser.parse_args(given)
    try:
        return int(parsed.run(parsed))
    except Cancelled as stop:
        return _complain(str(stop), INTERRUPTED)
    except INPUT_ERRORS as error:
        return _complain(str(error), BAD_INPUT)
    except LatteError as error:
        return _complain(str(error), FAILED)
    except KeyboardInterrupt:
        return _complain("Interrupted.", INTERRUPTED)


def _parser(chosen: str) -> argparse.ArgumentParser:
    """A parser that knows all commands by name, and the chosen one in full."""
    parser = argparse.ArgumentParser(prog="python -m latte_core", description="Latte Studio")
    commands = parser.add_subparsers(metavar="command", required=True)
    for name, command in COMMANDS.items():
        branch = commands.add_parser(name, help=command.summary, description=command.summary)
        if name == chosen:
            module = importlib.import_module(command.module)
            module.add_arguments(branch)
            branch.set_defaults(run=module.run)
    return parser


def _complain(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr)
    return code
