"""Does it agree with PyTorch wherever PyTorch is right?"""
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from conftest import each_claim, make_inputs, of_rows, pointwise

import lossbook

SHAPES = [(), (1,), (7,), (3, 5), (2, 3, 4), (2, 3, 4, 5)]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-2, torch.float16: 4e-3}


def weights_for(shape, kind, dtype):
    "No weight, one number, one per element, or one per last dimension."
    if kind == "none": return None
    full = torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.25
    picked = full if kind == "full" else full.reshape(-1)[0] if kind == "scalar" else full[(0,) * (len(shape) - 1)]
    return picked.to(dtype)


@each_claim(lambda c: c.torch is not None and pointwise(c))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda d: str(d)[6:])
def test_every_combination_of_options(claim, shape, dtype):
    first, target = make_inputs(claim, *shape, dtype=dtype, soft=True)
    first = first.clamp(-4, 4) if claim.domain == "logits" else first.clamp(0.1, 0.9)
    kinds = ("none", "scalar", "full", "last") if shape else ("none", "scalar")
    pos = kinds if claim.name == "binary_cross_entropy_with_logits" else ("none",)
    for reduction, kind, pos_kind in product(("none", "mean", "sum"), kinds, pos):
        options = {"weight": weights_for(shape, kind, dtype), "reduction": reduction}
        if pos_kind != "none": options["pos_weight"] = weights_for(shape, pos_kind, dtype)
        z, w = first.clone().requires_grad_(), first.clone().requires_grad_()
        ours = claim.loss(z, target, **options, **claim.options)
        # PyTorch rounds after every step in 16 bits; it is right in float32.
        wide = (lambda v: v.float() if isinstance(v, torch.Tensor) else v) if first.element_size() == 2 else (lambda v: v)
        theirs = claim.torch(wide(w), wide(target), **{k: wide(v) for k, v in options.items()}).to(dtype)
        assert ours.shape == theirs.shape and ours.dtype == dtype
        tolerance = TOLERANCE[dtype] * (4 if reduction == "sum" else 1)
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance / 10)
        ours.sum().backward()
        theirs.sum().backward()
        torch.testing.assert_close(z.grad, w.grad, rtol=tolerance, atol=tolerance)


@each_claim(lambda c: c.torch is not None and pointwise(c))
def test_float64_agrees_to_twelve_digits(claim):
    first, target = make_inputs(claim, 4096, soft=True, seed=3)
    first = first.clamp(-15, 15) if claim.domain == "logits" else first.clamp(1e-3, 0.999)
    ours, theirs = (f(first, target, reduction="none") for f in (claim.loss, claim.torch))
    assert ((ours - theirs).abs() <= 1e-12 * theirs.abs().clamp_min(1)).all()


def test_modules_have_pytorchs_names_and_values():
    z, t = torch.randn(5, 3), torch.rand(5, 3)
    w, p = torch.rand(3), torch.rand(3) + 0.5
    for reduction in ("none", "mean", "sum"):
        ours = lossbook.BCEWithLogitsLoss(weight=w, pos_weight=p, reduction=reduction)(z, t)
        theirs = torch.nn.BCEWithLogitsLoss(weight=w, pos_weight=p, reduction=reduction)(z, t)
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(lossbook.BCELoss(weight=w, reduction=reduction)(z.sigmoid(), t), torch.nn.BCELoss(weight=w, reduction=reduction)(z.sigmoid(), t))


