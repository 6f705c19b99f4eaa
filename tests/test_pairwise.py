"""LSEP and Circle loss: the other scales and margins, both gradients, pairs and proxies, limits."""
import math
from dataclasses import replace

import pytest
import sympy as sp
import torch
import torch.nn.functional as F

from lossbook import exact
from lossbook.audit import audit, make_subject
from lossbook.cross_entropy import cross_entropy
from lossbook.pairwise import (
    CircleLoss,
    LSEPLoss,
    circle_claim,
    circle_loss,
    claims,
    lsep_claim,
    lsep_loss,
    published_gradient,
)
from lossbook.sets import set_call

LSEP = [(30.0, 0.35), (0.5, -1.0)]
CIRCLE = [(64.0, 0.25, True), (64.0, 0.4, True), (256.0, 0.25, False), (80.0, 0.4, False)]
NUMBERS = ["value", "gradient", "false zeros", "finite", "dead gradient", "cap", "reductions"]
DERIVATIVES = ["gradcheck", "gradgradcheck", "vmap", "jvp", "forward over reverse", "soft targets", "strides"]


def data(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    s = torch.tanh(torch.randn(*shape, 6, generator=generator, dtype=torch.float64)).to(dtype)
    return s, torch.rand(*shape, 6, generator=generator) < 0.4


def grad(loss, s, y, **options):
    s = s.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(s, y, reduction="sum", **options), s)[0]


def passes(claim, dtypes, checks):
    few = replace(claim, traits={**claim.traits, "sizes": {"quick": ((1, 2, 10), 20_000, 10)}})
    report = audit(few, dtypes=dtypes, checks=checks)
    assert report.passed, report.text()
    return report


@pytest.mark.parametrize("scale,margin", LSEP)
def test_lsep_with_other_parameters(scale, margin):
    passes(lsep_claim(scale, margin), ("float64", "float32"), NUMBERS)
    passes(lsep_claim(scale, margin), ("float64",), [*DERIVATIVES, "infinite logits"])


@pytest.mark.parametrize("scale,margin,detach", CIRCLE)
def test_circle_with_other_parameters(scale, margin, detach):
    claim = circle_claim(detach, scale, margin)
    passes(claim, ("float64", "float32"), NUMBERS)
    assert (passes(claim, ("float64",), DERIVATIVES)["gradcheck"].passed is None) == detach


@pytest.mark.parametrize("claim", [lsep_claim(30.0, 0.35), circle_claim(True, 64.0, 0.4), circle_claim(False)], ids=["lsep", "circle", "circle, derivative"])
def test_laws_with_other_parameters(claim):
    a, b = (data(8, seed=i)[0] for i in (0, 1))
    for law in claim.laws.values(): law(make_subject(claim), a, b, data(8)[1])


def test_a_law_can_fail():
    claim = circle_claim(False)
    wrong = make_subject(claim, lambda s, y: lsep_loss(s, y, reduction="none", scale=256.0, margin=0.25))
    with pytest.raises(AssertionError): claim.laws["log 2 on the circle"](wrong, *(data(8, seed=i)[0] for i in (0, 1)), None)


def test_the_published_gradient_is_the_derived_one():
    "Backward against the closed form, in float64: gamma times weight times the share of the pairs that a class is in."
    s, y = data(40)
    for scale, margin in ((256.0, 0.25), (20.0, 0.4)):
        a = torch.where(y, 1 - s, s)
        weight = (a + margin).clamp(min=0)
        u = scale * weight * (a - margin)
        pairs = torch.where(~y[:, :, None] & y[:, None, :], u[:, :, None] + u[:, None, :], -math.inf).flatten(1)
        share = torch.softmax(torch.cat([torch.zeros(len(s), 1, dtype=s.dtype), pairs], 1), 1)[:, 1:].reshape(-1, 6, 6)
        wanted = scale * weight * torch.where(y, -share.sum(1), share.sum(2))
        torch.testing.assert_close(grad(circle_loss, s, y, scale=scale, margin=margin), wanted, rtol=1e-10, atol=1e-10)


