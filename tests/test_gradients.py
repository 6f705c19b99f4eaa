"""Is every derivative right? Soft targets, targets and weights as variables, second derivatives."""
import numpy as np
import pytest
import sympy as sp
import torch
from conftest import each_claim, make_inputs, of_rows, of_sets, pointwise, subject_of

from lossbook import exact
from lossbook.audit import audit, points_for

SOFT = (0.01, 0.3, 0.5, 0.9, 0.999)


def term_size(expression, symbols):
    "The sum of the absolute terms: what a result that may cancel is measured by."
    return exact.reference64(sum(sp.Abs(t) for t in sp.Add.make_args(sp.expand(expression))), symbols)


@each_claim(pointwise)
def test_soft_targets_in_ulp_of_their_terms(claim):
    subject = subject_of(claim)
    points = points_for("float32", claim.domain, "quick")
    if claim.domain == "probs": points = points[points > 1e-30]
    for soft in SOFT:
        target = torch.full_like(points, soft)
        rounded = float(target[0])  # the label that the float32 tensor really holds
        z, y = points.double().numpy(), np.full(len(points), rounded)
        for what, got, promised in zip(("value", "gradient"), subject.run(points, target), claim.promise["float32"]):
            scale = term_size(getattr(subject, what), subject.symbols)(z, y)
            normal = np.abs(scale) >= exact.FORMATS["float32"].smallest_normal
            error = exact.ulp_error(got, subject.truth(what, z, rounded, "float32"), "float32", scale)
            assert error[normal].max() <= promised, (what, soft, points[normal][error[normal].argmax()].item(), error[normal].max())


@each_claim(lambda c: c.second is not None)
def test_second_derivative(claim):
    report = audit(claim, checks=["second derivative"])
    assert report.passed, report.text()


@each_claim(pointwise)
def test_target_and_weight_are_differentiable(claim):
    first, target = make_inputs(claim, 3, 4, soft=True)
    first = first.clamp(0.05, 0.95) if claim.domain == "probs" else first
    weight = torch.rand(4, dtype=torch.float64) + 0.5
    def loss(z, t, w): return claim.loss(z, t, weight=w, reduction="none", **claim.options)
    inputs = tuple(v.clone().requires_grad_() for v in (first, target.clamp(0.1, 0.9), weight))
    assert torch.autograd.gradcheck(loss, inputs) and torch.autograd.gradgradcheck(loss, inputs)


def test_pos_weight_is_differentiable():
    from lossbook import binary_cross_entropy_with_logits
    z, t = torch.randn(3, 4, dtype=torch.float64, requires_grad=True), torch.rand(3, 4, dtype=torch.float64)
    w = (torch.rand(4, dtype=torch.float64) + 0.5).requires_grad_()
    def loss(z, w): return binary_cross_entropy_with_logits(z, t, pos_weight=w, reduction="none")
    assert torch.autograd.gradcheck(loss, (z, w)) and torch.autograd.gradgradcheck(loss, (z, w))


@each_claim(lambda c: c.domain == "logits" and pointwise(c))
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_gradient_at_zero_is_one_half(claim, target):
    "The two branches of the stable form meet at 0; the derivative there must come from one of them, whole."
    z = torch.zeros(1, requires_grad=True)
    (slope,) = torch.autograd.grad(claim.loss(z, torch.tensor([target]), **claim.options), z)
    truth = exact.Enclosure(subject_of(claim).gradient, subject_of(claim).symbols).decide(0.0, target)
    assert slope.item() == pytest.approx(float(truth.mid()), rel=1e-6)


@each_claim(of_rows)
def test_soft_rows_and_class_weights_are_differentiable(claim):
    first, target = make_inputs(claim, 3, soft=True)
    weight = torch.rand(5, dtype=torch.float64) + 0.5
    def loss(z, t, w): return claim.loss(z, t.clamp(0, 1), weight=w, reduction="none", **claim.options)
    inputs = tuple(v.clone().requires_grad_() for v in (first, target, weight))
    assert torch.autograd.gradcheck(loss, inputs) and torch.autograd.gradgradcheck(loss, inputs)


@each_claim(of_rows)
def test_soft_rows_in_ulp_of_their_terms(claim):
    "The gradient p - y of a soft row cancels; it is measured by the size of its terms, for every class."
    generator = torch.Generator().manual_seed(0)
    for size in (1.0, 5.0, 20.0):
        z = torch.randn(500, 10, generator=generator) * size
        y = torch.softmax(torch.randn(500, 10, generator=generator) * 2, 1)
        wide, each = z.double(), []
        for c in range(10): each.append(claim.reference(wide, torch.full((500,), c)))
        value = sum(y[:, c].double() * v for c, (v, _) in enumerate(each))
        slope = sum(y[:, c, None].double() * g for c, (_, g) in enumerate(each))
        terms = sum(y[:, c, None].double() * g.abs() for c, (_, g) in enumerate(each))
        got, gradient = subject_of(claim).run(z, y)
        assert exact.ulp_error(got, value.numpy(), "float32").max() <= claim.promise["float32"][0]
        assert exact.ulp_error(gradient, slope.numpy(), "float32", terms.numpy()).max() <= claim.promise["float32"][1]


@each_claim(of_sets)
def test_weights_of_rows_are_differentiable(claim):
    first, target = make_inputs(claim, 6)
    weight = (torch.rand(6, dtype=torch.float64) + 0.5).requires_grad_()
    def loss(w): return claim.loss(first, target, weight=w, reduction="none", **claim.options)
    assert torch.autograd.gradcheck(loss, weight)


@each_claim(of_sets)
@pytest.mark.parametrize("size", [1.0, 30.0])
def test_second_derivatives_of_sets(claim, size):
    "Hessians by double backward in float32 against float64, beside the largest entry of each row."
    generator = torch.Generator().manual_seed(0)
    first, target = make_inputs(claim, 16)
    first = first if claim.domain == "similarity" else first / 3 * size
    direction = torch.randn(first.shape, generator=generator, dtype=torch.float64)
    def product(z):
        (slope,) = torch.autograd.grad(claim.loss(z, target, reduction="sum", **claim.options), z, create_graph=True)
        return torch.autograd.grad((slope * direction.to(z)).sum(), z)[0]
    wide, narrow = (product(first.to(d).float().to(d).requires_grad_()) for d in (torch.float64, torch.float32))
    slope = subject_of(claim).run(first, target)[1].abs().amax(-1, keepdim=True)
    room = 1e-4 * wide.abs().amax(-1, keepdim=True) + 1e-14 * slope**2 + 1e-34  # the terms that cancel have its square
    assert ((narrow.double() - wide).abs() <= room).all() and narrow.isfinite().all()
