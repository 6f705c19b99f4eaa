"""Is the oracle itself right? Known constants, a second library, a second precision, and values it must refuse."""
import math

import mpmath
import numpy as np
import pytest
import sympy as sp
import torch
from conftest import each_claim, of_rows, of_sets, pointwise, subject_of
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbook import exact
from lossbook.symbolic import IDENTITIES, NotProved, prove_equal, rewrite_stable, sigmoid, softplus

x = sp.Symbol("x", real=True)


def test_known_constants():
    known = {softplus(x): (0.0, "0.693147180559945309417232121458"), sigmoid(x): (1.0, "0.731058578630004879251159944943"),
             sp.exp(x): (1.0, "2.71828182845904523536028747135"), sp.log(x): (3.0, "1.09861228866810969139524523692"),
             sp.sqrt(x): (2.0, "1.41421356237309504880168872421"), x**sp.Rational(1, 3): (2.0, "1.25992104989487316476721060728")}
    for expression, (point, digits) in known.items():
        ball = exact.Enclosure(expression, [x]).ball(point, bits=160)
        assert abs(mpmath.mpf(digits) - mpmath.mpf(ball.mid().str(28, radius=False))) < mpmath.mpf("1e-26")


@each_claim(pointwise)
def test_against_mpmath_with_many_digits(claim):
    "The textbook form in mpmath at 20 000 bits shares nothing with the stable form in Arb."
    subject = subject_of(claim)
    textbook = claim.spec.textbook.subs({s: sp.Rational(claim.parameters[s.name]) for s in claim.spec.parameters})
    with mpmath.workprec(20_000):
        for target in (0, 1, 0.25):
            for which, expression in (("value", textbook), ("gradient", textbook.diff(subject.variable)), ("second", textbook.diff(subject.variable, 2))):
                plain = sp.lambdify(subject.symbols, expression, "mpmath")
                enclosure = exact.Enclosure(getattr(subject, which), subject.symbols)
                points = (-3000.0, -88.75, -1e-3, 0.5, 17.0, 3000.0) if claim.domain == "logits" else (1e-30, 0.25, 0.999)
                for point in points:
                    other = plain(mpmath.mpf(point), mpmath.mpf(target))
                    got = float(enclosure.decide(point, float(target)).mid())
                    assert abs(got - other) <= abs(other) * mpmath.mpf(2) ** -52 + mpmath.mpf(2) ** -1074, (which, target, point)


@each_claim(pointwise)
def test_a_higher_precision_stays_inside_the_ball(claim):
    subject = subject_of(claim)
    enclosure = exact.Enclosure(subject.value, subject.symbols)
    for point in np.linspace(0.01, 0.99, 50) if claim.domain == "probs" else np.linspace(-200, 200, 50):
        rough, fine = (enclosure.ball(float(point), 0.3, bits=b) for b in (80, 800))
        assert rough.contains(fine.mid())


@each_claim(pointwise)
def test_the_fast_reference_is_bounded(claim):
    "The float64 reference of the float32 audit is far below a thousandth of an ulp of float32."
    from lossbook.audit import points_for
    subject = subject_of(claim)
    points = points_for("float32", claim.domain, "quick").double().numpy()
    sample = np.random.default_rng(0).choice(points, 4000, replace=False)
    for target in (0.0, 1.0):
        for which in ("value", "gradient", "second"):
            assert exact.reference_bound(getattr(subject, which), subject.symbols, sample, np.full(len(sample), target)) < 1e-5


@pytest.mark.parametrize("dtype", exact.FORMATS)
def test_ulp_is_the_gap_between_neighbours(dtype):
    f, kind = exact.FORMATS[dtype], getattr(torch, dtype)
    values = torch.tensor([1.0, 1.5, 3.0, f.smallest_normal, f.smallest, f.largest / 2], dtype=kind)
    above = torch.nextafter(values, torch.tensor(math.inf, dtype=kind))
    assert (above.double() - values.double()).numpy().tolist() == exact.ulp(values.double().numpy(), dtype).tolist()


@settings(max_examples=300, deadline=None)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(-5, 5))
def test_ulp_error_counts_steps(value, steps):
    moved = np.float32(value)
    for _ in range(abs(steps)): moved = np.nextafter(moved, np.float32(math.copysign(math.inf, steps)))
    if not np.isfinite(moved): return
    same_size = exact.ulp(value, "float32") == exact.ulp(float(moved), "float32")
    got = float(exact.ulp_error(np.array([float(moved)]), np.array([value]), "float32")[0])
    assert not same_size or got == abs(steps)


def test_errors_of_float64_are_counted_too():
    enclosure = exact.Enclosure(softplus(x), [x])
    right = float(enclosure.decide(1.0).mid())
    assert enclosure.error(right, 1.0) <= 0.5 and 2.5 <= enclosure.error(right + 3 * math.ulp(right), 1.0) <= 3.5
    assert enclosure.error(math.nan, 1.0) == math.inf and enclosure.error(math.inf, 1.0) == math.inf


@pytest.mark.parametrize("dtype,count", [("float16", 63_488), ("bfloat16", 65_280)])
def test_all_floats_are_all(dtype, count):
    values = exact.all_floats(dtype)
    assert values.numel() == count and values.isfinite().all() and values.dtype == getattr(torch, dtype)
    assert values.view(torch.int16).unique().numel() == count


