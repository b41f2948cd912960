"""Finished runs as the page shows them: cards, links to files, and a run put back on the stage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from demo.files import SHEET_COLUMNS, export_names
from demo.history import Entry
from demo.recipes import as_film_link, copies_of
from demo.sizes import size_value
from demo.stage import Link, StageState, make_strip
from demo.story import Files
from demo.strings import Texts
from latte_core import LatteError, MediaError

if TYPE_CHECKING:
    import numpy as np

    from latte_core import EngineInfo

STRIP_SIDE = 64  # pixels of a tile while the clip itself is being fetched


def files_of(entry: Entry, texts: Texts) -> Files:
    """The addresses of a run's files, the links to download them, and its settings in words."""
    urls = tuple(entry.url(path.name) for path in entry.stills)
    stills = [
        Link(url, path.name, texts("stage.download_still", number=number))
        for number, (url, path) in enumerate(zip(urls, entry.stills, strict=True), start=1)
    ]
    if entry.clip is None:
        return Files("", urls, tuple(stills), facts_of(entry, texts))
    video = entry.url(entry.clip.name)
    links = [Link(video, entry.clip.name, texts("stage.download_clip"))]
    for kind, name in export_names(entry).items():
        links.append(Link(entry.url(name), name, texts(f"stage.download_{kind}")))
    return Files(video, urls, (*links, *stills), facts_of(entry, texts))


def facts_of(entry: Entry, texts: Texts) -> str:
    """The settings that made it, in words."""
    facts = texts(
        "run.facts",
        steps=entry.recipe.get("num_inference_steps", "?"),
        guidance=entry.recipe.get("guidance_scale", "?"),
        width=entry.width,
        height=entry.height,
    )
    if (plan := entry.recipe.get("plan") or "full") != "full":
        facts += ", " + texts("run.facts.plan", plan=plan)
    if entry.recipe.get("first_frame"):
        facts += ", " + texts("run.facts.picture")
    if entry.clip is None:
        return facts
    return facts + ", " + texts("run.facts.frames", frames=entry.frames, fps=entry.fps)


def cards_of(entries: list[Entry], texts: Texts) -> str:
    """The value of the history: JSON, one card a run."""
    cards = [
        {
            "key": entry.key,
            "image": entry.url(entry.thumbnail.name),
            "prompt": str(entry.recipe.get("prompt", "")),
            "seed": entry.recipe.get("seed"),
            "steps": entry.recipe.get("num_inference_steps"),
            "facts": facts_of(entry, texts),
            "created": entry.created,
            "clip": entry.clip is not None,
        }
        for entry in entries
    ]
    return json.dumps(cards, ensure_ascii=False, separators=(",", ":"))


def runs_of(entries: list[Entry], texts: Texts) -> str:
    """The value of the two films to compare: JSON, one object a clip; image mode has none."""
    runs = [
        {
            "key": entry.key,
            "label": texts(
                "compare.run",
                prompt=entry.recipe.get("prompt", ""),
                seed=entry.recipe.get("seed", "?"),
                steps=entry.recipe.get("num_inference_steps", "?"),
            ),
            "sheet": entry.url(export_names(entry)["png"]),
            "columns": SHEET_COLUMNS,
            "frames": entry.frames,
            "width": entry.width,
            "height": entry.height,
            "fps": entry.fps,
            "rows": _compared(entry, texts),
        }
        for entry in entries
        if entry.clip is not None
    ]
    return json.dumps(runs, ensure_ascii=False, separators=(",", ":"))


