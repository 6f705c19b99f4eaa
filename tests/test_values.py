"""Is the value right? Every promise of the catalogue, against exact values."""
import math

import pytest
import torch
from conftest import DTYPES, each_claim, make_inputs, subject_of

from lossbook.audit import audit, measure

NUMBERS = ["value", "gradient", "false zeros", "finite", "rounding"]


@each_claim()
@pytest.mark.parametrize("dtype", DTYPES)
def test_errors_are_within_the_promise(claim, dtype, device):
    report = audit(claim, dtypes=[dtype], checks=NUMBERS, tier="quick", device=device)
    assert report.passed, report.text()


@each_claim()
def test_compiled_code_keeps_the_promise(claim):
    rows = measure(subject_of(claim), "float32", loss=torch.compile(claim.loss, fullgraph=True))
    for what, promised in zip(("value", "gradient"), claim.promise["float32"]):
        for target, row in rows[what].items():
            assert row["worst"] <= promised and not row["zeros"] and not row["broken"], (what, target, row)


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
    for reduction, wanted in (("sum", each.sum()), ("mean", each.mean())):
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
