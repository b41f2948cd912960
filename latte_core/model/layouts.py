"""The four variants: a model's blocks as a tuple of values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from latte_core.model.config import ModelConfig

Axis = Literal["space", "time"]


@dataclass(frozen=True)
class BlockSpec:
    """One block: the axes that it attends, how they are joined, and whether it reads the prompt.

    `chain` attends the axes one after the other, each with its own residual; `sum` attends both
    from the same normalised input and adds the results. With `text`, cross-attention follows.
    """

    axes: tuple[Axis, ...]
    join: Literal["chain", "sum"] = "chain"
    text: bool = False


Layout = tuple[BlockSpec, ...]
SPACE, TIME = BlockSpec(("space",)), BlockSpec(("time",))

# Source: arXiv 2401.03048, figure 2.
VARIANTS: dict[int, Callable[[int], Layout]] = {
    1: lambda depth: (SPACE, TIME) * (depth // 2),
    2: lambda depth: (SPACE,) * (depth // 2) + (TIME,) * (depth // 2),
    3: lambda depth: (BlockSpec(("space", "time")),) * depth,
    4: lambda depth: (BlockSpec(("space", "time"), join="sum"),) * depth,
}


def layout(config: ModelConfig) -> Layout:
    """The blocks of a model. With text, every block that attends space also reads the prompt."""
    text = config.conditioning == "text"
    return tuple(
        replace(spec, text=text and "space" in spec.axes)
        for spec in VARIANTS[config.variant](config.depth)
    )
