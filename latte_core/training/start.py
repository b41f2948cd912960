"""Start a run from a model folder that was shipped, rather than from random weights.

A folder holds averaged weights, not the optimiser, so this starts a new run; going on with an old
one is `Trainer.resume`.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latte_core.checkpoints import TURBO_FOLDER, check_layout, load_transformer
from latte_core.components.text_encoder import TextEncoder, load_text_encoder
from latte_core.components.vae import load_vae
from latte_core.errors import ConfigError
from latte_core.model import Latte
from latte_core.training.growth import grow, outgrows
from latte_core.training.widening import widen, widened, widens

log = logging.getLogger(__name__)


def start_latte(model: Latte, text_encoder: TextEncoder, folder: Path) -> list[str]:
    """Give a new Latte and its text encoder the weights of a folder.

    The widths have to be the folder's; sides and frames may differ, since positions are computed,
    and there may be more latent channels, which then start as nothing.
    A word keeps its embedding wherever it stands in the new vocabulary; words that the folder does
    not know are returned, their embeddings as they were. Raises ConfigError for other widths,
    CheckpointError for a damaged folder.
    """
    check_layout(folder)
    _copy(model, _weights_for(model, folder / "transformer"), folder / "transformer")
    known = load_text_encoder(folder)
    state = known.model.state_dict()
    words, new = _embeddings(text_encoder, known, state)
    for name in ("shared.weight", "encoder.embed_tokens.weight"):
        if name in state:
            state[name] = words
    _copy(text_encoder.model, state, folder / "text_encoder")
    log.info("started from %s; %d new words", folder.name, len(new))
    return new


def start_turbo(student: Latte, folder: Path) -> bool:
    """Add to a copy of the teacher what distillation changed in a folder; says whether it could.

    The difference between the folder's few-step transformer and its transformer serves a teacher
    that was trained on from there too (acceleration as a vector, LCM-LoRA, arXiv 2311.05556), and
    a student of the folder's own transformer begins as the folder's. A folder that has no few-step
    transformer leaves the student as it is. Raises ConfigError for other widths.
    """
    if not (folder / TURBO_FOLDER).is_dir():
        return False
    fast, slow = (_weights_for(student, folder / name) for name in (TURBO_FOLDER, "transformer"))
    own = student.state_dict()
    if any(name not in fast or fast[name].shape != own[name].shape for name in own):
        raise ConfigError(
            f"The turbo in {folder} has other sizes than the recipe's network: give the recipe "
            "those of the folder to start from."
        )
    student.load_state_dict(
        {name: own[name] + (fast[name] - slow[name]).to(own[name]) for name in own}
    )
    log.info("the student starts with what made %s fast", folder.name)
    return True


def _weights_for(model: Latte, folder: Path) -> dict[str, Tensor]:
    """A transformer's weights, widened to the latent channels that a model has."""
    theirs = load_transformer(folder, torch.float32)
    return widened(theirs.state_dict(), theirs.config, model.config)


def _embeddings(
    ours: TextEncoder, theirs: TextEncoder, state: Mapping[str, Tensor]
) -> tuple[Tensor, list[str]]:
    """Word embeddings (V, Ct) in our order, and the pieces that only we have."""
    table = state["shared.weight"]
    own: Any = ours.model.get_input_embeddings()
    words = own.weight.detach().clone()
    if words.shape[1] != table.shape[1]:
        raise ConfigError(
            f"The text encoder is {words.shape[1]} wide, the folder's {table.shape[1]}: "
            f"set text_encoder.d_model to {table.shape[1]}."
        )
    rows = theirs.tokenizer.get_vocab()
    new = []
    for piece, row in ours.tokenizer.get_vocab().items():
        if piece in rows:
            words[row] = table[rows[piece]]
        else:
            new.append(piece)
    return words, sorted(new)


def _copy(module: nn.Module, state: Mapping[str, Tensor], source: Path) -> None:
    """Load all of a state, or say which tensor does not fit."""
    own = module.state_dict()
    for name, tensor in own.items():
        if name not in state or state[name].shape != tensor.shape:
            found = tuple(state[name].shape) if name in state else "nothing"
            raise ConfigError(
                f"{name} is {tuple(tensor.shape)} in the recipe, but {source} has {found}: "
                "give the recipe the sizes of the folder to start from."
            )
    if surplus := sorted(set(state) - set(own)):
        raise ConfigError(
            f"{source} has {surplus[0]}, which the recipe's network lacks: "
            "give the recipe the depth of the folder to start from."
        )
    module.load_state_dict(dict(state))


def start_vae(vae: Any, folder: Path) -> bool:
    """Give a new autoencoder the folder's weights and scale if it is of the same shape.

    One of the same shape with one more stage outside grows from the folder's, one whose stages are
    multiples as wide or that has more latent channels is widened from it. Says whether any of this
    was so.
    """
    theirs = load_vae(folder / "vae")
    own, found = vae.state_dict(), theirs.state_dict()
    if outgrows(vae, theirs):
        grow(vae, theirs)
        log.info("the autoencoder grows from that in %s, with its latents", folder.name)
        return True
    if widens(vae, theirs):
        widen(vae, theirs)
        log.info(
            "the autoencoder in %s is widened, stages from %s to %s, latent channels from %d to %d",
            folder.name,
            theirs.config.block_out_channels,
            vae.config.block_out_channels,
            theirs.config.latent_channels,
            vae.config.latent_channels,
        )
        return True
    if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in found.items()}:
        log.info("the autoencoder in %s has another shape; a new one is trained", folder.name)
        return False
    vae.load_state_dict(found)
    vae.set_scale(theirs.config.scaling_factor)
    return True


def copy_vae(folder: Path, run: Path) -> None:
    """Put the folder's autoencoder into a run that has none of its own."""
    if not (run / "vae").is_dir():
        shutil.copytree(folder / "vae", run / "vae")
        config = json.loads((run / "vae" / "config.json").read_text(encoding="utf-8"))
        log.info("using the autoencoder of %s, factor %s", folder.name, config["scaling_factor"])
