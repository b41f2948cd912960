"""One process without accelerate: what the trainer asks of an accelerator, in plain PyTorch.

A run takes the same numbers and writes the same files as with accelerate, so it may be begun
without and gone on with, or the other way round.
"""

from __future__ import annotations

import codecs
import contextlib
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

WEIGHTS, OPTIMIZER = "model.safetensors", "optimizer.bin"
RANDOM, CUSTOM = "random_states_0.pkl", "custom_checkpoint_{}.pkl"


class Stateful(Protocol):
    """Something whose state belongs to a checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """What to keep."""

    def load_state_dict(self, state: dict[str, Any], /) -> Any:
        """Take over what was kept."""


class OneProcess:
    """The part of accelerate's `Accelerator` that one process on a CPU or a GPU needs.

    In bf16 the model's forward pass runs under autocast and gives float32. An update is made of
    `accumulate` backward passes; `sync_gradients` says whether the present one is the last.
    """

    is_main_process, num_processes, process_index = True, 1, 0

    def __init__(self, cpu: bool, precision: Literal["fp32", "bf16"], accumulate: int) -> None:
        gpu = torch.cuda.is_available() and not cpu
        self.device = torch.device("cuda" if gpu else "cpu")
        self.mixed_precision = "bf16" if precision == "bf16" else "no"
        self.sync_gradients = True
        self._accumulate = accumulate
        self._passes = 0
        self._model: nn.Module
        self._optimizer: Optimizer
        self._kept: tuple[Stateful, ...] = ()

    def prepare(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        """Put the model on the device, in the precision that was asked for."""
        if self.mixed_precision == "bf16":
            untyped: Any = model
            untyped.forward = _in_bf16(model.forward, self.device.type)
        self._model, self._optimizer = model.to(self.device), optimizer
        return self._model, self._optimizer

    def unwrap_model(self, model: nn.Module) -> nn.Module:
        """The model, which nothing is wrapped around."""
        return model

    def register_for_checkpointing(self, *kept: Stateful) -> None:
        """Keep these states, too, in every checkpoint."""
        self._kept = kept

    @contextlib.contextmanager
    def accumulate(self, model: nn.Module) -> Iterator[None]:
        """Count a backward pass; every `accumulate`-th completes an update."""
        self._passes += 1
        self.sync_gradients = self._passes % self._accumulate == 0
        yield

    def backward(self, loss: Tensor) -> None:
        """Add this loss's share to the gradients of the update."""
        (loss / self._accumulate).backward()

    def clip_grad_norm_(self, parameters: Iterable[Tensor], limit: float) -> Tensor:
        """Hold the gradient's norm to a limit; returns the norm before."""
        return nn.utils.clip_grad_norm_(parameters, limit)

    def reduce(self, figures: Tensor, how: str) -> Tensor:
        """The mean over processes: what this one has."""
        return figures

    def wait_for_everyone(self) -> None:
        """There is nobody to wait for."""

    def save_state(self, folder: str) -> None:
        """Write weights, optimiser, random numbers and what was registered, as accelerate does."""
        from safetensors.torch import save_model

        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        save_model(self._model, str(target / WEIGHTS), {"format": "pt"})
        torch.save(self._optimizer.state_dict(), target / OPTIMIZER)
        for number, kept in enumerate(self._kept):
            torch.save(kept.state_dict(), target / CUSTOM.format(number))
        torch.save(_random_state(), target / RANDOM)

    def load_state(self, folder: str) -> None:
        """Take over what `save_state`, or accelerate in one process, has written."""
        from safetensors.torch import load_model

        source = Path(folder)
        load_model(self._model, source / WEIGHTS, device=str(self.device))
        self._optimizer.load_state_dict(_load(source / OPTIMIZER))
        for number, kept in enumerate(self._kept):
            kept.load_state_dict(_load(source / CUSTOM.format(number)))
        state = _load(source / RANDOM)
        random.setstate(state["random_state"])
        np.random.set_state(state["numpy_random_seed"])
        torch.set_rng_state(state["torch_manual_seed"])
        if torch.cuda.is_available() and "torch_cuda_manual_seed" in state:
            torch.cuda.set_rng_state_all(state["torch_cuda_manual_seed"])


def _in_bf16(forward: Callable[..., Any], device: str) -> Callable[..., Any]:
    """The forward pass under autocast, its output in float32."""

    def cast(*given: Any, **named: Any) -> Any:
        with torch.autocast(device, dtype=torch.bfloat16):
            output = forward(*given, **named)
        return _to_fp32(output)

    return cast


def _to_fp32(output: Any) -> Any:
    """Tensors of half the width, in whatever they are held, widened."""
    if isinstance(output, Tensor):
        return output.float() if output.dtype in (torch.float16, torch.bfloat16) else output
    if isinstance(output, dict):
        return {name: _to_fp32(value) for name, value in output.items()}
    if isinstance(output, tuple | list):
        parts = [_to_fp32(value) for value in output]
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
    return output


def _random_state() -> dict[str, Any]:
    """States of all generators that have no seed of their own, under accelerate's names."""
    kind, keys, *rest = np.random.get_state()
    state: dict[str, Any] = {
        "step": 0,
        "random_state": random.getstate(),
        "numpy_random_seed": (kind, np.asarray(keys).tolist(), *rest),
        "torch_manual_seed": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["torch_cuda_manual_seed"] = torch.cuda.get_rng_state_all()
    return state


def _load(path: Path) -> Any:
    """Numbers from a file of torch; anything that would run is refused."""
    array = np.zeros(1, np.uint32)  # accelerate keeps numpy's state as one
    rebuild = array.__reduce__()[0]
    numbers: list[Any] = [rebuild, np.ndarray, np.dtype, type(array.dtype), codecs.encode]
    with torch.serialization.safe_globals(numbers):
        return torch.load(path, map_location="cpu", weights_only=True)
