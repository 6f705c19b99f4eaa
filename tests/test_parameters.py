"""Does every promise hold for other values of a loss's parameters?"""
import numpy as np
import pytest
import torch
from conftest import subject_of

from lossbook.audit import audit, measure
from lossbook.focal import claim_for, sigmoid_focal_loss, softmax_claim_for, softmax_focal_loss

GAMMAS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
RANDOM = [float(g) for g in np.random.default_rng(0).uniform(0, 5, 4).astype(np.float32)]
NUMBERS = ["value", "gradient", "false zeros", "finite", "infinite logits", "dead gradient", "cap"]


@pytest.mark.parametrize("gamma", [*GAMMAS, *RANDOM, 8.0])
def test_sigmoid_focal_in_float32(gamma):
    report = audit(claim_for(gamma), checks=[*NUMBERS, "second derivative"])
    assert report.passed, report.text()


@pytest.mark.parametrize("gamma", (0.0, 0.5, 2.0, 5.0))
@pytest.mark.parametrize("dtype", ("float16", "bfloat16", "float64"))
def test_sigmoid_focal_in_other_dtypes(gamma, dtype):
    report = audit(claim_for(gamma), dtypes=[dtype], checks=[*NUMBERS, "rounding"])
    assert report.passed, report.text()


@pytest.mark.parametrize("gamma", [*GAMMAS, RANDOM[0]])
def test_softmax_focal(gamma):
    report = audit(softmax_claim_for(gamma), checks=[*NUMBERS, "soft targets", "gradients sum to 0", "offsets"])
    assert report.passed, report.text()


@pytest.mark.parametrize("gamma", (0.5, 1.5, 2.0))
def test_compiled_focal_keeps_the_promise(gamma):
    claim = claim_for(gamma)
    rows = measure(subject_of(claim), "float32", loss=torch.compile(sigmoid_focal_loss, fullgraph=True))
    for what, promised in zip(("value", "gradient"), claim.promise["float32"]):
        assert max(r["worst"] for r in rows[what].values()) <= promised and not any(r["zeros"] or r["broken"] for r in rows[what].values())


@pytest.mark.parametrize("gamma", (0.0, 0.3, 1.0, 1.5, 2.0, 4.7))
def test_double_backward_is_finite_and_right(gamma):
    "Peers give NaN for gamma between 1 and 2, where a power with a negative exponent meets 0."
    x = torch.tensor([-200.0, -30.0, -1.0, 0.0, 1.0, 30.0, 200.0], dtype=torch.float64, requires_grad=True)
    for target in (0.0, 1.0):
        loss = sigmoid_focal_loss(x, torch.full_like(x, target), gamma=gamma, alpha=None, reduction="none")
        (slope,) = torch.autograd.grad(loss.sum(), x, create_graph=True)
        (curve,) = torch.autograd.grad(slope.sum(), x)
        z = (x.detach() if target else -x.detach()).numpy().astype(np.longdouble)
        p, q, s = 1 / (1 + np.exp(-z)), 1 / (1 + np.exp(z)), np.logaddexp(np.longdouble(0), -z)
        closed = p * q**np.longdouble(gamma) * (gamma * s * (gamma * p - q) + (2 * gamma + 1) * q)
        assert curve.isfinite().all() and slope.isfinite().all()
        np.testing.assert_allclose(curve.numpy(), closed.astype(float), rtol=1e-9, atol=1e-300)
    logits = torch.tensor([[200.0, 0.0, -5.0], [0.0, 200.0, 1.0], [0.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    loss = softmax_focal_loss(logits, torch.zeros(3, dtype=torch.int64), gamma=gamma, reduction="sum")
    (slope,) = torch.autograd.grad(loss, logits, create_graph=True)
    (curve,) = torch.autograd.grad((slope * torch.tensor([1.0, 2.0, 3.0])).sum(), logits)
    assert curve.isfinite().all()


def test_gamma_zero_is_cross_entropy_within_an_ulp():
    import lossbook
    x, y = torch.randn(2000) * 8, (torch.rand(2000) < 0.5).float()
    torch.testing.assert_close(sigmoid_focal_loss(x, y, gamma=0.0, alpha=None, reduction="none"), lossbook.binary_cross_entropy_with_logits(x, y, reduction="none"), rtol=2.0**-22, atol=0)
    z, t = torch.randn(500, 7) * 5, torch.randint(0, 7, (500,))
    torch.testing.assert_close(softmax_focal_loss(z, t, gamma=0, reduction="none"), lossbook.cross_entropy(z, t, reduction="none"), rtol=2.0**-23, atol=0)


def test_the_normaliser_of_retinanet():
    x, y = torch.randn(100), (torch.rand(100) < 0.05).float()
    positives = y.sum().clamp(min=1)
    each = sigmoid_focal_loss(x, y, reduction="none")
    torch.testing.assert_close(sigmoid_focal_loss(x, y, normalizer=positives), each.sum() / positives)
    torch.testing.assert_close(sigmoid_focal_loss(x, y), each.mean())  # alpha is not in the denominator
