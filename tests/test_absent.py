"""What does not count must leave no trace: masks, zero weights, empty batches."""
import math

import pytest
import torch
from conftest import DTYPES, dense_sets, each_claim, make_inputs, of_rows, of_sets, one_per_example, pointwise

BAD = (math.nan, math.inf, -math.inf)


@each_claim(pointwise)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", BAD)
def test_masked_elements_may_hold_anything(claim, dtype, bad, device):
    first, target = make_inputs(claim, 6, 5, dtype=getattr(torch, dtype), device=device)
    mask = torch.rand(6, 5, generator=torch.Generator().manual_seed(0)).to(device) < 0.6
    spoiled, labels = torch.where(mask, first, bad).requires_grad_(), torch.where(mask, target, bad)
    clean = first[mask].clone().requires_grad_()
    loss, wanted = claim.loss(spoiled, labels, mask=mask, **claim.options), claim.loss(clean, target[mask], **claim.options)
    loss.backward()
    wanted.backward()
    tolerance = dict(rtol=1e-2 if dtype in ("float16", "bfloat16") else 1e-5, atol=0)
    torch.testing.assert_close(loss, wanted, **tolerance)
    assert (spoiled.grad[~mask] == 0).all()
    torch.testing.assert_close(spoiled.grad[mask], clean.grad, **tolerance)
    assert (claim.loss(spoiled, labels, mask=mask, reduction="none", **claim.options)[~mask] == 0).all()


@each_claim()
def test_an_unmasked_nan_is_not_hidden(claim):
    first, target = make_inputs(claim, 4)
    first[1] = math.nan  # one element, or one row
    losses = claim.loss(first, target, reduction="none", **claim.options)
    assert losses.isnan().tolist() == [False, True, False, False] and claim.loss(first, target, **claim.options).isnan()


@each_claim()
@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_to_average_gives_zero(claim, dtype):
    for shape, masked in (((0,), False), ((0, 3), False), ((4,), True)):
        first, target = make_inputs(claim, *shape, dtype=getattr(torch, dtype))
        first.requires_grad_()
        mask = one_per_example(claim, torch.zeros(shape, dtype=torch.bool), first) if masked else None
        loss = claim.loss(first, target, mask=mask, **claim.options)
        loss.backward()
        assert loss == 0 and loss.dtype == first.dtype and (first.grad == 0).all()


@each_claim(lambda c: c.domain == "logits" and pointwise(c))
def test_weight_zero_wins_over_an_infinite_loss(claim):
    z = torch.tensor([math.inf, 1.0], requires_grad=True)
    loss = claim.loss(z, torch.zeros(2), weight=torch.tensor([0.0, 1.0]), reduction="sum", **claim.options)
    loss.backward()
    assert loss.isfinite() and z.grad[0] == 0 and z.grad[1] > 0


@each_claim(pointwise)
def test_denominators(claim):
    first, target = make_inputs(claim, 8)
    mask = torch.arange(8) < 6
    each = claim.loss(first, target, reduction="none", **claim.options)
    def mean(**options): return claim.loss(first, target, **options, **claim.options).item()
    assert mean() == pytest.approx(each.mean().item(), rel=1e-12)
    assert mean(mask=mask) == pytest.approx(each[:6].sum().item() / 6, rel=1e-12)
    assert mean(mask=mask, normalizer=3) == pytest.approx(each[:6].sum().item() / 3, rel=1e-12)
    assert mean(normalizer=torch.tensor(5.0, dtype=torch.float64)) == pytest.approx(each.sum().item() / 5, rel=1e-12)
    assert mean(weight=torch.full((8,), 2.0, dtype=torch.float64)) == pytest.approx(2 * each.mean().item(), rel=1e-12)


@each_claim(pointwise)
def test_targets_of_every_type_agree(claim):
    first, target = make_inputs(claim, 16, dtype=torch.float32)
    wanted = claim.loss(first, target, **claim.options)
    for dtype in (torch.bool, torch.int64, torch.uint8, torch.float64, torch.float16):
        assert torch.equal(claim.loss(first, target.to(dtype), **claim.options), wanted)


@each_claim(of_rows)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", BAD)
def test_rows_that_do_not_count_may_hold_anything(claim, dtype, bad, device):
    first, target = make_inputs(claim, 8, dtype=getattr(torch, dtype), device=device)
    mask = torch.arange(8, device=device) % 3 > 0
    spoiled = torch.where(mask[:, None], first, bad)
    wanted = claim.loss(first[mask], target[mask], **claim.options)
    for how in (dict(mask=mask), dict(ignore_index=-7)):
        z = spoiled.clone().requires_grad_()
        labels = torch.where(mask, target, -7) if "ignore_index" in how else torch.where(mask, target, 999)
        loss = claim.loss(z, labels, **how, **claim.options)
        loss.backward()
        torch.testing.assert_close(loss, wanted, rtol=1e-2 if dtype in ("float16", "bfloat16") else 1e-5, atol=0)
        assert (z.grad[~mask] == 0).all() and z.grad.isfinite().all()
        assert (claim.loss(z, labels, reduction="none", **how, **claim.options)[~mask] == 0).all()


