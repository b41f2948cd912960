"""`python -m latte_core evaluate`: prompt following of a model of the world, with its sheet."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from latte_core.data.world import ANY, COMPOSITIONS, SPOKEN

ASSETS = Path(__file__).resolve().parents[2] / "assets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--model", default=str(ASSETS / "latte-world"), help="model folder")
    parser.add_argument("--probe", type=Path, default=ASSETS / "world" / "probe.safetensors")
    parser.add_argument("--prompts", type=int, default=64, help="held-out prompts to generate")
    parser.add_argument("--seed", type=int, default=2024, help="which held-out prompts")
    parser.add_argument("--language", choices=SPOKEN, default="en", help="of the prompts")
    parser.add_argument(
        "--compose",
        choices=(*COMPOSITIONS, ANY),
        help="prompts of two subjects, of a camera, ...; any: of all, as often as the world has it",
    )
    parser.add_argument("--steps", type=int, help="denoising steps instead of the model's own")
    parser.add_argument("--turbo", action="store_true", help="with the few-step transformer")
    parser.add_argument("--plan", help="step plan instead of the model's own; full for all work")
    parser.add_argument("--precision", default="auto", help="as of generate: fp32, bf16, ...")
    parser.add_argument("--guidance", type=float, help="guidance instead of the model's own")
    parser.add_argument(
        "--images", type=int, default=0, help="stills beside each clip (joint mode), judged too"
    )
    parser.add_argument("--frames", type=int, help="frames of a clip instead of the model's own")
    parser.add_argument("--tempo", help="of longer clips: stretch or steady")
    parser.add_argument("--height", type=int, help="in pixels, instead of the model's own")
    parser.add_argument("--width", type=int, help="in pixels, instead of the model's own")
    parser.add_argument("--size", type=int, help="height and width in one")
    parser.add_argument(
        "--first-frame",
        action="store_true",
        help="begin each clip with the first frame of the rendered clip of its prompt",
    )
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--showcase", type=Path, help="write the model's examples, moving (WebP)")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet (PNG) here")


def run(arguments: argparse.Namespace) -> int:
    """Generate, judge and print the table; or only show the model's own examples."""
    from latte_core import Engine

    engine = Engine.load(arguments.model, precision=arguments.precision)
    try:
        if arguments.showcase:
            _show(engine, arguments)
        if arguments.prompts > 0:
            _measure(engine, arguments)
    finally:
        engine.close()
    return 0


def _request(prompt: str, seed: int, arguments: argparse.Namespace, **more: Any) -> Any:
    from latte_core import GenerationRequest

    return GenerationRequest(
        prompt,
        seed=seed,
        num_inference_steps=arguments.steps,
        guidance_scale=arguments.guidance,
        mode="joint" if arguments.images else "video",
        num_images=arguments.images,
        turbo=arguments.turbo,
        plan=arguments.plan,
        num_frames=arguments.frames,
        tempo=arguments.tempo,
        height=arguments.height or arguments.size,
        width=arguments.width or arguments.size,
        **more,
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
    from latte_core.evaluation import prompt_following as following
    from latte_core.evaluation.probe import load_probe
    from latte_core.evaluation.session import Session
    from latte_core.evaluation.shapes import seen
    from latte_core.evaluation.sheet import contact_sheet

    probe = load_probe(arguments.probe)
    prompts = following.held_out_prompts(
        probe.world, arguments.prompts, arguments.seed, arguments.language, arguments.compose
    )

    def ask(prompt: following.PromptSpec, **more: Any) -> Any:
        sys.stderr.write(f"\r{len(session.made)}/{len(prompts)} clips")
        return engine.generate(_request(prompt.prompt, prompt.seed, arguments, **more))

    info = engine.describe()
    size = (
        arguments.height or arguments.size or info.defaults.height,
        arguments.width or arguments.size or info.defaults.width,
    )
    vae = Path(arguments.model) / "vae"
    session = Session(probe, vae, ask, info, size, arguments.first_frame)
    rows = list(
        following.measure_following(probe, prompts, session.generate, session.through_vae, seen)
    )
    sys.stderr.write("\n")
    sys.stdout.write(following.format_table(rows) + "\n")
    for line in session.lines([prompt.spec for prompt in prompts]):
        sys.stdout.write(line + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(following.as_json(rows), indent=2) + "\n")
    if arguments.sheet:
        contact_sheet(session.made).save(arguments.sheet)
