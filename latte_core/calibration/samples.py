"""What a model is asked for while plans are found and checked: its own kind of request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latte_core import EngineInfo, GenerationRequest
    from latte_core.data.world import ClipSpec

# For text models of the open world. Few are needed: which steps matter hardly depends on the
# prompt (arXiv 2511.00090 finds one prompt nearly as good as 350).
PROMPTS = (
    "a dog in an astronaut suit walks over the moon, close view",
    "a cat wearing sunglasses and working as a lifeguard at a pool",
    "waves break on a rocky shore at sunset, seen from above",
    "a steam train crosses a stone bridge in a snowy valley",
    "time lapse of clouds over a city at night",
    "a chef pours chocolate sauce over strawberries",
    "a hot air balloon rises over green hills in the morning",
    "two people dance in the rain under street lights",
)
CALIBRATING_SEED, CHECKING_SEED = 1234, 77


@dataclass(frozen=True)
class Sample:
    """A request, and what it describes where the model's world can say so."""

    request: GenerationRequest
    spec: ClipSpec | None = None


def draw_samples(info: EngineInfo, count: int, seed: int, settings: dict[str, Any]) -> list[Sample]:
    """Requests for clips of a model; `settings` are further fields of each.

    A model of the world gets held-out prompts of all that it shows, another text model general
    ones, a class model its classes in turn, an unconditional model seeds alone.
    """
    from latte_core import GenerationRequest

    if world := info.card.get("world"):
        return _of_world(world, count, seed, settings)
    samples = []
    for index in range(count):
        told: dict[str, Any] = {"seed": seed + index, **settings}
        if info.conditioning == "text":
            told["prompt"] = PROMPTS[(seed + index) % len(PROMPTS)]
        elif info.conditioning == "class":
            told["class_label"] = (seed + index) * 7 % len(info.classes)
        samples.append(Sample(GenerationRequest(**told)))
    return samples


def _of_world(
    names: dict[str, Any], count: int, seed: int, settings: dict[str, Any]
) -> list[Sample]:
    from latte_core import GenerationRequest
    from latte_core.data.world import ANY, World
    from latte_core.evaluation.prompt_following import held_out_prompts

    world = World(**{kind: tuple(words) for kind, words in names.items()})
    return [
        Sample(GenerationRequest(one.prompt, seed=one.seed, **settings), one.spec)
        for one in held_out_prompts(world, count, seed, composition=ANY)
    ]
