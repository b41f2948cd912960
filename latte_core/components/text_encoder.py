"""The prompt's encoder: a T5 tokenizer and encoder behind one small class.

The only module that knows transformers and bitsandbytes. Prompts are encoded without padding;
the empty prompt is laid out as the stock pipeline lays it out, one row and then padding rows.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from latte_core.components.prompt_cleaning import clean_prompt
from latte_core.errors import CheckpointError, ConfigError, MemoryPlanError

if TYPE_CHECKING:
    from transformers import T5EncoderModel, T5Tokenizer

__all__ = [
    "MAX_TOKENS",
    "TextEncoder",
    "clean_prompt",
    "load_text_encoder",
    "new_text_encoder",
]

MAX_TOKENS = 120  # what the public Latte-1 was trained with; longer prompts are cut
CPU_ROWS = 32  # that bitsandbytes' 4-bit kernel for CPUs takes together
SPECIAL_PIECES = (("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0))
SPIECE_NAME = "spiece.model"

logger = logging.getLogger(__name__)


class TextEncoder:
    """Prompts in, hidden states out.

    `tokenizer` is a T5Tokenizer, `model` a T5EncoderModel. `bits` is 8 or 4 for a quantised
    encoder, which must be neither moved nor saved; `source` is the tokenizer folder it came from.
    """

    def __init__(
        self,
        tokenizer: T5Tokenizer,
        model: T5EncoderModel,
        bits: Literal[8, 4] | None = None,
        source: Path | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.model = model
        self.bits = bits
        self.source = source

    @property
    def width(self) -> int:
        """Channels of the hidden states."""
        return int(self.model.config.d_model)

    def tokenize(self, prompts: list[str], length: int | None = None) -> tuple[Tensor, Tensor]:
        """Prompts -> (ids (B, L), mask (B, L)), both int64.

        L is `length`, or that of the longest prompt; never more than 120 tokens a prompt.
        """
        limit = MAX_TOKENS if length is None else length
        batch = self.tokenizer(
            prompts,
            padding="longest" if length is None else "max_length",
            max_length=limit,
            truncation=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        return batch["input_ids"], batch["attention_mask"]

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids, mask (B, L) -> hidden states (B, L, Ct); gradients flow to the encoder."""
        return self.model(input_ids=ids, attention_mask=mask).last_hidden_state

    @torch.no_grad()
    def encode(self, prompt: str) -> Tensor:
        """One prompt -> (1, n, Ct), its own tokens only, in the encoder's dtype."""
        ids, mask = (part.to(self.model.device) for part in self.tokenize([prompt]))
        return self.forward(ids, mask)

    @torch.no_grad()
    def encode_null(self, length: int) -> Tensor:
        """The empty prompt as (1, length, Ct): its end token, then padding rows.

        A padding row sees the end token only, whatever its position, so all are equal and one
        is computed.
        """
        ids, mask = (part.to(self.model.device) for part in self.tokenize([""], length=2))
        first, padding = self.forward(ids, mask).split(1, dim=1)
        return torch.cat([first, padding.expand(-1, max(0, length - 1), -1)], dim=1)[:, :length]

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of the prompt that the vocabulary does not hold, in order, each once."""
        unknown = self.tokenizer.unk_token_id
        words = dict.fromkeys(prompt.split())
        return [
            word
            for word in words
            if unknown in self.tokenizer(word, add_special_tokens=False)["input_ids"]
        ]

    def words(self) -> list[str]:
        """The pieces of the vocabulary that begin a word, special ones left out, sorted."""
        pieces = self.tokenizer.get_vocab()
        return sorted(piece[1:] for piece in pieces if piece.startswith("▁") and len(piece) > 1)

    def cut_text(self, prompt: str) -> str:
        """The tail of the prompt that does not fit into 120 tokens; empty if all fits."""
        ids = self.tokenizer(prompt)["input_ids"]
        return str(self.tokenizer.decode(ids[MAX_TOKENS - 1 : -1])) if len(ids) > MAX_TOKENS else ""

    def save(self, folder: Path, dtype: torch.dtype = torch.float16) -> None:
        """Write folder/tokenizer and folder/text_encoder as stock transformers reads them.

        Raises CheckpointError for a quantised encoder: its packed weights change in use.
        """
        if self.bits is not None:
            raise CheckpointError(
                f"A {self.bits}-bit text encoder cannot be saved: load it without bits first."
            )
        tokenizer_folder = folder / "tokenizer"
        self.tokenizer.save_pretrained(tokenizer_folder)
        if self.source is not None and (self.source / SPIECE_NAME).is_file():
            shutil.copyfile(self.source / SPIECE_NAME, tokenizer_folder / SPIECE_NAME)
        state = {
            name: value.detach().to("cpu", dtype).contiguous()
            for name, value in self.model.state_dict().items()
        }
        _write_weights(self.model.config, state, folder / "text_encoder", dtype)


def new_text_encoder(
    pieces: list[tuple[str, float]],
    *,
    d_model: int,
    d_ff: int,
    d_kv: int,
    num_layers: int,
    num_heads: int,
) -> TextEncoder:
    """Make a tokenizer of these (piece, log probability) pairs and a random encoder for it.

    The pieces follow pad, end and unknown; a word's first piece begins with U+2581.
    """
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    if not pieces:
        raise ConfigError("A tokenizer needs at least one piece.")
    vocabulary = [*SPECIAL_PIECES, *pieces]
    tokenizer = T5Tokenizer(
        vocab=vocabulary, extra_ids=0, additional_special_tokens=None, model_max_length=512
    )
    make_config: Any = T5Config
    config = make_config(
        vocab_size=len(tokenizer),
        d_model=d_model,
        d_ff=d_ff,
        d_kv=d_kv,
        num_layers=num_layers,
        num_heads=num_heads,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        is_encoder_decoder=False,
        use_cache=False,
        tie_word_embeddings=False,
    )
    return TextEncoder(tokenizer, T5EncoderModel(config))


def load_text_encoder(
    folder: Path,
    dtype: torch.dtype = torch.float32,
    bits: Literal[8, 4] | None = None,
    device: str = "cpu",
) -> TextEncoder:
    """Read folder/tokenizer and folder/text_encoder.

    `device` is where packed weights are put, for good; plain weights are read into main memory.
    `bits` loads the encoder quantised by bitsandbytes (8 bits, or 4 as NF4); its `wo` layers and
    embedding stay in `dtype`. Raises CheckpointError for missing or surplus tensors,
    MemoryPlanError if bitsandbytes is not there.
    """
    from transformers import T5EncoderModel, T5Tokenizer

    for name in ("tokenizer", "text_encoder/config.json"):
        if not (folder / name).exists():
            raise CheckpointError(f"{folder / name} is missing: download the model folder again.")
    kind: Any = T5EncoderModel
    quantisation = _quantisation(bits, dtype)
    try:
        tokenizer = T5Tokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except Exception as error:  # transformers raises nearly any kind
        raise CheckpointError(
            f"The tokenizer in {folder / 'tokenizer'} cannot be read: copy the folder again."
        ) from error
    try:
        with _without_progress_bar():
            model, report = kind.from_pretrained(
                folder / "text_encoder",
                dtype=dtype,
                local_files_only=True,
                use_safetensors=True,
                quantization_config=quantisation,
                device_map=None if bits is None else {"": device},
                output_loading_info=True,
            )
    except Exception as error:
        raise CheckpointError(
            f"The text encoder in {folder} cannot be read ({error}): copy the folder again."
        ) from error
    _check_report(report, folder)
    model.eval().requires_grad_(False)
    if bits == 4:
        _keep_narrow_layers_plain(model)
    if bits is None:
        model.to(dtype)  # transformers keeps `wo` in fp32 on its own where dtype is fp16
        _check_finite(model, folder)
    return TextEncoder(tokenizer, model, bits, folder / "tokenizer")


def _quantisation(bits: int | None, dtype: torch.dtype) -> Any:
    """The transformers quantisation config for `bits`; None keeps plain weights."""
    if bits is None:
        return None
    if bits not in (8, 4):
        raise ConfigError(f"The text encoder can be held in 8 or 4 bits, not {bits}.")
    try:
        import bitsandbytes  # noqa: F401 - only to see that it is there
    except ImportError as error:
        raise MemoryPlanError(
            f"A {bits}-bit text encoder needs bitsandbytes: pip install bitsandbytes, or choose "
            "another memory plan."
        ) from error
    from transformers import BitsAndBytesConfig

    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )


def _keep_narrow_layers_plain(model: Any) -> None:
    """Tell layers that the CPU's 4-bit kernel cannot lay out to do without it.

    On CPUs with AVX512-BF16 bitsandbytes (0.50) rearranges weights at the first call, 32 rows by
    whole blocks of columns, and fails on a layer of other sizes rather than leave it as it is.
    """
    from bitsandbytes.nn.modules import Linear4bit

    for layer in model.modules():
        if not isinstance(layer, Linear4bit):
            continue
        weight: Any = layer.weight
        if layer.out_features % CPU_ROWS or layer.in_features % weight.quant_state.blocksize:
            layer.support_avx512bf16_for_cpu = False


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Keep transformers' own progress bar off the terminal; ours is the caller's."""
    from transformers.utils import logging as their_logging

    shown = their_logging.is_progress_bar_enabled()
    their_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            their_logging.enable_progress_bar()


