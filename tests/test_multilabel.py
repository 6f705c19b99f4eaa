"""What only the multi-label losses promise: dense, soft and sparse are one loss, thresholds learn, padding and partial labels leave no trace."""
import itertools
import math

import mpmath
import numpy as np
import pytest
import sympy as sp
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lossbook.audit import audit, make_subject
from lossbook.exact import Enclosure, ulp, ulp_error
from lossbook.multilabel import (
    MultilabelCrossEntropyLoss, SparseMultilabelCrossEntropyLoss, claim_for, claims, multilabel_cross_entropy as dense, reference, spec,
    sparse_multilabel_cross_entropy as sparse,
)
from lossbook.sets import expand_set, set_cases, to_indices

INF = math.inf
NUMBERS = ["value", "gradient", "false zeros", "finite", "infinite logits", "dead gradient", "cap"]
SIZES = {"quick": ((1, 2, 10, 1000, 50257), 20_000, 10)}


def soft(z, y, **how): return dense(z, y.to(z.dtype).requires_grad_(), **how)
def listed(z, y, **how): return sparse(z, to_indices(y), **how)
FORMS = {"dense": dense, "soft": soft, "sparse": listed}


def both(f, z, y, **how):
    z = z.detach().clone().requires_grad_()
    value = f(z, y, reduction="none", **how)
    return value.detach(), torch.autograd.grad(value.sum(), z)[0]


