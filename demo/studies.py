"""Results of studies as charts beside the paper's findings: only what was measured is shown.

`python -m latte_core study FILE --folder FOLDER --out assets/study/NAME.json` measures what one
design choice does and writes a file of this form; without such a file, the page shows nothing:

    {"format": 1, "name": ..., "title": ..., "question": ..., "paper": what the paper found,
     "measure": what `value` is (lower is better), "steps": 600, "clips_seen": 4800, "held_out": 96,
     "arms": [{"name": ..., "value": 0.31, "low": 0.30, "high": 0.32, "difference": 0.01,
               "difference_low": 0.0, "difference_high": 0.02, "parameters": 2000000,
               "minutes": 12.5}, ...]}

`low` to `high` hold 95 % of the resampled means; differences are to the first arm, clip by clip.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from demo.settings import PROJECT
from demo.strings import Texts

log = logging.getLogger(__name__)

STUDIES = PROJECT / "assets" / "study"
FORMAT = 1
NUMBERS = ("value", "low", "high", "difference", "difference_low", "difference_high")


def read_studies(folder: Path = STUDIES) -> list[dict[str, Any]]:
    """All finished studies, by their files' names; a damaged one is logged, not shown."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            study = json.loads(path.read_text(encoding="utf-8"))
            _check(study)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("The study %s cannot be shown: %s: %s", path, type(error).__name__, error)
        else:
            found.append(study)
    return found


def draw_studies(studies: Sequence[Mapping[str, Any]], texts: Texts) -> str:
    """A chart for each study, as markup; nothing without one."""
    if not studies:
        return ""
    lead = f"<h2>{escape(texts('study.title'))}</h2><p>{escape(texts('study.lead'))}</p>"
    return (
        f'<section class="li-studies">{lead}{"".join(_figure(s, texts) for s in studies)}</section>'
    )


def _check(study: Any) -> None:
    if study["format"] != FORMAT:
        raise ValueError(f"format {study['format']!r} instead of {FORMAT}")
    for name in ("title", "question", "paper", "measure"):
        if not isinstance(study[name], str):
            raise TypeError(f"{name} is no text")
    if not study["arms"]:
        raise ValueError("no arms")
    for arm in study["arms"]:
        low, value, high = (float(arm[name]) for name in ("low", "value", "high"))
        if not low <= value <= high:
            raise ValueError(f"{arm['name']}: {value} is not between {low} and {high}")
        _ = [float(arm[name]) for name in NUMBERS], int(arm["parameters"])


def _figure(study: Mapping[str, Any], texts: Texts) -> str:
    facts = texts(
        "study.facts",
        steps=study.get("steps", "?"),
        clips=study.get("clips_seen", "?"),
        held_out=study.get("held_out", "?"),
    )
    return (
        f"<figure><h3>{escape(study['title'])}</h3><p>{escape(study['question'])}</p>"
        f'<p class="li-paper"><b>{escape(texts("study.paper"))}</b> {escape(study["paper"])}</p>'
        f'<p class="li-here"><b>{escape(texts("study.here"))}</b> {escape(study["measure"])}</p>'
        f"{draw_arms(study['arms'], texts)}<figcaption>{escape(facts)}</figcaption></figure>"
    )


def draw_arms(arms: Sequence[Mapping[str, Any]], texts: Texts) -> str:
    """A row for each arm: its name, a dot at its value, a line over its 95 %.

    Places are percentages and words are the page's own text, so that a phone shows them as large
    as a desk does.
    """
    low, high = min(float(a["low"]) for a in arms), max(float(a["high"]) for a in arms)
    span = (high - low) or 1.0
    rows = []
    for index, arm in enumerate(arms):
        start, dot, end = (
            100 * (float(arm[name]) - low) / span for name in ("low", "value", "high")
        )
        said = _said(arm, texts, first=index == 0)
        rows.append(
            f"<li><span>{escape(str(arm['name']))}</span> "
            f'<span class="li-value">{escape(said)}</span>'
            f'<div class="li-arm"><i style="left:{start:.2f}%;width:{end - start:.2f}%"></i>'
            f'<b style="left:{dot:.2f}%"></b></div></li>'
        )
    return f'<ul class="li-arms">{"".join(rows)}</ul>'


def _said(arm: Mapping[str, Any], texts: Texts, first: bool) -> str:
    value = f"{float(arm['value']):.4f}"
    if first:
        return value
    names = ("difference", "difference_low", "difference_high")
    amounts = {name: f"{float(arm[name]):+.4f}" for name in names}
    return texts("study.difference", value=value, **amounts)