def _check_report(report: dict[str, Any], folder: Path) -> None:
    for label in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if names := sorted(map(str, report.get(label, ()))):
            raise CheckpointError(
                f"{folder / 'text_encoder'}: {label.replace('_', ' ')}: {names[0]}: "
                "copy the model folder again."
            )


def _check_finite(model: Any, folder: Path) -> None:
    for name, value in model.named_parameters():
        if value.is_meta or not bool(torch.isfinite(value).all()):
            raise CheckpointError(
                f"{folder / 'text_encoder'}: {name} holds NaN or infinity: the file is damaged."
            )


def _write_weights(config: Any, state: dict[str, Tensor], folder: Path, dtype: torch.dtype) -> None:
    """Write config.json and model.safetensors, the tied embedding once."""
    from safetensors.torch import save_file

    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise CheckpointError(f"The text encoder holds NaN or infinity in {dtype}: not saved.")
    if "shared.weight" in state:
        state.pop("encoder.embed_tokens.weight", None)
    folder.mkdir(parents=True, exist_ok=True)
    written = {**config.to_dict(), "architectures": ["T5EncoderModel"]}
    # What a reader gets who names no dtype; stock diffusers loads the other parts in float32 too.
    written["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    partial = folder / ".model.safetensors.partial"
    try:
        save_file(state, partial, metadata={"format": "pt"})
        partial.replace(folder / "model.safetensors")
    finally:
        partial.unlink(missing_ok=True)
