"""The exponential moving average of the weights, for whole and for sharded models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]
DecayAt = Callable[[int], float]


class Average(Protocol):
    """An average that follows a model."""

    @property
    def module(self) -> nn.Module:
        """A model with the averaged weights."""

    def update_parameters(self, model: nn.Module) -> None:
        """Take in the model's weights after an update."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""

    def load_state_dict(self, state: dict[str, Any], /) -> Any:
        """Take over what a checkpoint kept."""


def decay_at(decay: float, warmup: bool) -> DecayAt:
    """The decay at update n.

    With `warmup` early averages forget faster, so that the random start does not linger:
    min(decay, (1 + n) / (10 + n)).
    """
    return lambda n: min(decay, (1 + n) / (10 + n)) if warmup else decay


def averaged(model: nn.Module, decay: float, warmup: bool = True) -> AveragedModel:
    """Wrap a copy of the model that follows it as an exponential moving average.

    The first update copies, unless there is no warm-up: then the average starts from the weights
    before it, as the published models' did.
    """
    at = decay_at(decay, warmup)

    def update(average: Tensors, current: Tensors, count: Tensor | int) -> None:
        torch._foreach_lerp_(average, current, 1 - at(int(count)))

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=False)
    if not warmup:
        average.n_averaged.fill_(1)
    return average


def share_frozen(average: nn.Module, model: nn.Module) -> None:
    """Let the average use the model's own tensors where nothing is learned: half the memory."""
    for ours, theirs in zip(average.parameters(), model.parameters(), strict=True):
        if not theirs.requires_grad:
            ours.data = theirs.data


class ShardedAverage:
    """The same average of a model whose weights are sharded over processes (FSDP2).

    Every process averages its own shards. The whole average is put together, by all processes at
    once, for checkpoints and for `module`; so a run may go on with another number of processes.
    `template` is a copy of the whole model, made before it was sharded.
    """

    def __init__(
        self, template: nn.Module, model: nn.Module, decay: float, warmup: bool = True
    ) -> None:
        self._template = template
        self._decay_at = decay_at(decay, warmup)
        self._shards = {
            name: p.detach().clone() if p.requires_grad else p.detach()
            for name, p in model.named_parameters()
        }
        self._count = 0 if warmup else 1

    @property
    def module(self) -> nn.Module:
        """The averaged model, whole, on the CPU. All processes have to ask for it together."""
        with torch.no_grad():
            for name, parameter in self._template.named_parameters():
                parameter.copy_(_whole(self._shards[name]))
        return self._template

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take in the model's shards after an update."""
        pairs = [(self._shards[n], p.detach()) for n, p in model.named_parameters()]
        ours, theirs = zip(*((_local(a), _local(b)) for a, b in pairs), strict=True)
        weight = 1 - self._decay_at(self._count) if self._count else 1.0
        torch._foreach_lerp_(ours, theirs, weight)
        self._count += 1

    def state_dict(self) -> dict[str, Any]:
        """The whole average on the CPU, gathered by all processes."""
        state: dict[str, Any] = {n: _whole(shard).cpu() for n, shard in self._shards.items()}
        return {"n_averaged": self._count, "weights": state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take this process's shards out of a whole average."""
        from torch.distributed.tensor import DTensor, distribute_tensor

        self._count = state["n_averaged"]
        for name, shard in self._shards.items():
            value = state["weights"][name].to(shard.device)
            if isinstance(shard, DTensor):
                value = distribute_tensor(value, shard.device_mesh, shard.placements)
            _local(shard).copy_(_local(value))


def _local(tensor: Tensor) -> Tensor:
    """The part of a sharded tensor that lies in this process."""
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _whole(tensor: Tensor) -> Tensor:
    """A sharded tensor, gathered from all processes."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