def rows(n=9, count=40, dtype=torch.float64, size=8.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(count, n, generator=g, dtype=torch.float64) * size
    y = torch.rand(count, n, generator=g) < torch.rand(count, 1, generator=g)
    y[0], y[1] = False, True
    return z.to(dtype), y


# numbers

@pytest.mark.parametrize("threshold,listed,dtype", ((0.7, False, "float32"), (-30.0, True, "float32"), (1e4, False, "float32"), (0.7, True, "float64"), (-30.0, False, "float64")))
def test_thresholds_keep_the_promise(threshold, listed, dtype):
    claim = claim_for(threshold, sparse=listed)
    claim.traits["sizes"] = {"quick": ((1, 3, 50), 6000, 10)}
    report = audit(claim, dtypes=[dtype], checks=NUMBERS)
    assert report.passed, report.text()


@pytest.mark.parametrize("how", ({}, {"threshold": 0.7}), ids=str)
def test_dense_soft_and_sparse_are_one_loss(how):
    "Within 2 ulp is promised; float64 inside and one rounding make it the same bits, for every number of classes."
    for name, z, y in set_cases("float32", "quick", sizes=SIZES):
        if len(z) > 5000: z, y = z[::97], y[::97]
        found = {k: both(f, z, y, **how) for k, f in FORMS.items()}
        truth = reference(z.double(), y, torch.tensor(how.get("threshold", 0.0)).item())
        for i, what in enumerate(("value", "gradient")):
            for a, b in itertools.combinations(found, 2):
                assert torch.equal(found[a][i], found[b][i]), (name, what, a, b)
            error = ulp_error(found["dense"][i].flatten(), truth[i].flatten().numpy(), "float32")
            normal = (truth[i].abs() >= 2.0**-126) & (truth[i].abs() < 3e38)
            assert error[normal.flatten().numpy()].max(initial=0) <= 0.51, (name, what)


@pytest.mark.parametrize("dtype", (torch.float64, torch.float16, torch.bfloat16))
def test_the_forms_agree_in_other_dtypes(dtype):
    z, y = rows(dtype=dtype)
    for how in ({}, {"threshold": -1.5}):
        found = [both(f, z, y, **how) for f in FORMS.values()]
        for value, slope in found[1:]:
            for a, b in ((value, found[0][0]), (slope, found[0][1])):
                error = (a - b).double().abs().numpy() / ulp(b.double().numpy(), dtype)
                assert error.max() <= 2


def test_reference_against_enclosures():
    z, y = rows(n=4, count=24, size=20)
    for threshold in (0.0, 0.625):
        values, slopes = reference(z, y, threshold)
        for row, labels, v, g in zip(z.tolist(), y.int().tolist(), values.tolist(), slopes.tolist()):
            written, s = expand_set(spec(), labels, {"theta": threshold})
            assert Enclosure(written, s).error(v, *row, dtype="float32") < 1e-6
            assert all(Enclosure(written.diff(a), s).error(d, *row, dtype="float32") < 1e-6 for a, d in zip(s, g))


@pytest.mark.parametrize("dtype", ("float64", "float32"))
def test_soft_targets_against_enclosures(dtype):
    "Value in ulp; gradients, whose two terms cancel, in ulp of their terms."
    g = torch.Generator().manual_seed(0)
    kind = getattr(torch, dtype)
    for size in (1.0, 10.0, 40.0):
        target = torch.rand(3, generator=g).to(kind)
        target[0] = 0.0 if size == 10 else target[0]
        written, s = expand_set(spec(), target.double().tolist(), {"theta": 0.5})
        names = sp.symbols("y_1:4", real=True)
        general = _general().subs(sp.Symbol("theta", real=True), sp.Rational(1, 2))
        z = (torch.randn(20, 3, generator=g, dtype=torch.float64) * size).to(kind)
        leaf, t = z.clone().requires_grad_(), target.expand(20, 3).clone().requires_grad_()
        value = dense(leaf, t, threshold=0.5, reduction="none")
        slope, in_target = torch.autograd.grad(value.sum(), (leaf, t))
        exact, parts = Enclosure(written, s), [_sides(written, a, s) for a in s]
        in_y = [_sides(general, y, (*s, *names)) for y in names]
        for r in range(20):
            at = z[r].double().tolist()
            assert exact.error(value[r].item(), *at, dtype=dtype) <= (3 if dtype == "float64" else 0.51)
            for got, pair, where in [*((slope[r, i], p, at) for i, p in enumerate(parts)), *((in_target[r, i], p, at + target.double().tolist()) for i, p in enumerate(in_y))]:
                terms = [float(e.decide(*where).mid()) for e in pair]
                room = sum(abs(v) for v in terms)
                if room >= np.finfo(dtype).max: continue
                assert abs(got.item() - sum(terms)) <= (8 if dtype == "float64" else 0.51) * ulp(room, dtype)


def _general():
    from lossbook.symbolic import expand_scores
    return expand_scores(spec().expression, n=3)


def _sides(written, a, symbols):
    return [Enclosure(part.diff(a), symbols) for part in written.args]


def test_many_classes_against_mpmath():
    mpmath.mp.dps = 40
    g = torch.Generator().manual_seed(1)
    for n in (10, 1000):
        z = (torch.randn(n, generator=g) * 30).float()
        y = torch.arange(n) % 7 == 0
        s = [mpmath.mpf(v) for v in z.tolist()]
        N = mpmath.fsum(mpmath.e**v for v, t in zip(s, y.tolist()) if not t)
        P = mpmath.fsum(mpmath.e**-v for v, t in zip(s, y.tolist()) if t)
        value, slope = both(dense, z[None], y[None])
        wanted = [-mpmath.e**-v / (1 + P) if t else mpmath.e**v / (1 + N) for v, t in zip(s, y.tolist())]
        assert ulp_error(value, [float(mpmath.log1p(N) + mpmath.log1p(P))], "float32").max() <= 0.51
        normal = np.abs(np.array(wanted, float)) >= 2.0**-126
        assert ulp_error(slope[0], np.array(wanted, float), "float32")[normal].max() <= 0.51


@pytest.mark.parametrize("n", (1, 2, 10, 1000, 50257))
def test_large_margins(n):
    "Margins to 87 never give 0; errors to ten thousand give a gradient with all its digits."
    y = (torch.arange(n) % 100 == 0)[None]
    for gap in (1.0, 17.0, 20.0, 43.5, 80.0, -100.0, -1e4):
        z = torch.where(y, gap, -gap)
        for f in FORMS.values():
            value, slope = both(f, z, y)
            truth = reference(z.double(), y)
            assert (value > 0).all() and value.isfinite().all() and (slope[truth[1].abs() > 2.0**-126] != 0).all()
            torch.testing.assert_close(slope.double(), truth[1], rtol=2.0**-24, atol=2.0**-140)
            torch.testing.assert_close(value.double(), truth[0], rtol=2.0**-24, atol=0)


def test_subnormal_and_huge_numbers():
    z = torch.tensor([[-3.4e38], [3.4e38], [1e20], [-1e20], [-87.3], [-103.0]])
    for threshold in (0.0, 0.7, -30.0, 3e38):
        for label in (0, 1):
            for f in (dense, listed):
                value, slope = both(f, z, torch.full_like(z, label, dtype=torch.bool), threshold=threshold)
                assert not value.isnan().any() and slope.isfinite().all() and (value >= 0).all()
    wide = torch.tensor([[1e300, -1e300, 1e17]], dtype=torch.float64)
    for y in itertools.product((0, 1), repeat=3):
        value, slope = both(dense, wide, torch.tensor([y]).bool(), threshold=-30.0)
        assert (value >= 0).all() and not value.isnan().any() and slope.isfinite().all()


# infinite scores, NaN, masks

def test_infinite_scores_in_all_forms():
    z = torch.tensor([[1.0, 0.5, -0.25, 2.0]])
    y = torch.tensor([[True, True, False, False]])
    for form, f in FORMS.items():
        for place, value in ((2, -INF), (0, INF)):  # not there; certain
            x = z.clone()
            x[0, place] = value
            loss, slope = both(f, x, y)
            keep = torch.arange(4) != place
            wanted, pull = both(f, z[:, keep], y[:, keep])
            assert torch.equal(loss, wanted) and torch.equal(slope[:, keep], pull) and slope[0, place] == 0, form
        for place, value in ((0, -INF), (2, INF)):  # contradictions
            x = z.clone()
            x[0, place] = value
            loss, slope = both(f, x, y)
            assert loss == INF and slope.isfinite().all(), form


def test_infinite_scores_and_gradients_of_soft_targets():
    z = torch.tensor([[INF, -INF, 0.5]], requires_grad=True)
    t = torch.tensor([[1.0, 0.0, 0.3]], requires_grad=True)
    loss = dense(z, t)
    slope, in_target = torch.autograd.grad(loss, (z, t))
    assert loss.isfinite() and slope.isfinite().all() and (slope[0, :2] == 0).all() and not in_target.isnan().any()


@pytest.mark.parametrize("f", (*FORMS.values(), lambda z, y, **how: dense(z, y * 0.4 + 0.3, **how)))
def test_an_unmasked_nan_gives_nan_and_a_masked_one_nothing(f):
    z, y = rows(n=5, count=6)
    for place in range(5):
        bad = z.clone()
        bad[2, place] = math.nan
        value, slope = both(f, bad, y)
        assert value[2].isnan() and value[[0, 1, 3, 4, 5]].isfinite().all() and slope[[0, 1, 3, 4, 5]].isfinite().all()
        mask = ~bad.isnan()
        value, slope = both(f, bad, y, mask=mask)
        assert value.isfinite().all() and slope.isfinite().all() and slope[2, place] == 0


@pytest.mark.parametrize("form", FORMS)
def test_padding_and_partial_labels(form):
    "A row with gaps is worth what it would be without the classes in the gaps; the mean counts the rows that have a class."
    z, y = rows(n=7, count=30, dtype=torch.float32)
    mask = torch.rand(30, 7, generator=torch.Generator().manual_seed(2)) < 0.6
    mask[3] = False
    junk = torch.where(mask, z, torch.tensor([math.nan, INF, -INF, 1e38, 0, -1e38, 5.0]))
    f = FORMS[form]
    value, slope = both(f, junk, y, mask=mask, threshold=0.3)
    for r in range(30):
        wanted, pull = both(f, z[r, mask[r]], y[r, mask[r]], threshold=0.3)
        assert torch.equal(value[r], wanted) and torch.equal(slope[r, mask[r]], pull)
    assert (slope[~mask] == 0).all() and value[3] == 0
    torch.testing.assert_close(f(junk, y, mask=mask, threshold=0.3), value.sum() / 29)
    assert f(junk, y, mask=torch.zeros(7, dtype=torch.bool)) == 0


def test_masked_soft_targets_get_no_gradient():
    z, t = torch.randn(4, 3, requires_grad=True), torch.rand(4, 3).requires_grad_()
    mask = torch.tensor([True, False, True])
    slope, in_target = torch.autograd.grad(dense(z, t, mask=mask), (z, t))
    assert (slope[:, 1] == 0).all() and (in_target[:, 1] == 0).all() and (in_target[:, 0] != 0).all()


# derivatives

@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", ((), (1,), (5,), (6, 1), (6, 5)), ids=str)
def test_thresholds_have_gradients(form, shape):
    z, y = rows(n=5, count=6, size=2)
    theta = (torch.rand(shape, dtype=torch.float64) - 0.5).requires_grad_()
    mask = torch.rand(6, 5) < 0.8
    mask[1] = torch.arange(5) > 2  # a row whose classes that count all have labels

    def f(z, theta): return FORMS[form](z, y, threshold=theta, mask=mask, reduction="none")
    z.requires_grad_()
    assert torch.autograd.gradcheck(f, (z, theta)) and torch.autograd.gradgradcheck(f, (z, theta))
    lone = torch.autograd.grad(FORMS[form](z.float(), y, threshold=theta.float()), theta)[0]
    assert lone.isfinite().all() and lone.shape == shape


def test_a_threshold_of_another_dtype():
    z, y = rows(n=4, count=5, dtype=torch.bfloat16)
    theta = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    for f in FORMS.values():
        assert torch.equal(f(z, y, threshold=theta), f(z, y, threshold=torch.tensor(0.7)))
        assert torch.autograd.grad(f(z, y, threshold=theta), theta)[0].dtype == torch.float64


def test_a_threshold_that_does_not_see_what_is_masked():
    theta = torch.tensor(0.3, requires_grad=True)
    z, mask = torch.tensor([[-1000.0, 1.0]]), torch.tensor([[True, False]])
    for f in FORMS.values():
        for y in ([[True, False]], [[False, False]]):
            assert torch.autograd.grad(f(z, torch.tensor(y), mask=mask, threshold=theta), theta)[0].isfinite()


def test_gradients_of_soft_targets():
    z, _ = rows(n=4, count=6, size=2)
    z.requires_grad_()
    t = torch.rand(6, 4, dtype=torch.float64) * 0.8 + 0.1
    def f(z, t): return dense(z, t, threshold=0.2, reduction="none")
    assert torch.autograd.gradcheck(f, (z, t.requires_grad_())) and torch.autograd.gradgradcheck(f, (z, t))


def test_gradients_of_soft_targets_at_zero_and_one():
    "At the ends of the interval a difference quotient has one side; the closed form has none."
    z, y = rows(n=6, count=12, size=5)
    t = y.double().requires_grad_()
    (got,) = torch.autograd.grad(dense(z, t, threshold=0.25, reduction="sum"), t)
    u = z - 0.25
    N, P = ((1 - t) * u.exp()).sum(1, keepdim=True), (t * (-u).exp()).sum(1, keepdim=True)
    wanted = ((-u).exp() / (1 + P) - u.exp() / (1 + N)).detach()
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
    eps = 1e-10  # and the derivative is continuous up to the ends: the sums move by no more than eps times e^|u|
    inside = (t.detach() * (1 - 2 * eps) + eps).requires_grad_()
    near = torch.autograd.grad(dense(z, inside, threshold=0.25, reduction="sum"), inside)[0]
    scale = (-u).exp() / (1 + P.detach()) + u.exp() / (1 + N.detach())
    assert ((near - got).abs() <= scale * (4 * eps * u.abs().exp().sum(1, keepdim=True) + 1e-12)).all()


def test_a_target_without_weight_far_above_the_rest():
    "The derivative in a target is e^u, as far as a float64 goes, and disturbs nothing else."
    for far in (300.0, 5000.0):
        z = torch.tensor([[far, -400.0]], dtype=torch.float64, requires_grad=True)
        t = torch.tensor([[1.0, 0.0]], dtype=torch.float64, requires_grad=True)
        loss = dense(z, t)
        slope, in_target = torch.autograd.grad(loss, (z, t))
        assert 0 < loss < 1e-100 and slope.isfinite().all() and in_target[0, 0] < -1e100
        assert in_target[0, 0] == pytest.approx(-math.exp(min(far, 709)), rel=1e-10)


# mathematics

def test_duality_limits_and_bounds():
    z, y = rows(n=8, count=60, size=15)
    for threshold in (0.0, 2.5):
        turned = dense(2 * threshold - z, ~y, threshold=threshold, reduction="none")
        torch.testing.assert_close(turned, dense(z, y, threshold=threshold, reduction="none"), rtol=1e-12, atol=0)
    hinge = torch.where(y, 0.0, z).clamp(min=0).amax(1) + torch.where(y, -z, 0.0).clamp(min=0).amax(1)
    for T in (1e-3, 1e-2, 1.0):
        value = T * dense(z / T, y, reduction="none")
        room = T * ((1 + y.sum(1)).log() + (1 + (~y).sum(1)).log())
        assert (value >= hinge - 1e-12).all() and (value <= hinge + room + 1e-12).all()
    slope = both(dense, z, y)[1]
    assert (slope.abs() < 1).all() and (slope.abs().sum(1) < 2).all() and ((slope < 0) == y).all()


def test_one_class_and_two_classes_are_binary_cross_entropy():
    z = torch.linspace(-30, 30, 101, dtype=torch.float64)[:, None]
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    for label in (0.0, 1.0):
        torch.testing.assert_close(dense(z, torch.full_like(z, label)), bce(z, torch.full_like(z, label)))
    pair, y = torch.cat([z, z.flip(0) * 0.3], 1), torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(101, 2)
    torch.testing.assert_close(dense(pair, y, reduction="none"), bce(pair, y, reduction="none").sum(1))


def test_hessian_is_positive_definite():
    z, y = rows(n=6, count=4, size=1.5)
    for row, labels in zip(z, y):
        hessian = torch.func.hessian(lambda v: dense(v, labels))(row)
        values = torch.linalg.eigvalsh(hessian)
        assert 0 < values[0] and values[-1] < 0.5


# memory, transforms, refusals

class FromIndices(TorchDispatchMode):
    "The largest tensor that is made without a score, such as a dense target."

    def __init__(self, logits):
        super().__init__()
        self.scores, self.kept, self.largest = {id(logits)}, [logits], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = [a for a in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(a, torch.Tensor)]
        made = [o for o in torch.utils._pytree.tree_leaves(out) if isinstance(o, torch.Tensor)]
        self.kept += made  # so that no id is used twice
        for o in made:
            if any(id(a) in self.scores for a in given): self.scores.add(id(o))
            else: self.largest = max(self.largest, o.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize("how", ({}, {"threshold": 0.5}, {"threshold": torch.zeros(())}), ids=("plain", "number", "tensor"))
def test_the_sparse_form_makes_no_dense_target(how):
    z, index = torch.randn(16, 5000, requires_grad=True), torch.randperm(5000)[:48].reshape(16, 3).clone()
    with FromIndices(z) as seen: sparse(z, index, **how)
    assert 0 < seen.largest <= 16 * 4 * 8  # the class numbers and one more column, in int64
    y = torch.zeros(16, 5000).scatter(1, index, 1.0)
    with FromIndices(z) as seen: dense(z, y)
    assert seen.largest >= 16 * 5000


@pytest.mark.parametrize("form", ("dense", "soft", "sparse"))
def test_compiled(form):
    z, y = rows(n=6, count=5, dtype=torch.float32)
    target = {"dense": y, "soft": torch.rand(5, 6), "sparse": to_indices(y)}[form]
    f = sparse if form == "sparse" else dense
    mask, theta = torch.rand(5, 6) < 0.8, torch.zeros(6, requires_grad=True)
    torch._dynamo.reset()
    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    for how in ({}, {"threshold": 0.3}, {"threshold": theta, "mask": mask, "weight": torch.rand(5)}):
        a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
        one, other = compiled(a, target, **how), f(b, target, **how)
        torch.testing.assert_close(one, other, rtol=2e-6, atol=0)
        torch.testing.assert_close(torch.autograd.grad(one, a), torch.autograd.grad(other, b), rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize("form", ("dense", "soft", "sparse"))
def test_vmap(form):
    z, y = rows(n=6, count=5)
    target = {"dense": y, "soft": torch.rand(5, 6, dtype=torch.float64), "sparse": to_indices(y)}[form]
    f, mask, theta = sparse if form == "sparse" else dense, torch.rand(5, 6) < 0.8, torch.randn(5, dtype=torch.float64)

    def one(z, t, m, theta): return f(z, t, mask=m, threshold=theta)
    got = torch.vmap(torch.func.grad(one, argnums=(0, 3)))(z, target, mask, theta)
    for r in range(5):
        wanted = torch.func.grad(one, argnums=(0, 3))(z[r], target[r], mask[r], theta[r])
        for a, b in zip(got, wanted): torch.testing.assert_close(a[r], b, rtol=1e-12, atol=1e-15)
    shared = torch.vmap(lambda t: f(z[0], t))(target)
    torch.testing.assert_close(shared, torch.stack([f(z[0], t) for t in target]), rtol=1e-12, atol=0)


def test_shapes_and_paddings_of_indices():
    z, y = rows(n=6, count=12)
    index, wanted = to_indices(y), dense(z, y, reduction="none")
    for other in (index, index.flip(1), index.int(), torch.where(index < 0, 6, index), torch.cat([index, index * 0 - 1], 1)):
        padding = 6 if (other == 6).any() else -1
        assert torch.equal(sparse(z, other, padding_index=padding, reduction="none"), wanted)
    byte = torch.where(index < 0, 255, index).to(torch.uint8)
    assert torch.equal(sparse(z, byte, padding_index=255, reduction="none"), wanted)
    assert torch.equal(sparse(z.reshape(3, 4, 6), index.reshape(3, 4, 6), reduction="none"), wanted.reshape(3, 4))
    assert torch.equal(sparse(z[5], index[5]), wanted[5]) and torch.equal(dense(z[5], y[5]), wanted[5])
    none = torch.zeros(12, 0, dtype=torch.int64)
    value, slope = both(lambda v, _, **how: sparse(v, none, **how), z, y)
    again = both(dense, z, torch.zeros_like(y))
    assert torch.equal(value, again[0]) and torch.equal(slope, again[1])


def test_nothing_to_count():
    for f, target in ((dense, torch.zeros(3, 0)), (sparse, torch.full((3, 2), -1))):
        z = torch.zeros(3, 0, requires_grad=True)
        assert f(z, target).item() == 0 and f(z, target, reduction="none").tolist() == [0, 0, 0]
    z = torch.zeros(0, 4, requires_grad=True)
    assert dense(z, torch.zeros(0, 4)) == 0 and sparse(z, torch.zeros(0, 2, dtype=torch.int64)) == 0


@pytest.mark.parametrize("claim,what,call,kind,words", [(c, *r) for c in claims() for r in c.refuses], ids=[f"{c.name[:6]}-{r[0]}" for c in claims() for r in c.refuses])
def test_refused(claim, what, call, kind, words):
    with pytest.raises(kind) as error: claim.loss(**call)
    assert words in str(error.value)


def test_an_unchecked_class_number_is_not_taken_for_padding():
    "Where values cannot be read, the number n must not pass silently."
    def one(z, i): return sparse(z, i)
    got = torch.vmap(one)(torch.zeros(2, 3), torch.tensor([[0, 3], [0, -1]]))
    assert got[0].isnan() and got[1].isfinite()


def test_modules():
    z, y = rows(n=4, count=3, dtype=torch.float32)
    assert torch.equal(MultilabelCrossEntropyLoss(threshold=0.5)(z, y), dense(z, y, threshold=0.5))
    module = SparseMultilabelCrossEntropyLoss(padding_index=9, reduction="sum")
    assert repr(module) == "SparseMultilabelCrossEntropyLoss(padding_index=9, reduction='sum')"
    index = to_indices(y, 9)
    assert torch.equal(module(z, index, mask=y), sparse(z, index, padding_index=9, mask=y, reduction="sum"))
    with pytest.raises(ValueError, match="padding_index: got 0"): SparseMultilabelCrossEntropyLoss(padding_index=0)
    with pytest.raises(TypeError, match="threshold: got str"): MultilabelCrossEntropyLoss(threshold="0")


def test_laws_hold():
    g = torch.Generator().manual_seed(0)
    for claim in (*claims(), claim_for(0.7), claim_for(-30.0, sparse=True)):
        f = make_subject(claim)
        for size in (0.1, 5.0, 300.0):
            a, b = torch.randn(2, 40, 9, generator=g, dtype=torch.float64) * size
            y = torch.rand(40, 9, generator=g) < 0.4
            for name, law in claim.laws.items(): law(f, a, b, y)


@pytest.mark.parametrize("f", (dense, listed))
def test_compiled_losses_keep_the_promise(f):
    z, y = rows(n=10, count=3000, dtype=torch.float32, size=20)
    compiled = torch.compile(lambda z, y: f(z, y, threshold=0.5, reduction="none"), fullgraph=True)
    found = both(lambda z, y, **_: compiled(z, y), z, y)
    for got, truth in zip(found, reference(z.double(), y, 0.5)):
        normal = (truth.abs() >= 2.0**-126).flatten().numpy()
        assert ulp_error(got.flatten(), truth.flatten().numpy(), "float32")[normal].max() <= 0.51


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda():
    z, y = rows(n=50, count=200, dtype=torch.float32)
    for f in FORMS.values():
        here, there = both(f, z, y), both(f, z.cuda(), y.cuda())
        for a, b in zip(here, there): assert ulp_error(b.flatten(), a.flatten().double().numpy(), "float32").max() <= 1
