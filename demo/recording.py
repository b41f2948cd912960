"""The run that the stage plays until a real one starts, and the command that records it.

    python -m demo.recording

makes the bundled model's first example once more and writes every step of it, as the page shows
it, and the finished film to `assets/first-run.json`: one strip a step, the film last. It is to be
run again when the bundled model changes.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from demo.settings import DEFAULT_MODEL, PROJECT
from demo.stage import make_strip
from demo.strings import Texts

log = logging.getLogger(__name__)

RECORDING = PROJECT / "assets" / "first-run.json"
SEED = 7


def recorded_run(texts: Texts, path: Path = RECORDING) -> dict[str, str] | None:
    """What the stage needs to play the tape: its address, and what it says; None without one."""
    try:
        tape = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return None
    words = {key: tape[key] for key in ("model", "prompt", "seed")}
    return {
        "url": "gradio_api/file=" + quote(str(path)),
        "text": texts("recorded.text", **words),
        "hint": texts("recorded.hint"),
    }


def record(model: str, prompt: str = "", seed: int = SEED) -> dict[str, Any]:
    """Run a model once, exactly, and keep what the stage would have shown.

    An empty prompt stands for the first example of the model's own card.
    Raises LatteError if the model cannot be loaded or cannot make it.
    """
    import numpy as np

    from latte_core import Engine, Finished, GenerationRequest, Step

    strips = []
    with Engine.load(model, device="cpu", precision="fp32") as engine:
        info = engine.describe()
        request = GenerationRequest(prompt=prompt or str(info.card["examples"][0]), seed=seed)
        for event in engine.stream(request):
            if isinstance(event, Step):
                strips.append(make_strip(event.preview, event.stills))
            elif isinstance(event, Finished):
                frames = event.generation.frames
                strips.append(make_strip(frames, np.zeros((0, *frames.shape[1:]), np.uint8)))
    return {
        "model": str(info.card.get("name") or Path(info.model).name),
        "model_hash": info.model_hash,
        "prompt": request.prompt,
        "seed": seed,
        "fps": info.defaults.fps,
        "strips": [asdict(strip) for strip in strips],
    }


def main(argv: Sequence[str]) -> int:
    """The command."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        prog="python -m demo.recording", description="Record the run that the page shows first."
    )
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--prompt", default="", help="default: the model's first example")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=RECORDING)
    asked = parser.parse_args(argv)
    tape = record(asked.model, asked.prompt, asked.seed)
    asked.out.write_text(json.dumps(tape, separators=(",", ":")) + "\n", encoding="utf-8")
    kib = asked.out.stat().st_size / 1024
    log.info("%s: %d strips, %.0f KiB", asked.out, len(tape["strips"]), kib)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
