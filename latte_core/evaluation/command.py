"""`python -m latte_core evaluate`: prompt following of a model of the world, with its sheet."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).resolve().parents[2] / "assets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--model", default=str(ASSETS / "latte-world"), help="model folder")
    parser.add_argument("--probe", type=Path, default=ASSETS / "world" / "probe.safetensors")
    parser.add_argument("--prompts", type=int, default=64, help="held-out prompts to generate")
    parser.add_argument("--seed", type=int, default=2024, help="which held-out prompts")
    parser.add_argument("--steps", type=int, help="denoising steps instead of the model's own")
    parser.add_argument("--guidance", type=float, help="guidance instead of the model's own")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet (PNG) here")


def run(arguments: argparse.Namespace) -> int:
    """Generate, judge and print the table."""
    from latte_core import Engine, GenerationRequest
    from latte_core.components.vae import decode_frames, encode_frames, load_vae
    from latte_core.evaluation import prompt_following as following
    from latte_core.evaluation.probe import load_probe, to_clips
    from latte_core.evaluation.sheet import contact_sheet

    probe = load_probe(arguments.probe)
    prompts = following.held_out_prompts(probe.world, arguments.prompts, arguments.seed)
    vae = load_vae(Path(arguments.model) / "vae")
    engine = Engine.load(arguments.model)
    made: list[tuple[str, Any]] = []

    def generate(prompt: following.PromptSpec) -> following.Frames:
        request = GenerationRequest(
            prompt.prompt,
            seed=prompt.seed,
            num_inference_steps=arguments.steps,
            guidance_scale=arguments.guidance,
        )
        made.append((prompt.prompt, engine.generate(request).frames))
        sys.stderr.write(f"\r{len(made)}/{len(prompts)} clips")
        return made[-1][1]

    def through_vae(clip: following.Frames) -> following.Frames:
        return decode_frames(vae, encode_frames(vae, to_clips(clip[None])[0]))

    try:
        rows = list(following.measure_following(probe, prompts, generate, through_vae))
    finally:
        engine.close()
    sys.stderr.write("\n")
    sys.stdout.write(following.format_table(rows) + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(following.as_json(rows), indent=2) + "\n")
    if arguments.sheet:
        contact_sheet(made).save(arguments.sheet)
    return 0