def _compared(entry: Entry, texts: Texts) -> list[tuple[str, str]]:
    """What the table of a comparison says of a run: settings, then seconds by stage."""
    fields = (
        "prompt",
        "negative_prompt",
        "seed",
        "num_inference_steps",
        "guidance_scale",
        "scheduler",
        "plan",
    )
    rows = [(texts(f"compare.{name}"), str(entry.recipe.get(name, ""))) for name in fields]
    size = texts("run.facts.frames", frames=entry.frames, fps=entry.fps)
    rows.append((texts("compare.size"), f"{entry.width}×{entry.height}, {size}"))
    rows.append((texts("compare.model"), str(entry.recipe.get("model", ""))))
    for stage in ("encode_s", "denoise_s", "decode_s"):
        seconds = entry.timings.get(stage)
        shown = "" if seconds is None else texts("compare.seconds", seconds=f"{seconds:.2f}")
        rows.append((texts(f"compare.{stage}"), shown))
    peak = entry.memory_gib.get("peak")
    shown = "" if peak is None else texts("compare.gib", gib=f"{peak:.2f}")
    return [*rows, (texts("compare.memory"), shown)]


def copies_value(entry: Entry | None) -> str:
    """The value of the recipe line: JSON with the forms of a run's recipe; {} without a run.

    One of them is no recipe but the film itself, by a link to where it is kept.
    """
    if entry is None:
        return "{}"
    try:
        copies = {**copies_of(entry.recipe), "film": as_film_link(entry.key), "key": entry.key}
        return json.dumps({"seed": entry.recipe.get("seed"), "copies": copies})
    except LatteError:  # of a later version, with values that this one does not know
        return "{}"


def on_stage(entry: Entry, texts: Texts) -> StageState:
    """The run as the stage shows it, as if it had just finished. Raises MediaError."""
    files = files_of(entry, texts)
    frames, stills = _read_pictures(entry)
    seed = entry.recipe.get("seed")
    return StageState(
        state="finished",
        text=texts("history.loaded"),
        mode=str(entry.recipe.get("mode", "video")),
        progress=1.0,
        strip=make_strip(frames, stills),
        step=0,
        fps=float(entry.fps),
        seed=seed if isinstance(seed, int) else None,
        facts=files.facts,
        video=files.video,
        stills=files.stills,
        links=files.links,
    )


def _read_pictures(entry: Entry) -> tuple[np.ndarray, np.ndarray]:
    """Small frames (F, h, w, 3) of the clip and small stills (I, h, w, 3)."""
    import numpy as np
    from PIL import Image

    from latte_core import read_clip

    stride = max(1, max(entry.height, entry.width) // STRIP_SIDE)
    nothing = np.zeros((0, 1, 1, 3), np.uint8)
    try:
        frames = read_clip(entry.clip)[:, ::stride, ::stride] if entry.clip else nothing
        stills = [np.asarray(Image.open(path).convert("RGB")) for path in entry.stills]
    except OSError as error:
        raise MediaError(f"The files of this run cannot be read: {error.strerror}.") from error
    small = [still[::stride, ::stride] for still in stills]
    return frames, np.stack(small) if small else nothing


def field_values(
    recipe: dict[str, Any], names: list[str], info: EngineInfo | None = None
) -> dict[str, Any]:
    """What the page's fields `names` hold for these settings.

    `info` knows the work of the step plans for them; a plan that is not there is taken for all.
    """
    values = {name: recipe.get(name) for name in names}
    if "seed" in values:
        values["seed"] = "" if values["seed"] is None else str(values["seed"])
    if "size" in values:
        values["size"] = size_value(recipe, info)
    for name in ("scheduler", "negative_prompt", "first_frame"):
        if name in values:
            values[name] = values[name] or ""
    for name in ("image_prompts", "image_class_labels"):
        if name in values:
            values[name] = "\n".join(map(str, values[name] or ()))
    if "turbo" in values:
        values["turbo"] = bool(values["turbo"])
    if "plan" in values:
        values["plan"] = round(100 * _shares(recipe, info).get(str(values["plan"]), 1.0), 1)
    if "num_images" in values:
        values["num_images"] = values["num_images"] or 4
    return values


def _shares(recipe: dict[str, Any], info: EngineInfo | None) -> Mapping[str, float]:
    """The work of the step plans for these settings."""
    if info is None:
        return {}
    return info.plan_shares(recipe.get("scheduler"), recipe.get("num_inference_steps"))
