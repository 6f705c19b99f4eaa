"""The two sums that every loss of sets is made of, and the arguments that they share."""
import math
from fractions import Fraction

import pytest
import sympy as sp
import torch

from lossbook.exact import Enclosure
from lossbook.two_sums import check_labels, log1p_sum, one_sum, prepare_sets, reduce_sets, shifted, two_sums

INF, NAN = math.inf, math.nan
SCORES = sp.symbols("a b c", real=True)
T = sp.Symbol("t", real=True)
VALUE = sp.log(1 + sum(sp.exp(v) for v in SCORES))
ROWS = ((0.0, 0.0, 0.0), (-1e4, -1e4, -1e4), (1e4, 1e4, 1e4), (1e4, 9999.5, -1e4), (-80.0, -81.0, -79.5), (-744.5, -740.0, -743.0),
        (-101.0, -102.5, -103.0), (1e-3, -1e-3, 0.0), (88.7, 88.0, -88.0), (709.5, 709.0, 1.0), (-17.0, -16.0, -36.5), (20.0, 0.1, -20.0), (1e-40, -1e-40, 5e-324))
DTYPES = (torch.float32, torch.float64)


def everything(x): return torch.ones_like(x, dtype=torch.bool)


def value_of(x, rest=0.0): return log1p_sum(*one_sum(x, everything(x), rest))


def name(dtype): return str(dtype).split(".")[-1]


