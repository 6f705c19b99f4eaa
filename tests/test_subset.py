"""Subset softmax against lists of all subsets, against balls, and in all the ways it can be called."""
import math
from dataclasses import replace
from functools import partial
from itertools import combinations

import flint
import pytest
import torch
from torch.testing import assert_close

import lossbook.sets  # noqa: F401  (registers the kind)
from lossbook.audit import make_subject
from lossbook import bounded as bounded_page, subset_softmax as page
from lossbook.bounded import BoundedSubsetSoftmaxLoss, bounded_subset_softmax_loss
from lossbook.cross_entropy import cross_entropy
from lossbook.sets import enclosures
from lossbook.subset_softmax import (
    SubsetSoftmaxLoss,
    inclusion_probabilities,
    reference,
    subset_softmax_loss,
    top_labels,
)

INF = float("inf")
NEAR = dict(rtol=1e-11, atol=1e-13)
subset = partial(subset_softmax_loss, reduction="none")
bounded = partial(bounded_subset_softmax_loss, reduction="none")


def random_rows(n, rows=3, size=3.0, seed=0, dtype=torch.float64):
    return torch.randn(rows, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).mul(size).to(dtype)


def members(n, k):
    "All sets of k of n classes, as rows of zeros and ones."
    rows = list(combinations(range(n), k))
    return torch.zeros(len(rows), n, dtype=torch.bool).scatter(1, torch.tensor(rows, dtype=torch.int64).reshape(len(rows), k), True)


# -- against all subsets ------------------------------------------------------

