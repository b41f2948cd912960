"""Want of memory, before a run or in it: its cause in a sentence, and what one click can do."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from demo.sizes import parse_size, size_choices
from demo.stage import Remedy
from demo.strings import Texts
from latte_core import RequestError

if TYPE_CHECKING:
    from latte_core import EngineInfo, GenerationRequest


def foresee(
    request: GenerationRequest, info: EngineInfo | None, texts: Texts
) -> tuple[str, tuple[Remedy, ...]] | None:
    """Cause and remedies if a run will want more memory than is free; None if it should go.

    The first remedy is the next smaller plan that fits; the last is to try all the same.
    """
    if info is None or info.memory is None:
        return None
    needs = info.memory.needs(request)
    if not needs or needs[0].fits:
        return None
    now = needs[0]
    cause = texts("memory.short", need=_gib(now.needed_gib), free=_gib(now.free_gib), plan=now.plan)
    fitting = next((need for need in needs[1:] if need.fits), None)
    if fitting is None:
        cause += " " + texts("memory.none_fits")
    plans = [_plan(fitting.plan, fitting.needed_gib, texts)] if fitting else []
    anyway = Remedy(texts("memory.anyway"), anyway=True)
    return cause, (*plans, *_smaller(request, info, texts), anyway)


def after(
    request: GenerationRequest, info: EngineInfo | None, tried: Collection[str], texts: Texts
) -> tuple[Remedy, ...]:
    """What can be done about a run that failed for memory; `tried` are plans that it had."""
    if info is None:
        return ()
    needs = info.memory.needs(request) if info.memory is not None else ()
    left = [need for need in needs[1:] if need.plan not in tried][:1]
    plans = [_plan(need.plan, need.needed_gib, texts) for need in left]
    return (*plans, *_smaller(request, info, texts))


def _plan(name: str, needed_gib: float, texts: Texts) -> Remedy:
    return Remedy(texts("memory.plan", plan=name, need=_gib(needed_gib)), plan=name)


def _smaller(request: GenerationRequest, info: EngineInfo, texts: Texts) -> tuple[Remedy, ...]:
    """The largest size that the page offers below the request's own."""
    own = info.defaults
    area = (request.height or own.height) * (request.width or own.width)
    sizes: list[tuple[int, str, str]] = []
    for label, value in size_choices(texts, info):
        try:
            height, width = parse_size(value)
        except RequestError:
            continue
        sizes.append(((height or own.height) * (width or own.width), value, label))
    below = [one for one in sizes if one[0] < area]
    if not below:
        return ()
    _, value, label = max(below)
    return (Remedy(texts("memory.size", size=label), size=value or f"{own.width} × {own.height}"),)


def _gib(amount: Any) -> str:
    return f"{amount:.1f}" if amount >= 0.95 else f"{amount:.2f}"