@each_claim(of_rows)
def test_a_class_at_minus_infinity_is_not_there(claim):
    z, label = make_inputs(claim, 16)
    label = label % 4
    for eps in (0.0, 0.1):
        masked = z.clone()
        masked[:, 4] = -math.inf
        masked.requires_grad_()
        loss = claim.loss(masked, label, label_smoothing=eps, **claim.options)
        loss.backward()
        torch.testing.assert_close(loss, claim.loss(z[:, :4], label, label_smoothing=eps, **claim.options), rtol=1e-12, atol=0)
        assert (masked.grad[:, 4] == 0).all() and masked.grad.isfinite().all()


@each_claim(of_rows)
def test_one_class_costs_nothing(claim):
    z = torch.tensor([[3.0], [-3.0]], requires_grad=True)
    loss = claim.loss(z, torch.zeros(2, dtype=torch.int64), reduction="none", **claim.options)
    loss.sum().backward()
    assert loss.tolist() == [0, 0] and z.grad.flatten().tolist() == [0, 0]


@each_claim(of_rows)
def test_denominators_of_rows(claim):
    z, label = make_inputs(claim, 12)
    weight = torch.tensor([1.0, 2.0, 0.5, 4.0, 0.0], dtype=torch.float64)
    label = label.clone().index_fill_(0, torch.tensor([3]), -100)
    each = claim.loss(z, label, weight=weight, reduction="none", **claim.options)
    counts = weight[label.clamp(min=0)] * (label >= 0)
    def mean(**options): return claim.loss(z, label, **options, **claim.options).item()
    assert mean(weight=weight) == pytest.approx((each.sum() / counts.sum()).item(), rel=1e-12)
    assert mean(weight=weight, normalizer=12) == pytest.approx(each.sum().item() / 12, rel=1e-12)
    assert mean(mask=torch.zeros(12, dtype=torch.bool)) == 0
    assert claim.loss(z, label * 0 + 4, weight=weight, **claim.options) == 0  # all weight is 0: nothing to average


@each_claim(of_sets)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", BAD)
def test_classes_that_do_not_count_may_hold_anything(claim, dtype, bad, device):
    "A masked class is a class removed; a row without a class is no row."
    first, target = make_inputs(claim, 8, dtype=getattr(torch, dtype), device=device)
    mask = torch.ones(8, 5, dtype=torch.bool, device=device)
    mask[:, 4], mask[3] = False, False
    if claim.traits.get("indices"): kept, wanted_target = target, torch.where(target == 4, -1, target)
    else: kept, wanted_target = torch.where(mask, target, True), target[..., :4]
    rows = torch.arange(8, device=device) != 3
    z = torch.where(mask, first, bad).requires_grad_()
    clean = first[rows][:, :4].clone().requires_grad_()
    loss = claim.loss(z, kept, mask=mask, **claim.options)
    wanted = claim.loss(clean, wanted_target[rows], **claim.options)
    loss.backward()
    wanted.backward()
    tolerance = dict(rtol=1e-2 if dtype in ("float16", "bfloat16") else 1e-5, atol=0)
    torch.testing.assert_close(loss, wanted, **tolerance)
    assert (z.grad[~mask] == 0).all()
    torch.testing.assert_close(z.grad[rows][:, :4], clean.grad, **tolerance)
    assert claim.loss(z, kept, mask=mask, reduction="none", **claim.options)[3] == 0


@each_claim(of_sets)
def test_denominators_of_sets(claim):
    first, target = make_inputs(claim, 12)
    mask = torch.ones(12, 5, dtype=torch.bool)
    mask[5] = False
    weight = torch.rand(12, dtype=torch.float64) + 0.5
    counted = _counts(claim, target) & mask.any(1)
    each = claim.loss(first, target, mask=mask, reduction="none", **claim.options)
    def mean(**options): return claim.loss(first, target, mask=mask, **options, **claim.options).item()
    assert mean() == pytest.approx(each.sum().item() / counted.sum().item(), rel=1e-12)
    assert mean(weight=weight) == pytest.approx((each * weight).sum().item() / counted.sum().item(), rel=1e-12)
    assert mean(normalizer=3) == pytest.approx(each.sum().item() / 3, rel=1e-12)
    assert mean(reduction="sum", weight=weight) == pytest.approx((each * weight).sum().item(), rel=1e-12)


def _counts(claim, target):
    "Rows that the mean counts, as far as the labels decide it."
    return claim.traits["counted"](target) if "counted" in claim.traits else torch.ones(len(target), dtype=torch.bool)


@each_claim(dense_sets)
def test_labels_of_every_type_agree(claim):
    first, target = make_inputs(claim, 16, dtype=torch.float32)
    wanted = claim.loss(first, target, **claim.options)
    for dtype in (torch.int64, torch.uint8, torch.float32, torch.float64, torch.float16):
        assert torch.equal(claim.loss(first, target.to(dtype), **claim.options), wanted)


@each_claim(lambda c: of_sets(c) and c.domain == "logits")
def test_a_row_of_weight_0_may_have_an_infinite_loss(claim):
    z, target = make_inputs(claim, 2)
    target = torch.tensor([[0, 1, -1, -1, -1]] * 2) if claim.traits.get("indices") else torch.tensor([[1, 1, 0, 0, 0]] * 2)
    z[0, 0] = -math.inf
    z.requires_grad_()
    assert claim.loss(z, target, reduction="none", **claim.options)[0] == math.inf
    loss = claim.loss(z, target, weight=torch.tensor([0.0, 1.0]), reduction="sum", **claim.options)
    loss.backward()
    assert loss.isfinite() and (z.grad[0] == 0).all() and z.grad[1].abs().max() > 0