def rows(dtype, values=ROWS, size=0):
    "The rows in a dtype, and random ones of several sizes."
    generator = torch.Generator().manual_seed(0)
    random = [torch.randn(40, 3, generator=generator, dtype=torch.float64) * s for s in (1, 10, 100, 3000)]
    return torch.cat([torch.tensor(values, dtype=torch.float64), *random]).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_value_and_gradient_against_enclosures(dtype):
    """A term is within an ulp, which can be two ulp of the sum; the logarithm does not enlarge a relative error, and
    the last rounding adds half an ulp. The gradient is a quotient of two such numbers, so its bound is twice that of a term and
    the rounding."""
    x = rows(dtype).requires_grad_()
    value = value_of(x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    exact = Enclosure(VALUE, SCORES, max_bits=1 << 16)
    slopes = [Enclosure(1 / sum((sp.exp(v - u) for v in SCORES), sp.exp(-u)), SCORES) for u in SCORES]
    for row, v, g in zip(x.tolist(), value.to(dtype).tolist(), slope.tolist()):
        assert exact.error(v, *row, dtype=name(dtype)) <= 2.5, row
        assert max(e.error(d, *row, dtype=name(dtype)) for e, d in zip(slopes, g)) <= 4.5, row


def test_subnormal_results_are_not_zero():
    "The smallest float32, and a float64 within one unit: `torch.log1p` itself loses a unit there."
    assert value_of(torch.tensor([[-103.0]])).float().item() == 2.0**-149
    value = value_of(torch.tensor([[-740.0]], dtype=torch.float64)).item()
    assert Enclosure(sp.log(1 + sp.exp(T)), (T,)).error(value, -740.0) <= 1.5 and value > 0
    assert value_of(torch.tensor([[-1e4, -INF]])).item() == 0


def test_many_small_terms_beside_the_largest():
    u = torch.full((100_001,), -18.0)
    u[0] = 0.0
    m, S = one_sum(u, everything(u))
    assert m == 0 and abs((S.item() - 1) / (1e5 * math.exp(-18)) - 1) < 2e-7


def test_empty_groups_and_no_classes():
    for x in (torch.randn(3, 4), torch.zeros(3, 0)):
        m, S = one_sum(x, torch.zeros_like(x, dtype=torch.bool))
        assert m.tolist() == [-INF] * 3 and S.tolist() == [0] * 3 and log1p_sum(m, S).tolist() == [0] * 3
    x = torch.full((2, 3), -INF, requires_grad=True)
    value = value_of(x)
    assert value.tolist() == [0, 0] and torch.autograd.grad(value.sum(), x)[0].eq(0).all()


def test_infinite_exponents():
    x = torch.tensor([[INF, 0.0], [INF, INF], [INF, -INF]], requires_grad=True)
    value = value_of(x)
    assert value.eq(INF).all() and torch.autograd.grad(value.sum(), x)[0].isfinite().all()


def test_nan_in_a_group_only():
    y = torch.tensor([False, True])
    for at in (0, 1):
        x = torch.zeros(2)
        x[at] = NAN
        sums = two_sums(x, y)
        assert log1p_sum(*sums[at]).isnan() and log1p_sum(*sums[1 - at]) == math.log(2)
        sums = two_sums(x, y, ~x.isnan())
        assert log1p_sum(*sums[at]) == 0 and log1p_sum(*sums[1 - at]) == math.log(2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("outside", [1e4, INF, -INF, NAN])
def test_what_is_outside_the_group_has_gradient_0(dtype, outside):
    "A class above the group's largest exponent must not overflow: 0 times inf is NaN."
    x = torch.tensor([[outside, 0.0, -1e4]], dtype=dtype, requires_grad=True)
    for rest in (0.0, torch.full_like(x, 1e-9)):
        value = log1p_sum(*one_sum(x, torch.tensor([False, True, True]), rest))
        (slope,) = torch.autograd.grad(value.sum(), x)
        assert slope[0, 0] == 0 and abs(slope[0, 1].item() - 0.5) < 1e-6
        (m, S), (k, Q) = two_sums(x, torch.tensor([False, False, True]), torch.tensor([False, True, True]), rest)
        (slope,) = torch.autograd.grad((log1p_sum(m, S) + log1p_sum(k, Q)).sum(), x)
        assert slope[0, 0] == 0 and slope.isfinite().all()


def test_two_sums_are_one_sum_twice():
    x = rows(torch.float32)
    generator = torch.Generator().manual_seed(1)
    y, valid = (torch.rand(x.shape, generator=generator) < p for p in (0.5, 0.7))
    for rest in (0.0, torch.randn(x.shape, generator=generator) * 1e-8):
        for got, group in zip(two_sums(x, y, valid, rest), (~y & valid, y & valid)):
            assert all(torch.equal(a, b) for a, b in zip(got, one_sum(x, group, rest)))


def test_derivatives_and_transforms():
    x = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = torch.arange(20).reshape(4, 5) % 3 == 0

    def both(x, y):
        d, rest = shifted(x, 0.3)
        sign = torch.where(y, -1.0, 1.0).to(x.dtype)
        a, b = two_sums(d * sign, y, None, rest * sign)
        return log1p_sum(*a) + log1p_sum(*b)

    assert torch.autograd.gradcheck(lambda z: both(z, y), x) and torch.autograd.gradgradcheck(lambda z: both(z, y), x)
    rowwise = torch.vmap(torch.func.grad(both))(x.detach(), y)
    torch.testing.assert_close(rowwise, torch.autograd.grad(both(x, y).sum(), x)[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_threshold_and_its_rest_are_exact(dtype):
    x = rows(dtype)
    generator = torch.Generator().manual_seed(2)
    for t in (0.3, -7.1, 1e-30, 12345.678, torch.randn(3, generator=generator, dtype=torch.float64).to(dtype), torch.randn(len(x), 1, generator=generator)):
        d, rest = shifted(x, t)
        t = (t if isinstance(t, torch.Tensor) else torch.tensor(t, dtype=torch.float64)).to(dtype).expand_as(x)
        for row in zip(*(v.flatten().tolist() for v in (x, t, d, rest))):
            a, b, c, r = map(Fraction, row)
            assert a - b == c + r, row


@pytest.mark.parametrize("t", [0.3, 5.0, 300.0, -1e5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_thresholds_with_scores_of_every_size(dtype, t):
    "Also where the rest is as large as the threshold itself, and where it differs between two scores a float apart."
    exact = Enclosure(sp.log(1 + sum(sp.exp(v - T) for v in SCORES)), (*SCORES, T), max_bits=1 << 16)
    slope_of = Enclosure(1 / sum((sp.exp(v - SCORES[0]) for v in SCORES), sp.exp(T - SCORES[0])), (*SCORES, T))
    values = [(80.0, 79.25, 3.0), (1e4, 9999.0, 0.1), (1e7, 1e7 - 1, 1e7 - 2), (-90.0, -88.0, 2.0)]
    x = torch.tensor(values, dtype=dtype, requires_grad=True)
    cut = torch.tensor(t, dtype=dtype).item()
    d, rest = shifted(x, t)
    value = value_of(d, rest)
    (slope,) = torch.autograd.grad(value.sum(), x)
    for row, v, g in zip(x.tolist(), value.to(dtype).tolist(), slope.tolist()):
        assert exact.error(v, *row, cut, dtype=name(dtype)) <= 2.5, row
        assert slope_of.error(g[0], *row, cut, dtype=name(dtype)) <= 4.5, row
    x = torch.tensor([[1e9, 1.0, -1.0], [3e38, 0.0, -3e38]])
    assert torch.equal(value_of(*shifted(x, t)).float(), torch.tensor([1e9, 3e38]) - t)


def test_a_threshold_learns():
    t = torch.zeros(2, requires_grad=True)
    x = torch.tensor([[1.0, 1e9], [INF, -INF], [-200.0, 0.0]])
    d, rest = shifted(x, t)
    value = log1p_sum(*one_sum(d, torch.tensor([True, False]), rest))
    (slope,) = torch.autograd.grad(value[[0, 2]].sum(), t)
    assert abs(slope[0].item() + 1 / (1 + math.exp(-1))) < 1e-7 and slope[1] == 0


@pytest.mark.parametrize("bad, kind, words", [
    (NAN, ValueError, "threshold: got nan"), (-INF, ValueError, "threshold: got -inf"), (1e39, ValueError, "threshold: got 1e+39"), (True, TypeError, "threshold: got bool"), (None, TypeError, "threshold: got NoneType"),
    (torch.tensor(NAN), ValueError, "threshold: got the value nan"), (torch.tensor(1e39, dtype=torch.float64), ValueError, "threshold: got the value 1e+39"), (torch.tensor(1), TypeError, "threshold: got dtype torch.int64"),
    (torch.zeros(2), ValueError, "threshold: got shape (2,)"), (torch.zeros(1, 1, 3), ValueError, "threshold: got shape (1, 1, 3)")])
def test_refused_thresholds(bad, kind, words):
    with pytest.raises(kind) as error: shifted(torch.zeros(4, 3), bad)
    assert str(error.value).startswith(words)


def test_labels_of_every_dtype():
    for dtype in (torch.bool, torch.uint8, torch.int8, torch.int64, torch.float16, torch.bfloat16, torch.float64):
        y = check_labels(torch.tensor([[0, 1, 1]], dtype=dtype))
        assert y.dtype == torch.bool and y.tolist() == [[False, True, True]]
    assert not check_labels(torch.tensor([-0.0])).any()
    for bad in (-1.0, 0.999, 2.0, INF, NAN):
        with pytest.raises(ValueError, match="target: got the value"): check_labels(torch.tensor([0.0, bad]))
        with pytest.raises(ValueError, match="target: got the value"): prepare_sets(torch.zeros(2), torch.tensor([0.0, bad]), None, None, "mean", None)
    for bad in (-1.0, 2.0, INF, NAN):
        with pytest.raises(ValueError, match="target: got the value"): prepare_sets(torch.zeros(2), torch.tensor([0.0, bad]), None, None, "mean", None, soft=True)


def test_soft_and_hard_targets():
    def kept(target, soft): return prepare_sets(torch.zeros(2), target, None, None, "mean", None, soft=soft).y

    assert kept(torch.tensor([0.0, 0.25]), True).tolist() == [0, 0.25] and kept(torch.tensor([0.0, 1.0]), True).dtype == torch.bool
    assert kept(torch.tensor([0.0, 0.25], dtype=torch.float64), True).dtype == torch.float32
    wanted = torch.tensor([0.0, 1.0], requires_grad=True)
    assert kept(wanted, True).requires_grad
    with pytest.raises(ValueError, match="requires grad"): kept(wanted, False)


def test_a_mask_hides_scores_and_targets():
    x = torch.tensor([[1.0, NAN, -2.0, INF]], requires_grad=True)
    target = torch.tensor([[1.0, NAN, 0.0, 0.5]])
    mask = torch.tensor([True, False, True, False])
    for soft in (False, True):
        sets = prepare_sets(x, target, None, mask, "mean", None, soft=soft)
        assert sets.x.tolist() == [[1, 0, -2, 0]] and sets.y.tolist() == [[1, 0, 0, 0]]
        assert sets.valid.tolist() == [mask.tolist()] and sets.keep.tolist() == [True]
        assert torch.autograd.grad(sets.x.sum(), x)[0].tolist() == [[1, 0, 1, 0]]


def test_a_masked_class_is_not_there():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(6, 5, generator=generator)
    y = torch.rand(6, 5, generator=generator) < 0.5
    mask = torch.tensor([True, True, False, True, True])
    full = prepare_sets(x, y, None, mask, "none", None)
    short = prepare_sets(x[:, mask], y[:, mask], None, None, "none", None)
    for a, b in zip(two_sums(full.x, full.y, full.valid), two_sums(short.x, short.y)):
        torch.testing.assert_close(log1p_sum(*a), log1p_sum(*b), rtol=1e-14, atol=0)


@pytest.mark.parametrize("mask", [torch.ones(4, 3), torch.ones(2, dtype=torch.bool), torch.ones(2, 4, 3, dtype=torch.bool), [True], torch.ones(3, dtype=torch.bool, device="meta")])
def test_refused_masks(mask):
    with pytest.raises((TypeError, ValueError), match="mask: got"): prepare_sets(torch.zeros(4, 3), torch.zeros(4, 3), None, mask, "mean", None)


def test_the_mean_divides_by_rows_that_count():
    loss, x = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64, requires_grad=True), torch.zeros(3, 2)
    mask = torch.tensor([[True, False], [False, False], [True, True]])

    def reduced(reduction, weight=None, normalizer=None, keep=None, mask=mask):
        return reduce_sets(loss, prepare_sets(x, x, weight, mask, reduction, normalizer), weight, reduction, normalizer, keep)

    assert reduced("none").tolist() == [1, 0, 4] and reduced("sum") == 5 and reduced("mean") == 2.5
    assert reduced("mean", mask=None).item() == pytest.approx(7 / 3, rel=1e-7)
    assert reduced("mean", torch.tensor([2.0, 100.0, 1.0])) == 3 and reduced("mean", torch.tensor([[3.0]])[0]) == 7.5
    assert reduced("mean", None, 10) == 0.5 and reduced("mean", None, torch.tensor(10)) == 0.5
    assert reduced("mean", keep=torch.tensor([True, False, False])) == 1
    nothing = reduced("mean", mask=torch.zeros(2, dtype=torch.bool))
    assert nothing == 0 and torch.autograd.grad(nothing, loss)[0].eq(0).all()


def test_rows_without_classes_do_not_count():
    x = torch.zeros(3, 0)
    sets = prepare_sets(x, x, None, None, "mean", None)
    assert sets.keep.tolist() == [False] * 3 and reduce_sets(torch.zeros(3, dtype=torch.float64), sets, None, "mean", None) == 0


def test_one_row_alone():
    x = torch.tensor([0.0, 1.0])
    sets = prepare_sets(x, x, torch.tensor(2.0), None, "mean", None)
    assert reduce_sets(torch.tensor(3.0, dtype=torch.float64), sets, torch.tensor(2.0), "mean", None) == 6
    with pytest.raises(ValueError, match="weight: got shape"): prepare_sets(x, x, torch.ones(2), None, "mean", None)
    with pytest.raises(ValueError, match=r"logits: got shape \(\)"): prepare_sets(x[0], x[0], None, None, "mean", None)


def test_the_dtype_of_the_result():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = torch.zeros(1, 2, dtype=dtype)
        sets = prepare_sets(x, x, None, None, "mean", None)
        assert sets.dtype == dtype and sets.x.dtype == (dtype if dtype == torch.float64 else torch.float32)
        assert reduce_sets(torch.ones(1, dtype=torch.float64), sets, None, "mean", None).dtype == dtype
