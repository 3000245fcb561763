"""The networks' products, by whichever library, are those of torch's own layers, gradients included."""

import pytest
import torch

from rllib_mafql.products import EnsembleLinear, Linear, wants_bfloat16


def gradients(layer, x, forward):
    for parameter in layer.parameters():
        parameter.grad = None
    x = x.detach().requires_grad_()
    y = forward(x)
    # as where a mean is taken: a gradient that is one number, expanded
    (y.mean() + y.square().sum()).backward()
    return [y.detach(), x.grad, *(p.grad for p in layer.parameters())]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 20), (100, 20), (3, 64, 20), (2, 3, 40, 20)])
def test_linear_is_torchs(shape, bias):
    torch.manual_seed(0)
    layer, x = Linear(20, 7, bias=bias), torch.randn(*shape[:-1], 50)[..., 11:31]  # a slice of a wider array
    expected = gradients(layer, x, lambda x: torch.nn.functional.linear(x, layer.weight, layer.bias))
    for ours, theirs in zip(gradients(layer, x, layer), expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("rows", [5, 100])
@pytest.mark.parametrize("size_out", [7, 1])
def test_ensemble_is_one_batched_product(rows, size_out):
    torch.manual_seed(0)
    layer, x = EnsembleLinear(3, 20, size_out), torch.randn(rows, 3, 20).transpose(0, 1)
    expected = gradients(layer, x, lambda x: torch.baddbmm(layer.bias, x, layer.weight))
    for ours, theirs in zip(gradients(layer, x, layer), expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-4)


def test_autocast_computes_in_the_lower_precision():
    layer, x = Linear(20, 7), torch.randn(64, 20)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    assert torch.allclose(y.float(), layer(x), atol=0.05)


def test_without_gradients_no_graph_is_kept():
    layer = Linear(20, 7)
    with torch.no_grad():
        assert not layer(torch.randn(64, 20)).requires_grad
    layer.requires_grad_(False)
    x = torch.randn(64, 20, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None and layer.weight.grad is None


@pytest.mark.parametrize(
    ("precision", "capabilities", "wanted"),
    [
        ("float32", {"amx_bf16": True}, False),
        ("auto", {"amx_bf16": True}, True),
        ("auto", {"avx512_bf16": True, "amx_bf16": False}, True),
        ("auto", {"avx2": True}, False),
        ("bfloat16", {"amx_bf16": True}, True),
    ],
)
def test_precision_follows_the_processor(precision, capabilities, wanted, caplog):
    assert wants_bfloat16(precision, torch.device("cpu"), capabilities) is wanted
    assert not caplog.records


def test_auto_is_float32_on_gpus_that_have_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert not wants_bfloat16("auto", torch.device("cuda"))
    assert wants_bfloat16("bfloat16", torch.device("cuda"))


def test_bfloat16_without_instructions_is_done_with_a_warning(caplog):
    assert wants_bfloat16("bfloat16", torch.device("cpu"), {"avx2": True})
    assert "auto" in caplog.text
