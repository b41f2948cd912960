"""The whole recipe with PyTorch, transformers and safetensors alone, and no network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from tiny_training import tiny_recipe_data

HERE = Path(__file__).parent


def bare(script, *arguments):
    """Run one of the scripts beside this file in a process of its own, on as many threads.

    Sums are split among them, so that another number of threads gives other last digits.
    """
    places = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    return subprocess.run(
        [sys.executable, *script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        text=True,
        timeout=900,
    )


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_stage_gives_the_folder_that_a_full_install_gives(bundle, tmp_path):
    """To the byte: `bundle` was made in this process, with diffusers and accelerate installed."""
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(tiny_recipe_data()))
    done = bare([HERE / "train_bare.py"], recipe, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "accelerate" in done.stdout.split()  # it was looked for, and not found
    assert (tmp_path / "run" / "probe.safetensors").is_file()
    assert files(tmp_path / "model") == files(bundle)


def test_what_is_not_needed_cannot_be_imported():
    """Positive control: the seal holds, and so does the one around the network."""
    code = """
import importlib, importlib.util, socket, train_bare
train_bare.seal()
for name in ("diffusers", "accelerate", "gradio", "bitsandbytes", "imageio", "av", "peft"):
    assert importlib.util.find_spec(name) is None, name
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    raise AssertionError(name)
try:
    socket.create_connection(("127.0.0.1", 9), timeout=1)
except OSError as error:
    assert str(error) == "no network"
import numpy, PIL, safetensors
"""
    done = bare(["-c"], code)
    assert done.returncode == 0, done.stderr[-3000:]
