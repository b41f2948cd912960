"""Classes, or nothing, to what the transformer reads; the choice by a model's conditioning."""

from __future__ import annotations

from latte_core.diffusion.guidance import Conditions, pair_labels
from latte_core.engine.memory import MemoryPolicy
from latte_core.engine.parts import Parts
from latte_core.engine.prompts import Conditioner, EncodedPrompt, PromptBook
from latte_core.engine.request import GenerationRequest


class LabelBook:
    """Conditions of a class model. "No class" is the number behind the last class."""

    def __init__(self, num_classes: int) -> None:
        self._null_label = num_classes

    def encode(self, request: GenerationRequest, policy: MemoryPolicy) -> EncodedPrompt:
        """The clip's label, then each still's; nothing is computed, so nothing is moved."""
        assert request.class_label is not None  # checked against the model
        clip = request.class_label
        stills = request.image_class_labels or (clip,) * request.num_images
        scale = request.guidance_scale or 1.0
        return EncodedPrompt(pair_labels([clip, *stills], self._null_label, scale), 0, ())


class Unconditional:
    """Conditions of a model that is told nothing."""

    def encode(self, request: GenerationRequest, policy: MemoryPolicy) -> EncodedPrompt:
        """One row without prompt, label or guidance."""
        return EncodedPrompt(Conditions(None, None, 1.0), 0, ())


def make_conditioner(parts: Parts) -> Conditioner:
    """What turns requests into conditions for this model."""
    if parts.text is not None:
        return PromptBook(parts.text, parts.closed_vocabulary, parts.aliases)
    if parts.conditioning == "class":
        return LabelBook(parts.transformer.config.num_classes)
    return Unconditional()
