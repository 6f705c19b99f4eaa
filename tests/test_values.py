"""Is the value right? Every promise of the catalogue, against exact values."""
import math
from functools import partial

import pytest
import torch
from conftest import DTYPES, each_claim, make_inputs, of_sets, subject_of

from lossbook.audit import audit, compare, measure

NUMBERS = ["value", "gradient", "false zeros", "finite", "rounding"]


@each_claim()
@pytest.mark.parametrize("dtype", DTYPES)
def test_errors_are_within_the_promise(claim, dtype, device):
    report = audit(claim, dtypes=[dtype], checks=NUMBERS, tier="quick", device=device)
    assert report.passed, report.text()


@each_claim(lambda c: not of_sets(c))
def test_compiled_code_keeps_the_promise(claim):
    rows = measure(subject_of(claim), "float32", loss=torch.compile(claim.loss, fullgraph=True))
    for what, promised in zip(("value", "gradient"), claim.promise["float32"]):
        for target, row in rows[what].items():
            assert row["worst"] <= promised and not row["zeros"] and not row["broken"], (what, target, row)


@each_claim(of_sets)
def test_compiled_code_of_sets_keeps_the_promise(claim):
    "One shape, since each number of classes is compiled anew; rows ahead, behind and in between, with up to 6 labels."
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(192, 40, generator=generator) * torch.tensor([1.0, 5.0, 20.0]).repeat_interleave(64)[:, None]
    k = torch.randint(0, 7, (192, 1), generator=generator)
    key = torch.stack([scores, -scores, torch.rand(192, 40, generator=generator)])[torch.arange(192) % 3, torch.arange(192)]
    labels = key.argsort(1).argsort(1) < k
    if claim.domain == "similarity": scores = torch.tanh(scores)
    subject = subject_of(claim)
    bound = {"max_labels": 6} if claim.name == "subset_softmax_loss" else {}  # it cannot read k when compiled
    subject.loss = torch.compile(partial(claim.loss, reduction="none", **{**claim.options, **bound}), fullgraph=True)
    subject.options, subject.reducible = {}, False
    for got, truth, promised in zip(subject.run(scores, labels), claim.reference(scores.double(), labels), claim.promise["float32"]):
        found = compare(got.flatten(), truth.flatten().numpy(), torch.arange(truth.numel()), "float32")
        assert found["worst"] <= promised and not found["zeros"] and not found["broken"], found


@each_claim(lambda c: c.domain == "logits")
def test_infinite_logits_have_their_limits(claim):
    report = audit(claim, dtypes=DTYPES, checks=["infinite logits", "dead gradient", "cap"])
    assert report.passed, report.text()


def test_probabilities_of_0_and_1():
    from lossbook import binary_cross_entropy
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        p = torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=dtype, requires_grad=True)
        loss = binary_cross_entropy(p, torch.tensor([0, 1, 1, 0]), reduction="none")
        loss.sum().backward()
        assert loss.tolist() == [0, 0, math.inf, math.inf]
        assert p.grad[:2].tolist() == [1, -1] and p.grad[2] < -60000 and p.grad[3] > 60000 and not p.grad.isnan().any()


@each_claim()
@pytest.mark.parametrize("size", [1, 1000, 100_000, 4_000_000])
def test_mean_and_sum_do_not_drift(claim, size):
    first, target = make_inputs(claim, size if claim.kind == "pointwise" else max(1, size // 10), dtype=torch.float32)
    each = claim.loss(first, target, reduction="none", **claim.options).double()
    counted = claim.traits["counted"](target).sum().item() if "counted" in claim.traits else each.numel()
    for reduction, wanted in (("sum", each.sum()), ("mean", each.sum() / max(counted, 1))):
        got = claim.loss(first, target, reduction=reduction, **claim.options)
        assert abs(got.double() / wanted - 1) <= 4 * 2.0**-24


@each_claim()
def test_scalars_slices_and_odd_lengths_agree(claim):
    "Kernels have a vector body and a scalar tail; both must keep the promise, so results may differ by rounding only."
    first, target = make_inputs(claim, 1003, dtype=torch.float32)
    whole = claim.loss(first, target, reduction="none", **claim.options)
    for i in range(0, 1003, 17):
        one = claim.loss(first[i], target[i], reduction="none", **claim.options)
        assert one.shape == () and torch.allclose(one, whole[i], rtol=2 * sum(claim.promise["float32"]) * 2.0**-24, atol=0)
