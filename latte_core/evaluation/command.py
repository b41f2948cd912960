"""`python -m latte_core evaluate`: prompt following of a model of the world, with its sheet."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from latte_core.data.world import SPOKEN

ASSETS = Path(__file__).resolve().parents[2] / "assets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--model", default=str(ASSETS / "latte-world"), help="model folder")
    parser.add_argument("--probe", type=Path, default=ASSETS / "world" / "probe.safetensors")
    parser.add_argument("--prompts", type=int, default=64, help="held-out prompts to generate")
    parser.add_argument("--seed", type=int, default=2024, help="which held-out prompts")
    parser.add_argument("--language", choices=SPOKEN, default="en", help="of the prompts")
    parser.add_argument("--steps", type=int, help="denoising steps instead of the model's own")
    parser.add_argument("--turbo", action="store_true", help="with the few-step transformer")
    parser.add_argument("--guidance", type=float, help="guidance instead of the model's own")
    parser.add_argument(
        "--images", type=int, default=0, help="stills beside each clip (joint mode), judged too"
    )
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--showcase", type=Path, help="write the model's examples, moving (WebP)")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet (PNG) here")


def run(arguments: argparse.Namespace) -> int:
    """Generate, judge and print the table; or only show the model's own examples."""
    from latte_core import Engine

    engine = Engine.load(arguments.model)
    try:
        if arguments.showcase:
            _show(engine, arguments)
        if arguments.prompts > 0:
            _measure(engine, arguments)
    finally:
        engine.close()
    return 0


def _request(prompt: str, seed: int, arguments: argparse.Namespace) -> Any:
    from latte_core import GenerationRequest

    return GenerationRequest(
        prompt,
        seed=seed,
        num_inference_steps=arguments.steps,
        guidance_scale=arguments.guidance,
        mode="joint" if arguments.images else "video",
        num_images=arguments.images,
        turbo=arguments.turbo,
    )


def _show(engine: Any, arguments: argparse.Namespace) -> None:
    """Write the examples of the model's card as one moving picture."""
    from latte_core.evaluation.sheet import save_showcase

    info = engine.describe()
    clips = [
        (prompt, engine.generate(_request(prompt, arguments.seed + i, arguments)).frames)
        for i, prompt in enumerate(info.card["examples"])
    ]
    save_showcase(clips, arguments.showcase, info.defaults.fps)


def _measure(engine: Any, arguments: argparse.Namespace) -> None:
    """Print the table of prompt following, and write what else was asked for."""
    from latte_core.components.vae import decode_frames, encode_frames, load_vae
    from latte_core.data.pixels import to_pixels
    from latte_core.evaluation import prompt_following as following
    from latte_core.evaluation.probe import load_probe
    from latte_core.evaluation.sheet import contact_sheet

    probe = load_probe(arguments.probe)
    vae = load_vae(Path(arguments.model) / "vae")
    prompts = following.held_out_prompts(
        probe.world, arguments.prompts, arguments.seed, arguments.language
    )
    made: list[tuple[str, Any]] = []
    beside: list[list[bool] | None] = []

    def generate(prompt: following.PromptSpec) -> following.Frames:
        clip = engine.generate(_request(prompt.prompt, prompt.seed, arguments))
        made.append((prompt.prompt, clip.frames))
        if arguments.images:
            beside.append(following.score_stills(probe, clip.frames, clip.stills, prompt.spec))
        sys.stderr.write(f"\r{len(made)}/{len(prompts)} clips")
        return clip.frames

    def through_vae(clip: following.Frames) -> following.Frames:
        return decode_frames(vae, encode_frames(vae, to_pixels(clip)))

    rows = list(following.measure_following(probe, prompts, generate, through_vae))
    sys.stderr.write("\n")
    sys.stdout.write(following.format_table(rows) + "\n")
    stills = [mark for marks in beside if marks is not None for mark in marks]
    if stills:
        sys.stdout.write(
            f"stills beside right clips: {100 * sum(stills) / len(stills):.1f} % of {len(stills)} "
            "show the clip's subject and place\n"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(following.as_json(rows), indent=2) + "\n")
    if arguments.sheet:
        contact_sheet(made).save(arguments.sheet)
