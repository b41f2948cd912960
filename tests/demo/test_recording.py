import base64
import io
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from demo.recording import RECORDING, record, recorded_run
from demo.settings import DEFAULT_MODEL
from demo.stage import make_strip
from demo.strings import load_texts
from latte_core import Engine, GenerationRequest
from latte_core.checkpoints import model_hash

TAPE = json.loads(RECORDING.read_text())


def pixels(strip):
    data = base64.b64decode(strip["image"].partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(float)


def test_bundled_tape_is_small_and_goes_from_noise_to_film():
    assert RECORDING.stat().st_size < 600_000
    strips = TAPE["strips"]
    assert len(strips) > 10 and all(strip["frames"] == strips[0]["frames"] for strip in strips)
    assert strips[-1]["width"] > strips[0]["width"]  # the film itself comes last
    last = pixels(strips[-2])
    far, near = (np.abs(pixels(strips[i]) - last).mean() for i in (0, len(strips) - 4))
    assert far > 3 * near  # the steps come nearer and nearer to the film


def test_bundled_tape_is_of_the_bundled_model():
    made_by, bundled = TAPE["model_hash"], model_hash(Path(DEFAULT_MODEL))
    assert made_by == bundled, "The bundled model has changed: run python -m demo.recording."


def test_page_says_what_the_tape_shows():
    run = recorded_run(load_texts())
    assert run["text"] == f"Recorded run: “{TAPE['prompt']}”"
    assert run["url"].startswith("gradio_api/file=/") and run["url"].endswith("/first-run.json")


def test_page_without_a_tape_starts_empty(tmp_path):
    assert recorded_run(load_texts(), tmp_path / "none.json") is None


def test_recording_holds_every_step_and_the_film(tiny_folder):
    tape = record(str(tiny_folder), "a red rocket", seed=3)
    with Engine.load(tiny_folder) as engine:
        steps = engine.describe().defaults.num_inference_steps
        film = engine.generate(GenerationRequest(prompt="a red rocket", seed=3)).frames
    assert len(tape["strips"]) == steps + 2
    assert (tape["prompt"], tape["seed"]) == ("a red rocket", 3)
    assert tape["strips"][-1] == asdict(make_strip(film, film[:0]))
