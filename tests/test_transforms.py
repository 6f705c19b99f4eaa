"""Does it survive everything PyTorch does to functions?"""
import copy
import pickle

import pytest
import torch
from conftest import DTYPES, each_claim, make_inputs, of_rows, of_sets, pointwise

from lossbook.audit import audit

TRANSFORMS = ["dtype kept", "strides", "inputs unchanged", "grad mode", "empty batch", "reductions", "gradcheck",
              "gradgradcheck", "vmap", "jvp", "forward over reverse", "compile", "export", "autocast", "gradients sum to 0", "offsets"]


@each_claim()
@pytest.mark.parametrize("dtype", DTYPES)
def test_transforms(claim, dtype, device):
    report = audit(claim, dtypes=[dtype], checks=TRANSFORMS, device=device)
    assert report.passed, report.text()


@each_claim(pointwise)
def test_compile_with_every_option(claim):
    first, target = make_inputs(claim, 6, 4, dtype=torch.float32)
    options = dict(weight=torch.rand(4), mask=torch.rand(6, 4) < 0.7, label_smoothing=0.1, normalizer=torch.tensor(3.0), **claim.options)
    compiled = torch.compile(claim.loss, fullgraph=True)
    z, w = first.clone().requires_grad_(), first.clone().requires_grad_()
    compiled(z, target, **options).backward()
    claim.loss(w, target, **options).backward()
    torch.testing.assert_close(z.grad, w.grad, rtol=1e-5, atol=0)


@each_claim(pointwise)
def test_vmap_over_options(claim):
    first, target = make_inputs(claim, 6, 4)
    weight, mask = torch.rand(6, 4, dtype=torch.float64), torch.rand(6, 4) < 0.7
    def one(z, t, w, m): return claim.loss(z, t, weight=w, mask=m, **claim.options)
    got = torch.vmap(torch.func.grad(one))(first, target, weight, mask)
    for row in range(6):
        wanted = torch.func.grad(one)(first[row], target[row], weight[row], mask[row])
        torch.testing.assert_close(got[row], wanted, rtol=1e-12, atol=0)


@each_claim()
def test_fake_and_meta_tensors(claim):
    from torch._subclasses.fake_tensor import FakeTensorMode
    first, target = make_inputs(claim, 3, dtype=torch.float32)
    with FakeTensorMode() as mode:
        assert claim.loss(mode.from_tensor(first), mode.from_tensor(target), **claim.options).shape == ()
    assert claim.loss(first.to("meta"), target.to("meta"), **claim.options).device.type == "meta"


@each_claim(pointwise)
def test_channels_last_and_noncontiguous(claim):
    first, target = make_inputs(claim, 2, 3, 4, 5, dtype=torch.float32)
    wanted = claim.loss(first, target, reduction="none", **claim.options)
    last = first.to(memory_format=torch.channels_last), target.to(memory_format=torch.channels_last)
    torch.testing.assert_close(claim.loss(*last, reduction="none", **claim.options), wanted, rtol=1e-6, atol=0)
    torch.testing.assert_close(claim.loss(first.mT, target.mT, reduction="none", **claim.options), wanted.mT, rtol=1e-6, atol=0)


@each_claim(pointwise)
def test_module(claim):
    first, target = make_inputs(claim, 6, 4, dtype=torch.float32)
    weight = torch.rand(4)
    module = claim.module(weight=weight, label_smoothing=0.1, **claim.options)
    wanted = claim.loss(first, target, weight=weight, label_smoothing=0.1, **claim.options)
    for same in (module, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(same(first, target), wanted)
    other = claim.module(weight=torch.zeros(4), label_smoothing=0.1, **claim.options)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(first, target), wanted)
    assert "label_smoothing=0.1" in repr(module) and "weight=tensor[4]" in repr(module)
    assert torch.equal(torch.compile(module, backend="aot_eager", fullgraph=True)(first, target), wanted)
    mask = torch.rand(6, 4) < 0.5
    assert torch.equal(module(first, target, mask=mask), claim.loss(first, target, weight=weight, label_smoothing=0.1, mask=mask, **claim.options))


