"""`python -m latte_core study FILE --folder FOLDER`: what one design choice does, measured."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

ASSETS = Path(__file__).resolve().parents[2] / "assets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "study", type=Path, help="JSON file, such as assets/configs/studies/joint.json"
    )
    parser.add_argument(
        "--folder", type=Path, required=True, help="folder for latents, states and logs"
    )
    parser.add_argument(
        "--model",
        type=Path,
        default=ASSETS / "latte-world",
        help="model folder whose autoencoder encodes the clips",
    )
    parser.add_argument("--steps", type=int, help="instead of the study's own number of steps")
    parser.add_argument("--device", choices=("auto", "cpu"), help="instead of the study's own")
    parser.add_argument("--out", type=Path, help="write the result here, for the page to show")


def run(arguments: argparse.Namespace) -> int:
    """Train and judge the arms, print the table."""
    from latte_core.training import study

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("accelerate").setLevel(logging.WARNING)
    config, data = study.load_study(arguments.study)
    changes = {
        name: value
        for name in ("steps", "device")
        if (value := getattr(arguments, name)) is not None
    }
    sitting = study.plan_run(config, data, arguments.folder, changes, arguments.model)
    result = study.run_study(sitting, config, data)
    sys.stdout.write(study.format_study(result) + "\n")
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(result.to_json(), encoding="utf-8")
    return 0