@pytest.mark.parametrize("n", range(1, 13))
def test_every_k_against_the_list_of_all_subsets(n):
    s = random_rows(n, seed=n)
    sums = {k: s @ members(n, k).double().T for k in range(n + 1)}
    log_Z = torch.stack([torch.logsumexp(v, 1) for v in sums.values()], 1)
    for k in range(n + 1):
        p = torch.softmax(sums[k], 1) @ members(n, k).double()
        assert_close(inclusion_probabilities(s, k), p, **NEAR)
        for y in (top_labels(s, k), top_labels(-s, k)):
            own = (s * y).sum(1)
            assert_close(subset(s, y), log_Z[:, k] - own, rtol=1e-11, atol=1e-12)
            for K in range(max(k, 1), n + 1):
                assert_close(bounded(s, y, max_labels=K), torch.logsumexp(log_Z[:, : K + 1], 1) - own, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", (torch.float64, torch.float32))
def test_against_balls_for_many_classes(dtype):
    "Value and gradient of the reference and of the loss; the classes are those of a row with 3 labels far behind and 17 ahead."
    s = random_rows(200, 4, 10, dtype=dtype)
    y = top_labels(s, 17) | top_labels(-s, 3)
    y[3] = top_labels(s[3], 20)
    s[3] += 20 * y[3]
    value, gradient = reference(s.double(), y)
    z = s.clone().requires_grad_()
    got = subset(z, y)
    (slope,) = torch.autograd.grad(got.sum(), z)
    old, flint.ctx.prec = flint.ctx.prec, 2000
    try:
        for r, (row, labels) in enumerate(zip(s.tolist(), y)):
            w, k = [flint.arb(v).exp() for v in row], int(labels.sum())
            E = [flint.arb(1)] + [flint.arb(0)] * k
            for v in w:
                for j in range(k, 0, -1): E[j] += v * E[j - 1]
            own = flint.arb(1)
            for i in labels.nonzero()[:, 0].tolist(): own *= w[i]
            truth = (E[k] / own).log()
            assert abs(flint.arb(value[r].item()) / truth - 1) < 1e-12
            assert abs(flint.arb(got[r].item()) / truth - 1) < (1e-14 if dtype == torch.float64 else 6e-8)
            for i in range(0, 200, 7):
                without = [flint.arb(1)]  # e_j of all classes but i, by division
                for j in range(1, k): without.append(E[j] - w[i] * without[j - 1])
                pull = w[i] * without[k - 1] / E[k] - int(labels[i])
                assert abs(flint.arb(gradient[r, i].item()) / pull - 1) < 1e-11
                if abs(float(pull.mid())) > 1e-37: assert abs(flint.arb(slope[r, i].item()) / pull - 1) < (1e-12 if dtype == torch.float64 else 6e-8)
    finally:
        flint.ctx.prec = old


@pytest.mark.parametrize("x", (-1e3, -9.02479144e15, -3e38))
@pytest.mark.parametrize("dtype", (torch.float64, torch.float32))
def test_what_an_excluded_pair_loses_does_not_enter_the_sum(x, dtype):
    "With at most one label, class 0 may only come in place of class 1. Its score less the threshold is rounded; that is nobody's business."
    z, y = torch.tensor([[x, 0.0]], dtype=dtype, requires_grad=True), torch.tensor([[False, True]])
    loss = lossbook.bounded_subset_softmax_loss(z, y, max_labels=1, threshold=-1.0)
    (slope,) = torch.autograd.grad(loss, z)
    assert math.isclose(loss.item(), math.log1p(math.exp(-1)), rel_tol=1e-7 if dtype == torch.float32 else 1e-15)
    assert slope[0, 0] == 0 and math.isclose(slope[0, 1].item(), -1 / (1 + math.e), rel_tol=1e-7)
    value, gradient = bounded_page.reference(z.detach().double(), y, K=1, theta=-1.0)
    assert math.isclose(value.item(), loss.item(), rel_tol=1e-7) and torch.allclose(gradient, slope.double(), rtol=1e-7)


@pytest.mark.parametrize("claim", [*page.claims(), *bounded_page.claims()], ids=lambda c: c.name)
@pytest.mark.parametrize("pattern", ((1, 0, 0), (1, 1, 0), (1, 1, 0, 0)), ids=str)
def test_the_reference_against_enclosures(claim, pattern):
    value, slopes = enclosures(make_subject(claim), pattern)
    rows = torch.cat([random_rows(len(pattern), 4, size, seed=1) for size in (1, 10, 60)])
    got, gradient = claim.reference(rows, torch.tensor(pattern, dtype=torch.bool).expand(len(rows), -1))
    for x, v, g in zip(rows.tolist(), got.tolist(), gradient.tolist()):
        assert value.error(v, *x, dtype="float32") < 1e-3
        assert max(e.error(d, *x, dtype="float32") for e, d in zip(slopes, g)) < 1e-3


@pytest.mark.parametrize("K", (1, 2, 3))
@pytest.mark.parametrize("theta", (0.0, 0.375, -20.5))
def test_bounded_in_float64_against_enclosures_where_the_bound_counts(K, theta):
    (claim,) = bounded_page.claims()
    subject = make_subject(replace(claim, options={"max_labels": K, "threshold": theta}, parameters={"K": K, "theta": theta}, reference=lambda a, y: bounded_page.reference(a, y, K, theta)))
    for k in range(K + 1):
        pattern = tuple(int(i < k) for i in range(4))
        value, slopes = enclosures(subject, pattern)
        rows = torch.cat([random_rows(4, 5, size, seed=K) for size in (1, 5, 20)])
        labels = torch.tensor(pattern, dtype=torch.bool).expand(len(rows), -1)
        for got, gradient, room in ((*subject.run(rows, labels), 8), (*subject.reference(rows, labels), 1e4)):
            for x, v, g in zip(rows.tolist(), got.tolist(), gradient.tolist()):
                assert value.error(v, *x) <= room and max(e.error(d, *x) for e, d in zip(slopes, g)) <= room


# -- identities ---------------------------------------------------------------

def test_one_label_is_cross_entropy():
    for dtype in (torch.float32, torch.float64):
        s = random_rows(30, 200, 8, dtype=dtype)
        t = torch.randint(0, 30, (200,), generator=torch.Generator().manual_seed(0))
        y = torch.nn.functional.one_hot(t, 30)
        eps = torch.finfo(dtype).eps
        assert_close(subset(s, y), cross_entropy(s, t, reduction="none"), rtol=4 * eps, atol=0)
        assert_close(inclusion_probabilities(s, 1), torch.softmax(s.double(), 1).to(dtype), rtol=32 * eps, atol=torch.finfo(dtype).tiny)


def test_no_label_and_all_labels_cost_nothing():
    for n in (0, 1, 4):
        s = random_rows(n).requires_grad_()
        for y in (torch.zeros(3, n, dtype=torch.bool), torch.ones(3, n, dtype=torch.bool)):
            value = subset(s, y)
            (slope,) = torch.autograd.grad(value.sum(), s)
            assert value.eq(0).all() and slope.eq(0).all()


def test_duality():
    s = random_rows(40, 6, 10)
    for k in (1, 7, 20, 39):
        y = top_labels(random_rows(40, 6, seed=k), k)
        assert_close(subset(s, y), subset(-s, ~y), **NEAR)
        p, q = inclusion_probabilities(s, k), inclusion_probabilities(-s, 40 - k)
        assert_close(p + q, torch.ones_like(p), rtol=1e-12, atol=0)
        assert p.min() > 0 and q.min() > 0


def test_order_of_the_classes_does_not_matter():
    s, order = random_rows(30, 5, 10), torch.randperm(30, generator=torch.Generator().manual_seed(0))
    y = top_labels(random_rows(30, 5, seed=1), 6)
    assert_close(subset(s[:, order], y[:, order]), subset(s, y), **NEAR)
    assert_close(bounded(s[:, order], y[:, order], max_labels=8), bounded(s, y, max_labels=8), **NEAR)
    assert_close(inclusion_probabilities(s[:, order], 6), inclusion_probabilities(s, 6)[:, order], **NEAR)
    tied = torch.zeros(2, 9, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(subset(tied, top_labels(tied, 3)).sum(), tied)
    assert_close(slope[0], torch.tensor([-2 / 3] * 3 + [1 / 3] * 6, dtype=torch.float64))


def test_rows_with_different_numbers_of_labels():
    s = random_rows(9, 10, 5)
    k = torch.arange(10)
    y = top_labels(s, k)
    assert y.sum(1).tolist() == list(range(10))
    assert_close(subset(s, y), torch.stack([subset(s[i], y[i]) for i in range(10)]), **NEAR)
    assert_close(inclusion_probabilities(s, k), torch.stack([inclusion_probabilities(s[i], i) for i in range(10)]), **NEAR)


def test_without_a_bound_it_is_the_sum_of_binary_losses():
    s, theta = random_rows(12, 20, 20), torch.linspace(-1, 1, 12, dtype=torch.float64)
    y = random_rows(12, 20, seed=1) > 0
    wanted = torch.nn.functional.softplus(torch.where(y, theta - s, s - theta), threshold=1e9).sum(1)
    for K in (12, 13, 1000):
        assert_close(bounded(s, y, max_labels=K, threshold=theta), wanted, rtol=1e-13, atol=1e-300)


# -- infinities, masks, bad numbers ------------------------------------------

def test_absent_and_certain_classes_are_as_if_removed():
    s, y = random_rows(8, 4, 5), top_labels(random_rows(8, 4, seed=2), 3)
    extra = torch.tensor([-INF, INF], dtype=torch.float64).expand(4, 2)
    more, labels = torch.cat([s, extra], 1).requires_grad_(), torch.cat([y, torch.tensor([[False, True]]).expand(4, 2)], 1)
    for loss, kept in ((subset, subset), (partial(bounded, max_labels=5), partial(bounded, max_labels=4))):
        value = loss(more, labels)
        (slope,) = torch.autograd.grad(value.sum(), more)
        assert_close(value, kept(s, y), **NEAR)
        assert slope[:, 8:].eq(0).all() and slope.isfinite().all()
    p = inclusion_probabilities(more, 4)
    assert p[:, 8].eq(0).all() and p[:, 9].eq(1).all()
    assert_close(p[:, :8], inclusion_probabilities(s, 3), **NEAR)


def test_masked_classes_are_not_there():
    s, y = random_rows(8, 4, 5), top_labels(random_rows(8, 4, seed=2), 3)
    wide = torch.cat([s, torch.tensor([[torch.nan, INF]], dtype=torch.float64).expand(4, 2)], 1).requires_grad_()
    labels, mask = torch.cat([y, torch.ones(4, 2, dtype=torch.bool)], 1), torch.tensor([True] * 8 + [False] * 2)
    for loss in (subset, partial(bounded, max_labels=4), partial(bounded, max_labels=10)):
        value = loss(wide, labels, mask=mask)
        (slope,) = torch.autograd.grad(value.sum(), wide)
        assert_close(value, loss(s, y), **NEAR)
        assert slope[:, 8:].eq(0).all() and slope.isfinite().all()
    assert subset_softmax_loss(wide, labels, mask=torch.zeros_like(mask)) == 0


CASES = [  # scores, labels, subset loss, bounded loss with K = 2; None: finite
    ([-INF, 1.0, 0.0], [1, 0, 0], INF, INF),
    ([1.0, INF, 0.0], [1, 0, 0], INF, INF),
    ([-INF, INF, 0.0], [1, 0, 0], INF, INF),
    ([-INF, 0.0, 0.0], [1, 1, 1], 0.0, None),
    ([INF, 1.0, INF], [0, 0, 0], 0.0, INF),
    ([-INF, -INF, -INF], [1, 0, 0], torch.nan, INF),
    ([INF, INF, 0.0], [1, 0, 0], torch.nan, INF),
    ([INF, INF, INF], [1, 1, 0], torch.nan, torch.nan),
    ([-INF, -INF, 0.0], [1, 0, 0], INF, INF),
    ([torch.nan, 0.0, 0.0], [1, 0, 0], torch.nan, torch.nan),
    ([0.0, torch.nan, 0.0], [0, 0, 0], torch.nan, torch.nan),
]


@pytest.mark.parametrize("dtype", (torch.float64, torch.float32, torch.bfloat16))
@pytest.mark.parametrize("scores,labels,wanted,with_bound", CASES, ids=[str(c[:2]) for c in CASES])
def test_infinities_and_nan(scores, labels, wanted, with_bound, dtype):
    y = torch.tensor([labels], dtype=torch.bool)
    for loss, value in ((subset, wanted), (partial(bounded, max_labels=2), with_bound)):
        if value is None: continue
        s = torch.tensor([scores], dtype=dtype, requires_grad=True)
        got = loss(s, y)
        assert_close(got, torch.tensor([value], dtype=dtype), equal_nan=True, rtol=0, atol=0)
        (slope,) = torch.autograd.grad(got.sum(), s)
        assert value != value or not slope.isnan().any()


def test_a_bad_row_does_not_touch_the_others():
    s = torch.cat([torch.tensor([[torch.nan, 0, 0, 0], [-INF, 0, 0, 0]]), random_rows(4, dtype=torch.float32)]).requires_grad_()
    y = torch.tensor([[True, False, False, False]]).expand(5, 4)
    value = subset(s, y)
    (slope,) = torch.autograd.grad(value.sum(), s)
    assert_close(value[2:], subset(s[2:], y[2:]))
    assert slope[1:].isfinite().all() and slope[2:].ne(0).all()
    kept = torch.autograd.grad(subset(s, y, weight=torch.tensor([1.0, 0.0, 1, 1, 1]))[1], s)[0]
    assert kept.isfinite().all()


def test_inclusion_probabilities_that_do_not_exist():
    s = torch.tensor([[INF, INF, 0.0], [-INF, -INF, 0.0], [torch.nan, 1.0, 2.0], [0.0, 1.0, 2.0]])
    assert inclusion_probabilities(s, 1).isnan().all(1).tolist() == [True, False, True, False]
    assert inclusion_probabilities(s, 2).isnan().all(1).tolist() == [False, True, True, False]
    assert inclusion_probabilities(s[0], 2).tolist() == [1, 1, 0] and inclusion_probabilities(s[1], 1).tolist() == [0, 0, 1]


def test_huge_scores_and_many_sets():
    s = torch.tensor([[0.0, -1e30, 1e30 / 3, 1e30, 7e29]], requires_grad=True)
    (slope,) = torch.autograd.grad(subset(s, torch.tensor([[1, 1, 0, 0, 0]])).sum(), s)
    assert slope.tolist() == [[-1.0, -1.0, 0.0, 1.0, 1.0]]
    equal = torch.zeros(1, 3000, dtype=torch.float64, requires_grad=True)
    y = torch.arange(3000)[None] < 150
    value = subset(equal, y)
    (slope,) = torch.autograd.grad(value.sum(), equal)
    wanted = math.lgamma(3001) - math.lgamma(151) - math.lgamma(2851)  # e^592 sets
    assert abs(value.item() / wanted - 1) < 1e-12
    assert_close(slope, 0.05 - y.double(), rtol=1e-9, atol=0)
    assert subset(equal.detach(), torch.arange(3000)[None] < 700).isnan()  # beyond e^1300 on one side: no wrong number


# -- max_labels, transforms, modules -----------------------------------------

def test_max_labels_where_it_can_and_cannot_be_read():
    s, y = random_rows(20), top_labels(random_rows(20, seed=1), 4)
    assert_close(subset(s, y, max_labels=4), subset(s, y), rtol=0, atol=0)
    assert_close(subset(s, y, max_labels=100), subset(s, y), rtol=0, atol=0)
    with pytest.raises(ValueError, match="target: got a row with 4 labels, expected at most max_labels=3"): subset(s, y, max_labels=3)
    for loss in (subset, bounded):
        right = torch.vmap(partial(loss, max_labels=4))(s, y)
        assert_close(right, loss(s, y, max_labels=4), **NEAR)
        assert torch.vmap(partial(loss, max_labels=3))(s, y).isnan().all()


@pytest.mark.parametrize("loss", (subset, partial(bounded, max_labels=4, threshold=0.3)), ids=("subset", "bounded"))
def test_transforms(loss):
    s, y = random_rows(6, 5), top_labels(random_rows(6, 5, seed=1), torch.arange(5))
    z = s.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(z, y).sum(), z)
    assert_close(torch.vmap(torch.func.grad(lambda a, b: loss(a, b)))(s, y), slope, **NEAR)
    forward = torch.func.jacfwd(lambda a: loss(a, y).sum())(s)
    assert_close(forward, slope, **NEAR)
    compiled = torch.compile(lambda a, b: loss(a, b), fullgraph=True, backend="aot_eager")
    assert_close(torch.autograd.grad(compiled(z, y).sum(), z)[0], slope, **NEAR)
    assert torch.autograd.gradgradcheck(lambda a: loss(a, y[3:]), z[3:])


def test_gradients_of_compiled_code():
    "The default backend once fused the rows of a gradient into one: the classes must be many, and so the rows."
    s, y = random_rows(40, 64, 8, dtype=torch.float32).requires_grad_(), top_labels(random_rows(40, 64, seed=1), torch.arange(64) % 3)
    f = partial(subset, max_labels=2)
    wanted = torch.autograd.grad(f(s, y).sum(), s)[0]
    got = torch.autograd.grad(torch.compile(f, fullgraph=True)(s, y).sum(), s)[0]
    assert_close(got, wanted, rtol=1e-6, atol=1e-30)


def test_the_threshold_is_differentiable():
    s, y = random_rows(6, 4), top_labels(random_rows(6, 4, seed=1), torch.arange(4))
    for shape in ((), (6,), (4, 1)):
        theta = torch.full(shape, 0.3, dtype=torch.float64, requires_grad=True)
        for K in (3, 5, 6): assert torch.autograd.gradcheck(lambda t: bounded(s, y, max_labels=K, threshold=t), theta)
    assert_close(bounded(s, y, max_labels=3, threshold=0.3), bounded(s - 0.3, y, max_labels=3), **NEAR)


def test_inclusion_probabilities_in_every_mode():
    s = random_rows(6, 4, 2)
    p = inclusion_probabilities(s, 2)
    with torch.no_grad(): assert_close(inclusion_probabilities(s, 2), p)
    with torch.inference_mode(): assert_close(inclusion_probabilities(s, 2), p)
    f = partial(inclusion_probabilities, k=2)
    assert_close(torch.vmap(f)(s), p, **NEAR)
    assert_close(torch.vmap(inclusion_probabilities)(s, torch.full((4,), 2)), p, **NEAR)
    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    z = s.clone().requires_grad_()
    assert_close(compiled(z), p, **NEAR)
    assert torch.autograd.gradcheck(f, z) and torch.autograd.gradgradcheck(f, z)
    jac = torch.func.jacfwd(f)(s[0])
    assert_close(jac, jac.T, **NEAR)
    assert_close(jac.diagonal(), p[0] * (1 - p[0]), **NEAR)
    assert_close(torch.func.hessian(lambda a: subset(a, top_labels(a, 2)))(s[0]), jac, **NEAR)
    assert_close(torch.autograd.grad(compiled(z)[:, 0].sum(), z)[0], torch.autograd.grad(f(z)[:, 0].sum(), z)[0], **NEAR)


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16, torch.float32))
def test_dtypes_of_the_tools(dtype):
    s = random_rows(6, 4, 2, dtype=dtype)
    p = inclusion_probabilities(s, 3)
    assert p.dtype == dtype and torch.equal(p, inclusion_probabilities(s.double(), 3).to(dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16): assert inclusion_probabilities(s, 3).dtype == torch.float32


def test_top_labels():
    s = torch.tensor([[0.5, 3.0, 3.0, -1.0], [-INF, -INF, 2.0, INF]])
    assert top_labels(s, 1).int().tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]
    assert top_labels(s, 3).int().tolist() == [[1, 1, 1, 0], [0, 0, 1, 1]]
    assert top_labels(s, torch.tensor([0, 2])).int().tolist() == [[0, 0, 0, 0], [0, 0, 1, 1]]
    assert top_labels(s, 4, threshold=0.5).int().tolist() == [[0, 1, 1, 0], [0, 0, 1, 1]]
    assert top_labels(s, 4, threshold=torch.tensor([[0.0], [5.0]])).int().tolist() == [[1, 1, 1, 0], [0, 0, 0, 1]]
    assert_close(torch.vmap(lambda a: top_labels(a, 2))(s), top_labels(s, 2))
    assert_close(torch.compile(lambda a: top_labels(a, 2), fullgraph=True, backend="aot_eager")(s), top_labels(s, 2))
    for bad, kind, words in ((5, ValueError, r"k: got 5, expected an integer in \[0, 4\]"), (-1, ValueError, "k: got -1"), (1.0, TypeError, "k: got float"),
                             (True, TypeError, "k: got bool"), (torch.tensor([1.0, 2]), TypeError, "k: got dtype"), (torch.tensor([1, 7]), ValueError, "k: got the value 7"),
                             (torch.tensor([1, 2, 3]), ValueError, r"k: got shape \(3,\)")):
        for tool in (top_labels, inclusion_probabilities):
            with pytest.raises(kind, match=words): tool(s, bad)
    with pytest.raises(ValueError, match="logits: got the value nan"): top_labels(s * torch.nan, 1)