def test_where_pytorch_is_wrong_we_differ():
    "The facts the chapter prints; if PyTorch mends one, this fails and the chapter must say so."
    z = torch.tensor([-20.0, 20.0], requires_grad=True)
    value = F.binary_cross_entropy_with_logits(z, torch.tensor([0.0, 1.0]), reduction="none")
    (slope,) = torch.autograd.grad(value.sum(), z)
    assert value[0].item() == 0 and slope[1].item() == 0
    ours = lossbook.binary_cross_entropy_with_logits(z, torch.tensor([0.0, 1.0]), reduction="none")
    (slope,) = torch.autograd.grad(ours.sum(), z)
    assert ours[0].item() == pytest.approx(2.061153620e-09, rel=1e-6) and slope[1].item() == pytest.approx(-2.061153618e-09, rel=1e-6)
    assert F.binary_cross_entropy_with_logits(torch.tensor([torch.inf]), torch.ones(1)).isnan()


def test_softplus_in_float64():
    "F.softplus is the identity above 20, in float64 too; the book's is not."
    from lossbook.stable import softplus
    v = torch.tensor([21.0], dtype=torch.float64)
    assert F.softplus(v) == 21 and softplus(v).item() == pytest.approx(21 + 7.582560422e-10, abs=1e-15)


@each_claim(lambda c: c.torch is not None and of_rows(c))
@pytest.mark.parametrize("shape", [(), (7,), (3, 4), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda d: str(d)[6:])
@pytest.mark.parametrize("soft", [False, True], ids=["index", "soft"])
def test_every_combination_of_options_of_rows(claim, shape, dtype, soft):
    if soft and not shape: shape = (1,)
    first, target = make_inputs(claim, *shape, dtype=dtype, soft=soft)
    first = first.clamp(-3, 3)
    weight = torch.rand(5, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.5
    for reduction, w, eps, ignore in product(("none", "mean", "sum"), (None, weight.to(dtype)), (0.0, 0.2), (-100, 1)):
        if soft and ignore != -100: continue
        z, v = first.clone().requires_grad_(), first.float().requires_grad_() if first.element_size() == 2 else first.clone().requires_grad_()
        ours = claim.loss(z, target, weight=w, label_smoothing=eps, ignore_index=ignore, reduction=reduction)
        wide = target.to(v.dtype) if soft else target
        theirs = claim.torch(v, wide, weight=None if w is None else w.to(v.dtype), label_smoothing=eps, ignore_index=ignore, reduction=reduction)
        if reduction == "mean" and soft and w is not None:  # the stated deviation: PyTorch divides weighted soft targets by N
            rows = target.double().movedim(1, -1).reshape(-1, 5)
            theirs = theirs * (len(rows) / (rows @ w.double()).sum()).to(theirs)
        if not soft and reduction == "mean" and (target == ignore).all(): continue  # NaN there, 0 here
        tolerance = TOLERANCE[dtype] * 2
        torch.testing.assert_close(ours.to(v.dtype), theirs, rtol=tolerance, atol=tolerance)
        ours.sum().backward()
        theirs.sum().backward()
        torch.testing.assert_close(z.grad.to(v.dtype), v.grad, rtol=tolerance, atol=tolerance)


@each_claim(of_rows)
@pytest.mark.parametrize("seed", range(8))
def test_three_ways_to_write_a_label_agree_under_every_option(claim, seed):
    "Within an ulp: index, one-hot (bool, integer, float), also with weights, smoothing, masked classes and a mask."
    torch.manual_seed(seed)
    z, label = make_inputs(claim, 64, dtype=torch.float32, seed=seed)
    z[:, 4] = torch.where(label == 4, z[:, 4], -torch.inf)
    onehot = F.one_hot(label, 5)
    weight, mask = torch.rand(5) + 0.5, torch.rand(64) < 0.8
    for w, eps, m, reduction in product((None, weight), (0.0, 0.1), (None, mask), ("none", "mean", "sum")):
        options = dict(weight=w, label_smoothing=eps, mask=m, reduction=reduction, **claim.options)
        wanted = claim.loss(z, label, **options)
        assert wanted.isfinite().all()
        for other in (onehot, onehot.bool(), onehot.float(), onehot.double()):
            torch.testing.assert_close(claim.loss(z, other, **options), wanted, rtol=2.0**-23, atol=0)  # at most an ulp