def test_every_16_bit_input_is_decided_for_both_derivatives():
    from lossbook import bce
    spec = bce.spec()
    for dtype in ("float16", "bfloat16"):
        points = exact.all_floats(dtype, step=64).double().numpy()
        for expression in (spec.stable, spec.gradient(), spec.hessian()[0, 0]):
            for target in (0.0, 1.0): assert np.isfinite(exact.Enclosure(expression, spec.symbols).values(points, target, dtype=dtype)).all()


def test_what_is_not_known_is_not_guessed():
    textbook = exact.Enclosure(softplus(x).rewrite(sp.exp) - x, [x], max_bits=512)
    with pytest.raises(exact.Undecidable): textbook.decide(600.0)
    assert textbook.decide(65504.0, dtype="float32") == 0  # decided: 1e-28448 is nothing beside the smallest float32
    assert exact.Enclosure(rewrite_stable(softplus(x) - x), [x]).decide(-1.0).rel_accuracy_bits() > 70
    with pytest.raises(ValueError, match="not exact"): exact.Enclosure(sp.Float(0.1) * x, [x])
    assert float(exact.Enclosure(softplus(x), [x]).decide(-1e30).mid()) == 0  # far below every float


def test_identities_are_proved_and_a_false_one_is_not():
    for left, right in IDENTITIES.items():
        (wild,) = left.atoms(sp.Wild)
        assert prove_equal(left.subs(wild, x), right.subs(wild, x))
    with pytest.raises(NotProved): prove_equal(sigmoid(x), sigmoid(2 * x))
    with pytest.raises(NotProved): prove_equal(softplus(x), softplus(x) + sp.Rational(1, 10**12))


@settings(max_examples=100, deadline=None)
@given(st.floats(-1e4, 1e4))
def test_rewriting_changes_no_value(value):
    messy = sp.log(1 - sigmoid(x)) + 3 * sp.log(sigmoid(2 * x)) - (softplus(x) - x)
    before, after = exact.Enclosure(messy, [x], max_bits=1 << 17), exact.Enclosure(rewrite_stable(messy), [x])
    assert before.decide(value, dtype="float32").overlaps(after.decide(value, dtype="float32"))


@each_claim(of_rows)
def test_the_reference_of_rows_is_bounded(claim):
    "Against enclosures of the expanded spec, in ulp of float32: far below a thousandth."
    generator = torch.Generator().manual_seed(0)
    for n in (2, 3, 5):
        value, slopes = subject_of(claim).enclosures(n)
        for size in (1, 20, 300):
            rows = (torch.randn(10, n, generator=generator) * size).double()
            losses, gradients = claim.reference(rows, torch.zeros(10, dtype=torch.int64))
            for row, loss, gradient in zip(rows.tolist(), losses.tolist(), gradients.tolist()):
                assert value.error(loss, *row, dtype="float32") < 1e-3
                for enclosure, g in zip(slopes, gradient): assert enclosure.error(g, *row, dtype="float32") < 1e-3


def test_the_reference_of_cross_entropy_for_a_whole_vocabulary():
    "50 257 classes, summed in balls: too many for an expanded expression."
    import flint

    from lossbook.cross_entropy import reference
    logits = (torch.randn(2, 50_257, generator=torch.Generator().manual_seed(0)) * 5).double()
    index = torch.stack([logits[0].argmax(), logits[1].argmin()])
    value, gradient = reference(logits, index)
    for row, t, v, g in zip(logits.tolist(), index.tolist(), value.tolist(), gradient.tolist()):
        with flint.ctx.workprec(120):
            terms = [(flint.arb(s) - flint.arb(row[t])).exp() for s in row]
            others = sum(terms[:t] + terms[t + 1:], flint.arb(0))
            loss, slope = float((1 + others).log().mid()), float((-others / (1 + others)).mid())
        assert abs(v / loss - 1) < 1e-3 * 2.0**-24 and abs(g[t] / slope - 1) < 1e-3 * 2.0**-24


@each_claim(of_sets)
def test_the_reference_of_sets_is_bounded(claim):
    "Against enclosures of the expanded spec, for every pattern of three labels, in ulp of float32: far below a thousandth."
    from lossbook.sets import PATTERNS, enclosures
    generator, subject = torch.Generator().manual_seed(0), subject_of(claim)
    for pattern in (*PATTERNS, (0, 1, 0, 1)):
        value, slopes = enclosures(subject, pattern)
        for size in (1, 20, 80) if claim.domain == "logits" else (1,):
            scores = torch.randn(8, len(pattern), generator=generator) * size
            scores = (scores if claim.domain == "logits" else torch.tanh(scores)).double()
            losses, gradients = claim.reference(scores, torch.tensor(pattern, dtype=torch.bool).expand(8, -1))
            for row, loss, gradient in zip(scores.tolist(), losses.tolist(), gradients.tolist()):
                assert value.error(loss, *row, dtype="float32") < 1e-3
                for enclosure, g in zip(slopes, gradient): assert enclosure.error(g, *row, dtype="float32") < 1e-3