@pytest.mark.parametrize("K,theta", ((1, 0.0), (2, 0.4), (4, -1.0), (6, 0.0)))
def test_top_labels_is_the_most_probable_set(K, theta):
    s = random_rows(6, 5)
    for row in s:
        cost = {T: bounded(row, torch.tensor([i in T for i in range(6)]), max_labels=K, threshold=theta).item() for m in range(K + 1) for T in combinations(range(6), m)}
        assert set(min(cost, key=cost.get)) == set(top_labels(row, K, threshold=theta).nonzero()[:, 0].tolist())


def test_modules():
    s, y = random_rows(6, 4), top_labels(random_rows(6, 4, seed=1), 2)
    assert torch.equal(SubsetSoftmaxLoss(max_labels=2)(s, y), subset_softmax_loss(s, y))
    module = BoundedSubsetSoftmaxLoss(max_labels=3, threshold=torch.tensor(0.25), reduction="sum")
    assert torch.equal(module(s, y), bounded_subset_softmax_loss(s, y, max_labels=3, threshold=0.25, reduction="sum"))
    assert "threshold" in module.state_dict() and "max_labels=3" in repr(module)
    with pytest.raises(TypeError, match="max_labels"): BoundedSubsetSoftmaxLoss()


# -- how exact ----------------------------------------------------------------

def test_no_false_zero_and_tiny_probabilities_in_float32():
    row = torch.tensor([[25.0, 25.0, 0.0, 0.0, 0.0]])
    y = row > 1
    truth = subset(row.double(), y).item()
    assert 8.3e-11 < truth < 8.4e-11 and abs(subset(row, y).item() / truth - 1) < 1e-7
    s = torch.tensor([40.0, 30.0, 0.0, -45.0])
    p, out = inclusion_probabilities(s, 2), inclusion_probabilities(-s, 2)
    wide = inclusion_probabilities(s.double(), 2)
    assert_close(p.double(), wide, rtol=1e-7, atol=0)
    assert abs(p[3].item() / (math.exp(-75) + math.exp(-85)) - 1) < 1e-7 and abs(out[1].item() / math.exp(-30) - 1) < 1e-7