def test_both_forms_have_one_value_and_two_gradients():
    s, y = data(40)
    published, full = (dict(detach_weights=d, reduction="none") for d in (True, False))
    torch.testing.assert_close(circle_loss(s, y, **published), circle_loss(s, y, **full), rtol=1e-13, atol=0)
    g, h = (grad(circle_loss, s, y, detach_weights=d) for d in (True, False))
    band = ~y & (s > -0.25) & (s < 0) & (g > 0)
    assert band.sum() > 10 and (h[band] < 0).all()
    torch.testing.assert_close(h[band] / g[band], (2 * s / (s + 0.25))[band])
    assert (h[y] <= 0).all() and (g[y] <= 0).all() and (g[~y] >= 0).all()


def test_the_form_without_detached_weights_flips_a_sign():
    "Keras's formula as we read it, typed: at s_n = -0.2 with margin 0.4 the gradient of a negative is -2 times the published one."

    def typed(s, y, scale, margin):
        distance = 1 - s
        positive = -scale * (margin + distance).clamp(min=0) * (margin - distance)
        negative = scale * (1 + margin - distance).clamp(min=0) * (1 - margin - distance)
        sides = positive.masked_fill(~y, -math.inf), negative.masked_fill(y, -math.inf)
        return F.softplus(sum(torch.logsumexp(v, -1) for v in sides))

    s, y = torch.tensor([[-0.2, 0.5]], dtype=torch.float64), torch.tensor([[False, True]])
    options = dict(scale=80.0, margin=0.4)
    z = s.clone().requires_grad_()
    theirs = torch.autograd.grad(typed(z, y, **options).sum(), z)[0]
    torch.testing.assert_close(theirs, grad(circle_loss, s, y, detach_weights=False, **options))
    assert theirs[0, 0] / grad(circle_loss, s, y, **options)[0, 0] == pytest.approx(-2, rel=1e-12)


def test_the_symbolic_gradients_are_those_of_the_spec():
    "Where the weights are 0 or constant, both derivatives agree; elsewhere the enclosures differ, as they should."
    scores = sp.symbols("s_1:3", real=True)
    held = published_gradient(scores, (0, 1), {"gamma": 4.0, "m": 0.25})
    at = dict(zip(scores, (sp.Rational(-1, 2), sp.Rational(1, 2))))
    assert held[0].subs(at) == 0 and held[1].subs(at) < 0
    assert published_gradient(scores, (1, 1), {"gamma": 4.0, "m": 0.25}) == [0, 0]


def test_pair_level():
    "A batch against itself: the diagonal is left out by the mask, whatever it holds, and a sample alone does not count."
    group = torch.tensor([0, 0, 1, 1, 1, 2])
    points = F.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=1)
    similarity, same, others = points @ points.T, group[:, None] == group, ~torch.eye(6, dtype=torch.bool)
    rows = [circle_loss(similarity[i][others[i]], same[i][others[i]]) for i in range(6)]
    each = circle_loss(similarity, same, mask=others, reduction="none")
    torch.testing.assert_close(each, torch.stack(rows))
    assert each[5] == 0 and (each[:5] > 0).all()
    torch.testing.assert_close(circle_loss(similarity, same, mask=others), each.sum() / 5)
    bad = torch.where(others, similarity, math.nan).requires_grad_()
    circle_loss(bad, same, mask=others).backward()
    clean = torch.where(others, grad(circle_loss, similarity, same, mask=others) / 5, 0.0)
    torch.testing.assert_close(bad.grad, clean)
    assert (bad.grad.diagonal() == 0).all() and (bad.grad[5] == 0).all() and bad.grad[:5].ne(0).any(1).all()


