"""`python -m latte_core check ROOT --kind KIND`: what a data set holds, and what is wrong with it.

Exit code 0 if there is something to train on, 1 if there is not.
"""

from __future__ import annotations

import argparse
import json
import sys

from latte_core.data.source_options import add_source_arguments, counter, source_of

NAMED = 20  # problems of each kind that are named without --all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_source_arguments(parser)
    parser.add_argument("--deep", action="store_true", help="decode every frame, which takes long")
    parser.add_argument("--all", action="store_true", help="name every problem")
    parser.add_argument("--json", action="store_true", help="answer in JSON, with every problem")


def run(arguments: argparse.Namespace) -> int:
    """Look and tell."""
    from latte_core.data.survey import describe, survey

    found = survey(source_of(arguments), arguments.deep, counter("looked at"))
    if arguments.json:
        text = json.dumps(found.to_dict(), indent=2) + "\n"
    else:
        text = describe(found, len(found.problems) if arguments.all else NAMED)
    # Names that the terminal, or any terminal, cannot show are written with escapes.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    return 0 if found.clips else 1
