"""Model folders as a whole: find one, check that it is complete, check it against its manifest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from latte_core.checkpoints.files import (
    INDEX,
    PICKLES,
    WEIGHTS,
    pickle_hint,
    read_header,
    read_json,
    weight_files,
)
from latte_core.checkpoints.hub import OnBytes, fetch
from latte_core.checkpoints.manifest import MANIFEST, Manifest, listed_files, sha256
from latte_core.errors import CheckpointError

AGAIN = "Fetch the model folder again."
TURBO_FOLDER = "transformer_turbo"  # a few-step transformer, which diffusers passes by
TEXT_WEIGHTS, TEXT_INDEX = "model.safetensors", "model.safetensors.index.json"

# Component: classes that it can be of. Source: model_index.json of Latte-1; "Latte" is our own
# class for models that diffusers cannot hold.
CLASSES = {
    "transformer": ("LatteTransformer3DModel", "Latte"),
    "text_encoder": ("T5EncoderModel",),
    "tokenizer": ("T5Tokenizer", "T5TokenizerFast"),
    "vae": ("AutoencoderKL",),
    "scheduler": (),  # any: schedulers are chosen by name, their folder gives the betas
}
# Component: for each, a choice of files of which one has to be there.
FILES = {
    "transformer": (("config.json",), (WEIGHTS, INDEX)),
    "text_encoder": (("config.json",), (TEXT_WEIGHTS, TEXT_INDEX)),
    "tokenizer": (("spiece.model", "tokenizer.json"),),
    "vae": (("config.json",), (WEIGHTS, INDEX)),
    "scheduler": (("scheduler_config.json",),),
}
# What is fetched of a hub repository: never pickles, never the other 20 GB.
HUB_FILES = [
    "model_index.json",
    MANIFEST,
    *(
        f"{part}/*.{kind}"
        for part in (*CLASSES, "vae_temporal_decoder")
        for kind in ("safetensors", "json", "model")
    ),
]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def resolve_model(name: str, on_bytes: OnBytes | None = None) -> Path:
    """The folder of a model: `name` itself if it is one, else fetched from the hub by its id.

    Only what a generation reads is fetched; `on_bytes(done, total)` is called as it comes, from
    any thread. Raises CheckpointError if neither is found.
    """
    path = Path(name).expanduser()
    if name and path.is_dir():
        return path
    if not _HUB_ID.fullmatch(name) or path.exists():
        what = "is a file, not a folder" if name and path.exists() else "does not exist"
        raise CheckpointError(
            f"The model folder {name!r} {what}. Give the path of a folder in the Latte-1 layout, "
            "or a hub id such as maxin-cn/Latte-1."
        )
    return fetch(name, HUB_FILES, on_bytes)


def check_layout(folder: Path) -> None:
    """Check that all components are named in `model_index.json` and have their files.

    Raises CheckpointError that names what is missing. Reads no weights.
    """
    index = read_json(folder / "model_index.json")
    own = _class_of(index, "transformer") == "Latte"
    for part, classes in CLASSES.items():
        found = _class_of(index, part)
        if found is None and own and part in ("text_encoder", "tokenizer"):
            continue  # a model of classes reads no text
        if found is None:
            raise CheckpointError(
                f"{folder / 'model_index.json'} names no {part}; it describes a "
                f"{index.get('_class_name', 'model')}, and a Latte needs one. {AGAIN}"
            )
        if classes and found not in classes:
            raise CheckpointError(
                f"The {part} of {folder} is a {found}; Latte needs {' or '.join(classes)}."
            )
        check_part(part, folder / part)


def _class_of(index: dict[str, Any], part: str) -> str | None:
    """The class that `model_index.json` gives for a component."""
    entry = index.get(part)
    return entry[1] if isinstance(entry, list) and len(entry) == 2 else None


def check_part(part: str, folder: Path) -> None:
    """Check that a component has its files, and the shards that an index names.

    Raises CheckpointError that names what is missing. Reads no weights.
    """
    for names in FILES[part]:
        if not any((folder / name).is_file() for name in names):
            raise CheckpointError(f"{folder / names[0]} is missing{pickle_hint(folder)}.")
        if len(names) == 2 and names[0].endswith(".safetensors"):
            weight_files(folder, names[0])


def verify_folder(folder: Path, manifest: Manifest) -> None:
    """Compare every file with the manifest: size, tensors, hash, and nothing unlisted to be read.

    Raises CheckpointError that names the file, the cause and the remedy.
    """
    for name, entry in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing. {AGAIN}")
        if (size := path.stat().st_size) != entry["size"]:
            raise CheckpointError(f"{path} has {size} bytes instead of {entry['size']}. {AGAIN}")
    for path in listed_files(folder):
        name = path.relative_to(folder).as_posix()
        read = path.suffix in (".safetensors", ".json", *PICKLES) and path.parent != folder
        if read and name not in manifest.files:
            raise CheckpointError(f"{path} is not in the manifest. Remove it. {AGAIN}")
    for name, tensors in manifest.tensors.items():
        _compare_tensors(folder / name, read_header(folder / name), tensors)
    for name, entry in manifest.files.items():
        if sha256(folder / name) != entry["sha256"]:
            raise CheckpointError(f"{folder / name} was changed: its hash is another. {AGAIN}")


def _compare_tensors(path: Path, found: dict[str, Any], listed: Any) -> None:
    """Names, shapes and dtypes in a file's header against the manifest."""
    for name in sorted(found.keys() ^ listed.keys()):
        where = "lacks the tensor" if name in listed else "holds an unlisted tensor"
        raise CheckpointError(f"{path} {where} {name}. {AGAIN}")
    for name, entry in listed.items():
        for fact, wanted in entry.items():
            if (value := found[name][fact]) != wanted:
                raise CheckpointError(
                    f"{path}: the {fact} of {name} is {value} instead of {wanted}. {AGAIN}"
                )