def test_class_level_is_pair_level_with_proxies():
    generator = torch.Generator().manual_seed(0)
    points, proxies = (F.normalize(torch.randn(n, 4, generator=generator, dtype=torch.float64), dim=1) for n in (7, 3))
    label = torch.arange(7) % 3
    wanted = circle_loss(points @ proxies.T, F.one_hot(label, 3))
    everything = torch.cat([points, proxies]) @ torch.cat([points, proxies]).T
    group, only = torch.cat([label, torch.arange(3)]), torch.zeros(10, 10, dtype=torch.bool)
    only[:7, 7:] = True
    torch.testing.assert_close(circle_loss(everything, group[:, None] == group, mask=only), wanted)
    batch = (points @ proxies.T).reshape(7, 1, 3)
    torch.testing.assert_close(circle_loss(batch, F.one_hot(label, 3)[:, None]), wanted)


def test_means_count_rows():
    s, y = data(12)
    y[0], y[1] = True, False
    pair = y.any(1) & ~y.all(1)
    for loss, count in ((lsep_loss, 12), (circle_loss, int(pair.sum()))):
        each = loss(s, y, reduction="none")
        assert (each[~pair] == 0).all() and count in (12, pair.sum())
        assert loss(s, y).item() == pytest.approx(each.sum().item() / count, rel=1e-14)
        assert loss(s, y, normalizer=7).item() == pytest.approx(each.sum().item() / 7, rel=1e-14)
        assert loss(s[:2], y[:2]) == 0 and (grad(loss, s, y)[~pair] == 0).all()
    masked = torch.ones(12, 6, dtype=torch.bool)
    masked[2] = False
    assert lsep_loss(s, y, mask=masked).item() == pytest.approx(lsep_loss(s, y, mask=masked, reduction="sum").item() / 11)


def test_every_float16_similarity_at_scale_256():
    "Exponents up to 1248 overflow the exponential; loss and gradient are finite and correctly rounded all the same."
    s = exact.all_floats("float16")
    s = s[s.abs() <= 1]
    partners = torch.tensor([-1.0, -0.25, 0.0, 0.25, 0.7, 1.0], dtype=torch.float16)
    rows = torch.stack([s[:, None].expand(-1, 6), partners.expand(len(s), 6)], -1)
    for label in ([False, True], [True, False]):
        y = torch.tensor(label).expand(rows.shape)
        for detach in (True, False):
            claim = circle_claim(detach)
            value, slope = make_subject(claim).run(rows, y)
            exactly, wanted = claim.reference(rows.double().reshape(-1, 2), y.reshape(-1, 2))
            assert value.isfinite().all() and slope.isfinite().all()
            assert exact.ulp_error(value.reshape(-1), exactly.numpy(), "float16").max() <= 0.51
            assert exact.ulp_error(slope.reshape(-1, 2), wanted.numpy(), "float16").max() <= 0.51
    assert 1247 < exactly.max() < 1249


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_infinite_and_absent_similarities(dtype):
    s = torch.tensor([[math.inf, 0.5, 0.2], [0.1, -math.inf, 0.2], [-math.inf, 0.5, math.inf], [math.nan, 0.5, 0.2]], dtype=dtype)
    y = torch.tensor([False, True, False]).expand(4, 3)
    for detach in (True, False):
        z = s.clone().requires_grad_()
        loss = circle_loss(z, y, reduction="none", detach_weights=detach)
        (slope,) = torch.autograd.grad(loss.sum(), z)
        assert loss.isinf().tolist() == [True, True, True, False] and loss[3].isnan() and not slope[:3].isnan().any()


def test_infinite_scores_without_a_limit_are_not_a_number():
    "A class and the only label both at inf, or both at -inf: their difference is anything."
    s = torch.tensor([[math.inf, math.inf, 0.0], [-math.inf, -math.inf, -math.inf], [math.inf, math.inf, 0.0]])
    y = torch.tensor([[False, True, False], [False, True, False], [False, True, True]])
    assert [math.isnan(v) or v for v in lsep_loss(s, y, reduction="none").tolist()] == [True, True, math.inf]


