"""Memory policies: accelerate's hooks on the CPU, packed text encoders, who is where when."""

import gc
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from latte_core import Engine, GenerationRequest
from latte_core.components.text_encoder import load_text_encoder
from latte_core.engine import memory
from latte_core.engine.memory import Offload, Resident, cpu_bf16_pays, free_memory, is_packed

MAPS = Path("/proc/self/maps")
REQUEST = GenerationRequest("a red rocket flies", seed=7, num_inference_steps=2)


class Watched(nn.Linear):
    """Notes every device it is sent to."""

    def __init__(self):
        super().__init__(2, 2)
        self.moves = []

    def to(self, *args, **options):
        self.moves.append(str(args[0] if args else options.get("device")))
        return super().to(*args, **options)


def modules():
    return {"text_encoder": Watched(), "vae": Watched()}


def test_offload_moves_a_part_in_and_out():
    parts = modules()
    policy = Offload(parts, dict.fromkeys(parts, "cpu:0"))
    vae, text = parts["vae"].moves, parts["text_encoder"].moves
    vae.clear()
    text.clear()
    with policy.using("vae") as used:
        assert used is parts["vae"]
        assert vae == ["cpu:0"]
    assert vae == ["cpu:0", "cpu"]
    assert text == []


def test_offload_moves_a_part_out_after_an_error():
    parts = modules()
    policy = Offload(parts, dict.fromkeys(parts, "cpu"))
    parts["vae"].moves.clear()
    with pytest.raises(RuntimeError, match="broken"), policy.using("vae"):
        assert len(parts["vae"].moves) == 1
        raise RuntimeError("broken")
    assert len(parts["vae"].moves) == 2


def test_release_takes_all_hooks_off():
    parts = modules()
    policy = Offload(parts, dict.fromkeys(parts, "cpu"))
    assert all(hasattr(part, "_hf_hook") for part in parts.values())
    policy.release()
    assert not any(hasattr(part, "_hf_hook") for part in parts.values())


def test_packed_parts_are_never_moved():
    for kind in (Offload, Resident):
        parts = modules()
        parts["text_encoder"].is_loaded_in_4bit = True
        policy = kind(parts, dict.fromkeys(parts, "cpu"))
        with policy.using("text_encoder"):
            pass
        assert parts["text_encoder"].moves == []
        assert parts["vae"].moves


def test_resident_parts_are_placed_once():
    parts = modules()
    policy = Resident(parts, dict.fromkeys(parts, "cpu"))
    with policy.using("vae"):
        pass
    policy.release()
    assert parts["vae"].moves == ["cpu"]


def test_free_memory_agrees_with_the_system():
    import psutil

    free = free_memory()
    assert 0 < free["cpu"] <= psutil.virtual_memory().total
    assert ("cuda" in free) == torch.cuda.is_available()
    assert isinstance(cpu_bf16_pays(), bool)


@pytest.mark.parametrize(
    ("amx", "bf16", "vendor", "faster"),
    [
        (True, True, "GenuineIntel", True),
        (False, True, "AuthenticAMD", True),
        (False, True, "GenuineIntel", False),  # as fast as fp32 at best, and half in measuring
        (False, False, "AuthenticAMD", False),
    ],
)
def test_bf16_is_a_cpus_own_where_it_is_faster(tmp_path, monkeypatch, amx, bf16, vendor, faster):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(memory, "CPUINFO", cpuinfo)
    assert cpu_bf16_pays() == faster


def test_a_closed_engine_leaves_no_hooks(tiny_folder):
    engine = Engine.load(tiny_folder, memory="offload")
    parts = engine._pipeline.parts.modules()
    assert all(hasattr(part, "_hf_hook") for part in parts.values())
    engine.close()
    assert not any(hasattr(part, "_hf_hook") for part in parts.values())


@pytest.mark.parametrize("bits,limit", [(8, 0.15), (4, 0.8)])
def test_engine_runs_with_a_packed_text_encoder(tiny_folder, bits, limit):
    pytest.importorskip("bitsandbytes")
    with Engine.load(tiny_folder) as plain:
        expected = plain.generate(REQUEST).latents
    with Engine.load(tiny_folder, memory=f"offload-{bits}bit") as engine:
        assert is_packed(engine._pipeline.parts.text.model)
        assert f"text encoder {bits}-bit" in engine.describe().plan
        first = engine.generate(REQUEST)
        # A second prompt runs the packed encoder again, after a forward and the hooks' moves.
        engine.generate(GenerationRequest("a blue cow", seed=7, num_inference_steps=1))
        engine._pipeline.conditioner._known.clear()
        again = engine.generate(REQUEST)
    assert np.array_equal(first.frames, again.frames)
    difference = np.linalg.norm(first.latents - expected) / np.linalg.norm(expected)
    assert 0 < difference < limit


@pytest.mark.skipif(not MAPS.is_file(), reason="this system does not tell what is mapped")
def test_text_weights_in_the_dtype_of_their_file_stay_on_disk(tiny_folder, tmp_path):
    """Mapped pages come in when they are read and go again under pressure; copies do not."""
    own = shutil.copytree(tiny_folder, tmp_path / "own")  # engines of other tests map the first
    weights = str(own / "text_encoder" / "model.safetensors")
    kept = load_text_encoder(own, torch.float32)
    assert weights in MAPS.read_text()
    del kept
    gc.collect()
    assert weights not in MAPS.read_text()
    converted = load_text_encoder(own, torch.bfloat16)
    assert converted.model.dtype == torch.bfloat16 and weights not in MAPS.read_text()
