"""Prompts to what the transformer reads, remembered so that a prompt is encoded once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from latte_core.components.prompt_cleaning import clean_prompt, simplify_prompt
from latte_core.components.text_encoder import MAX_TOKENS, TextEncoder
from latte_core.components.vocabulary import Vocabulary
from latte_core.diffusion.guidance import Conditions, join_prompts, pair_prompts
from latte_core.engine.memory import MemoryPolicy
from latte_core.engine.request import GenerationRequest
from latte_core.errors import NonFiniteError, RequestError

REMEMBERED = 64  # prompts; one of Latte-1 is under 1 MB


@dataclass(frozen=True, eq=False)
class EncodedPrompt:
    """Conditions for every step, the prompt's number of tokens, words that are not understood.

    `suggestions` names the nearest known word for unknown ones.
    """

    conditions: Conditions
    tokens: int
    unknown_words: tuple[str, ...]
    suggestions: dict[str, str] = field(default_factory=dict)


class Conditioner(Protocol):
    """Turns what a request asks for into what the transformer reads."""

    def encode(self, request: GenerationRequest, policy: MemoryPolicy) -> EncodedPrompt:
        """Conditions for every step of a resolved request."""


class PromptBook:
    """Encodes prompts, and keeps the embeddings of the latest in main memory.

    With a closed vocabulary, prompts are put into lower case, marks that it lacks are dropped and
    unknown words are named; otherwise they are cleaned as the stock pipeline cleans them.
    """

    def __init__(
        self, text: TextEncoder, closed_vocabulary: bool, aliases: Mapping[str, str] | None = None
    ) -> None:
        self._text = text
        self._closed = closed_vocabulary
        self._vocabulary = Vocabulary(text.words() if closed_vocabulary else (), aliases or {})
        self._known: OrderedDict[str, Tensor] = OrderedDict()

    def encode(self, request: GenerationRequest, policy: MemoryPolicy) -> EncodedPrompt:
        """Encode a request's prompts, moving the encoder in only if something is new.

        Unknown words are those of all prompts; the number of tokens is the clip's.
        Raises RequestError for a prompt of more than 120 tokens or with nothing left after
        cleaning, NonFiniteError if the encoder gives NaN.
        """
        prompts = [self._worded("prompt", request.prompt)]
        for own in request.image_prompts:
            prompts.append(self._worded("image_prompts", own) if own else prompts[0])
        negative = self._prepared("negative_prompt", request.negative_prompt)
        scale = request.guidance_scale or 1.0
        needed = (*prompts, negative) if scale > 1 else prompts
        if missing := [text for text in dict.fromkeys(needed) if text not in self._known]:
            with policy.using("text_encoder"):
                for text in missing:
                    self._learn(text)
        pairs = [self._paired(prompt, negative, scale) for prompt in prompts]
        conditions = join_prompts(pairs) if request.image_prompts else pairs[0]
        words = self._unknown(prompts)
        nearest = self._vocabulary.suggestions(words)
        return EncodedPrompt(conditions, self._recall(prompts[0]).shape[1], tuple(words), nearest)

    def _paired(self, prompt: str, negative: str, scale: float) -> Conditions:
        """One known prompt beside what guidance leads away from."""
        positive, opposite = self._recall(prompt), None
        if scale > 1:
            opposite = self._recall(negative) if negative else self._null(positive.shape[1])
        return pair_prompts(positive, opposite, scale)

    def _unknown(self, prompts: list[str]) -> list[str]:
        if not self._closed:
            return []
        found = [word for text in dict.fromkeys(prompts) for word in self._text.unknown_words(text)]
        return list(dict.fromkeys(found))

    def _worded(self, field: str, text: str) -> str:
        """A prompt made ready. Raises RequestError if no words are left of it."""
        prepared = self._prepared(field, text)
        if not prepared:
            raise RequestError(
                field,
                f"{field} has no words left after cleaning (links, codes and East Asian characters "
                "are not understood by this model): describe the video in English.",
            )
        return prepared

    def _prepared(self, field: str, text: str) -> str:
        known = self._text.unknown_words
        text = simplify_prompt(text, known) if self._closed else clean_prompt(text)
        if tail := self._text.cut_text(text):
            raise RequestError(
                field,
                f"{field} is longer than {MAX_TOKENS} tokens: shorten it by about {tail[-60:]!r}.",
            )
        return text

    def _recall(self, text: str) -> Tensor:
        self._known.move_to_end(text)
        return self._known[text]

    def _null(self, length: int) -> Tensor:
        """The empty prompt cut to `length` rows, from its two stored ones."""
        first, padding = self._recall("").split(1, dim=1)
        return torch.cat([first, padding.expand(-1, max(0, length - 1), -1)], dim=1)

    def _learn(self, text: str) -> None:
        embeds = self._text.encode(text) if text else self._text.encode_null(2)
        if not bool(torch.isfinite(embeds).all()):
            raise NonFiniteError(
                "The text encoder gave NaN or infinity for this prompt. Choose a plan whose text "
                "encoder is not in float16 (memory resident or offload), or another prompt."
            )
        self._known[text] = embeds.to("cpu")
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