def test_limits():
    s, y = data(10)
    y[:, 0], y[:, 1] = True, False
    label = torch.arange(10) % 6
    onehot = F.one_hot(label, 6)
    torch.testing.assert_close(lsep_loss(s, onehot), cross_entropy(s, label))
    lowered = torch.where(onehot.bool(), s - 0.35, s)
    torch.testing.assert_close(lsep_loss(s, onehot, scale=30, margin=0.35), cross_entropy(30 * lowered, label))
    worst = s.masked_fill(y, -math.inf).amax(1) - s.masked_fill(~y, math.inf).amin(1)
    for margin in (0.0, 0.3):
        hinge = (worst + margin).clamp(min=0)
        torch.testing.assert_close(lsep_loss(s, y, scale=1e6, margin=margin, reduction="none") / 1e6, hinge, rtol=0, atol=2e-6)
    torch.testing.assert_close(circle_loss(s, y, reduction="none"), circle_loss(1 - s, ~y, reduction="none"), rtol=1e-9, atol=0)


def test_gradients_of_lsep_sum_to_0():
    s, y = data(50)
    g = grad(lsep_loss, s * 30, y, scale=30.0, margin=0.35)
    assert (g.sum(1).abs() <= 1e-12 * g.abs().sum(1)).all() and (g[~y] >= 0).all() and (g[y] <= 0).all()


def test_circle_loss_is_not_convex():
    y = torch.tensor([[False, True]])
    low, middle, high = (circle_loss(torch.tensor([[v, 1.0]], dtype=torch.float64), y, scale=4.0) for v in (-0.5, -0.25, 0.0))
    assert middle > (low + high) / 2 and low > high


def test_tiny_losses_and_gradients_in_float32():
    "The gradient of an exponent is below the smallest float32; gamma times it is a normal number."
    s, y = torch.tensor([[0.0, 0.3578125]]), torch.tensor([[False, True]])
    got = grad(lsep_loss, s, y, scale=256.0)[0, 0].item()
    assert got == pytest.approx(256 * math.exp(-256 * s[0, 1].item()), rel=1e-6) and got > 2.0**-126


@pytest.mark.parametrize("module,loss,options", [
    (LSEPLoss, lsep_loss, {"scale": 30.0, "margin": 0.35}), (CircleLoss, circle_loss, {"detach_weights": False, "scale": 64.0})])
def test_modules(module, loss, options):
    s, y = data(9, dtype=torch.float32)
    assert torch.equal(module(**options)(s, y), loss(s, y, **options))
    assert all(f"{k}={v}" in repr(module(**options)) for k, v in options.items())
    for bad in ({"scale": 0}, {"margin": math.inf}):
        with pytest.raises(ValueError, match=next(iter(bad))): module(**bad)


@pytest.mark.parametrize("options,kind,words", [
    ({"scale": -1.0}, ValueError, "scale: got -1.0"), ({"scale": math.inf}, ValueError, "scale: got inf"),
    ({"scale": True}, TypeError, "scale: got bool"), ({"margin": -math.inf}, ValueError, "margin: got -inf"),
    ({"margin": torch.tensor(0.2)}, TypeError, "margin: got Tensor")])
@pytest.mark.parametrize("loss,first", [(lsep_loss, "logits"), (circle_loss, "similarity")])
def test_invalid_options(loss, first, options, kind, words):
    with pytest.raises(kind, match=words): loss(**set_call(first), **options)


@pytest.mark.parametrize("value", [None, 0, "no", torch.tensor(True)])
def test_the_switch_takes_a_bool_only(value):
    with pytest.raises(TypeError, match="detach_weights: got"): circle_loss(**set_call("similarity"), detach_weights=value)


def test_the_catalogue_states_the_published_forms():
    names = [(c.name, c.options) for c in claims()]
    assert names == [("lsep_loss", {"scale": 1.0, "margin": 0.0}), ("circle_loss", {"scale": 256.0, "margin": 0.25, "detach_weights": True})]
    assert "detached" in claims()[1].traits and "detached" not in circle_claim(False).traits
    assert replace(claims()[0]).promise == claims()[1].promise