@each_claim(of_rows)
def test_module_and_compile_of_rows(claim):
    first, target = make_inputs(claim, 6, 4, dtype=torch.float32)
    weight, mask = torch.rand(5), torch.rand(6, 4) < 0.7
    module = claim.module(weight=weight, label_smoothing=0.1, **claim.options)
    wanted = claim.loss(first, target, weight=weight, label_smoothing=0.1, **claim.options)
    for same in (module, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(same(first, target), wanted)
    torch._dynamo.reset()  # of one function no more than eight forms are compiled in a process
    compiled = torch.compile(claim.loss, fullgraph=True)
    options = dict(weight=weight, mask=mask, label_smoothing=0.1, **claim.options)
    z, w = first.clone().requires_grad_(), first.clone().requires_grad_()
    compiled(z, target, **options).backward()
    claim.loss(w, target, **options).backward()
    torch.testing.assert_close(z.grad, w.grad, rtol=1e-5, atol=1e-9)


@each_claim(of_rows)
def test_vmap_over_options_of_rows(claim):
    first, target = make_inputs(claim, 6)
    weight, mask = torch.rand(6, 5, dtype=torch.float64), torch.rand(6) < 0.7
    def one(z, t, w, m): return claim.loss(z, t, weight=w, mask=m, **claim.options)
    got = torch.vmap(torch.func.grad(one))(first, target, weight, mask)
    for row in range(6):
        torch.testing.assert_close(got[row], torch.func.grad(one)(first[row], target[row], weight[row], mask[row]), rtol=1e-12, atol=0)


@each_claim(of_sets)
def test_module_and_compile_of_sets(claim):
    first, target = make_inputs(claim, 6, 4, dtype=torch.float32)
    mask, weight = torch.rand(6, 4, 5, generator=torch.Generator().manual_seed(1)) < 0.7, torch.rand(4) + 0.5
    module = claim.module(weight=weight, **claim.options)
    wanted = claim.loss(first, target, weight=weight, **claim.options)
    for same in (module, copy.deepcopy(module), pickle.loads(pickle.dumps(module))): assert torch.equal(same(first, target), wanted)
    other = claim.module(weight=torch.zeros(4), **claim.options)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(first, target), wanted) and "weight=tensor[4]" in repr(module)
    assert torch.equal(module(first, target, mask=mask), claim.loss(first, target, weight=weight, mask=mask, **claim.options))
    torch._dynamo.reset()  # of one function no more than eight forms are compiled in a process
    compiled = torch.compile(claim.loss, fullgraph=True)
    options = dict(weight=weight, mask=mask, normalizer=torch.tensor(3.0), **claim.options)
    z, w = first.clone().requires_grad_(), first.clone().requires_grad_()
    compiled(z, target, **options).backward()
    claim.loss(w, target, **options).backward()
    torch.testing.assert_close(z.grad, w.grad, rtol=1e-5, atol=1e-9)


@each_claim(of_sets)
def test_vmap_over_options_of_sets(claim):
    first, target = make_inputs(claim, 6)
    weight, mask = torch.rand(6, dtype=torch.float64), torch.rand(6, 5) < 0.7
    def one(z, t, w, m): return claim.loss(z, t, weight=w, mask=m, **claim.options)
    got = torch.vmap(torch.func.grad(one))(first, target, weight, mask)
    for row in range(6):
        torch.testing.assert_close(got[row], torch.func.grad(one)(first[row], target[row], weight[row], mask[row]), rtol=1e-12, atol=1e-15)


def test_a_learned_threshold_is_a_parameter_of_the_module():
    import lossbook
    first, target = torch.randn(6, 5), torch.rand(6, 5) < 0.4
    module = lossbook.MultilabelCrossEntropyLoss(threshold=torch.nn.Parameter(torch.zeros(5)))
    module(first, target).backward()
    (threshold,) = module.parameters()
    assert threshold.grad.abs().min() > 0 and "threshold" in module.state_dict()
