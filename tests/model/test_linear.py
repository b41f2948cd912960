"""The linear layer against torch's own, and the kernels that it is for."""

import pytest
import torch
import torch.nn.functional as F
from model_builders import noise, relative
from torch.profiler import ProfilerActivity, profile

from latte_core.model.linear import FUSED, Linear, fuses, gelu_behind

FEW_BITS = {torch.float32: 1e-6, torch.bfloat16: 2**-7}


def layer(dtype=torch.float32):
    made = Linear(48, 96)
    made.weight.data, made.bias.data = noise(96, 48, seed=1) / 7, noise(96, seed=2)
    return made.to(dtype)


def wanted_of(made, x):
    return F.linear(x.double(), made.weight.double(), made.bias.double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(40, 48), (2, 5, 7, 48), (1, 48)])
@pytest.mark.parametrize("grad", [False, True])
def test_a_layer_gives_what_torchs_own_gives(dtype, shape, grad):
    made, x = layer(dtype), noise(*shape).to(dtype)
    with torch.set_grad_enabled(grad):
        assert relative(made(x).double(), wanted_of(made, x)) < FEW_BITS[dtype]
        turned = x.transpose(0, -2)  # as tokens along time come
        assert relative(made(turned).double(), wanted_of(made, turned)) < FEW_BITS[dtype]


def test_the_bias_is_not_copied_first_for_inference():
    made, x = layer(), noise(40, 48)
    with torch.no_grad():
        assert FUSED is None or fuses(made, x)
        with profile(activities=[ProfilerActivity.CPU]) as told:
            made(x)
    names = {event.key for event in told.key_averages()}
    assert FUSED is None or "mkldnn::_linear_pointwise" in names
    assert FUSED is None or "aten::addmm" not in names


def test_what_learns_what_is_adapted_and_what_is_half_converted_is_left_to_torch():
    made, x = layer(), noise(40, 48)
    assert not fuses(made, x)  # a gradient is wanted
    with torch.no_grad():
        assert not fuses(torch.nn.Sequential(made), x)
        assert not fuses(made, x.half())
        assert not fuses(made, x.bfloat16())  # weights of another dtype
        assert not fuses(made, x.to("meta"))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
def test_gelu_is_the_tanh_form(scale):
    made, x = layer(), scale * noise(40, 48)
    wanted = F.gelu(wanted_of(made, x), approximate="tanh")
    with torch.no_grad():
        assert relative(gelu_behind(made, x).double(), wanted) < 1e-6
    assert torch.equal(gelu_behind(made, x), F.gelu(made(x), approximate="tanh"))  # for training
    assert relative(F.gelu(wanted_of(made, x)), wanted) > 1e-5 or scale > 1.0  # the erf form


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("grad", [False, True])
def test_in_bf16_the_exact_gelu_stands_for_it(grad, scale):
    made = layer(torch.bfloat16)
    x = (scale * noise(40, 48)).bfloat16().requires_grad_(grad)
    with torch.set_grad_enabled(grad):
        h = made(x)
        made_of_it = gelu_behind(made, x)
    wanted = F.gelu(h.double(), approximate="tanh")
    apart = (made_of_it.double() - wanted).abs()
    assert (apart <= 5e-4 + 2**-8 * h.double().abs()).all()
