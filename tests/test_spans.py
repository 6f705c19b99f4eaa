"""Spans as rows: does every batch come back, does padding leave no trace, is each row its own loss?"""
import math
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from lossbook.multilabel import multilabel_cross_entropy
from lossbook.spans import SpanLoss, decode_spans, encode_spans, next_end, span_loss

R, L = 3, 9
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@st.composite
def apart(draw):
    "Spans of which those of one relation do not overlap: cut points in pairs."
    spans = []
    for relation in range(R):
        cuts = sorted(draw(st.sets(st.integers(0, L), max_size=L + 1)))
        spans += [(relation, a, b - 1) for a, b in zip(cuts, cuts[1:]) if draw(st.booleans())]
    return spans


def scores(shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator, dtype=torch.float64) * 3).to(dtype)


def batch(n=5, seed=0, dtype=torch.float64):
    "Scores, labels with empty rows among them, and a mask with an example that has no position."
    z = scores((n, 2, R, L), seed, dtype)
    y = torch.rand(z.shape, generator=torch.Generator().manual_seed(seed + 1)) < 0.2
    y[:, :, 1] = False
    return z, y, torch.arange(L) < torch.tensor([L, 4, 1, 0, 7])[:n, None]


@settings(max_examples=60, deadline=None)
@given(st.lists(apart(), max_size=4))
def test_spans_apart_come_back(spans):
    target = encode_spans(spans, relations=R, length=L)
    assert target.shape == (len(spans), 2, R, L) and target.dtype == torch.bool
    assert decode_spans(target.float(), threshold=0.5) == [sorted(s) for s in spans]


def test_exactly_those_come_back_whose_overlaps_share_an_end():
    intervals = [(0, a, b) for a in range(5) for b in range(a, 5)]
    every = [list(c) for k in range(5) for c in combinations(intervals, k)]
    back = decode_spans(encode_spans(every, relations=1, length=5).float())
    for wanted, got in zip(every, back):
        share = all(b == d or b < c or d < a for (_, a, b), (_, c, d) in combinations(wanted, 2))
        assert (got == wanted) == share, wanted


def test_nested_and_crossing_spans_have_one_target_and_decode_to_neither():
    nested, crossing = [(0, 0, 3), (0, 1, 2)], [(0, 0, 2), (0, 1, 3)]
    a, b = (encode_spans([s], relations=1, length=4) for s in (nested, crossing))
    assert torch.equal(a, b)
    assert decode_spans(a.float()) == [[(0, 0, 2), (0, 1, 2)]]


def test_relations_do_not_mix_and_doubles_count_once():
    spans = [[(1, 2, 4), (0, 0, 5), (1, 2, 4)]]
    target = encode_spans(spans, relations=R, length=6)
    assert target.sum() == 4 and decode_spans(target.float()) == [[(0, 0, 5), (1, 2, 4)]]


def test_next_end_is_the_nearest():
    ends = torch.rand(40, L, generator=torch.Generator().manual_seed(0)) < 0.3
    for row, got in zip(ends.tolist(), next_end(ends).tolist()):
        assert got == [min((j for j in range(i, L) if row[j]), default=L) for i in range(L)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_thresholds_of_starts_and_ends(dtype):
    z = torch.full((1, 2, 1, 4), -5.0, dtype=dtype)
    z[0, 0, 0, 1], z[0, 1, 0, 2], z[0, 1, 0, 3] = 0.5, 0.25, 1.0
    assert decode_spans(z) == [[(0, 1, 2)]] and decode_spans(z, threshold=0.25) == [[(0, 1, 3)]]
    apart = torch.tensor([0.5, 0.0], dtype=dtype).view(2, 1, 1)
    assert decode_spans(z, threshold=apart) == [[]]  # a score at the threshold is not above it
    assert decode_spans(z.requires_grad_()) == [[(0, 1, 2)]]


def test_what_is_not_there_is_not_decoded():
    z = torch.full((2, 2, R, L), math.inf)
    mask = torch.arange(L) < torch.tensor([2, 0])[:, None]
    z = torch.where(mask[:, None, None], z, math.nan)
    assert decode_spans(z, mask=mask) == [[(r, a, a) for r in range(R) for a in range(2)], []]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_padding_leaves_no_trace(dtype, bad):
    z, y, mask = batch(dtype=dtype)
    there = mask[:, None, None]
    spoiled = torch.where(there, z, bad).requires_grad_()
    labels = torch.where(there, y.to(dtype), bad)
    loss = span_loss(spoiled, labels, mask=mask, reduction="none")
    loss.sum().backward()
    assert (spoiled.grad.masked_select(~there) == 0).all() and spoiled.grad.isfinite().all()
    for i, n in enumerate(mask.sum(1).tolist()):
        alone = z[i : i + 1, ..., :n].clone().requires_grad_()
        if not n:
            assert (loss[i] == 0).all()
            continue
        own = span_loss(alone, y[i : i + 1, ..., :n], reduction="none")
        own.sum().backward()
        near = dict(rtol=1e-14 if dtype == torch.float64 else torch.finfo(dtype).eps, atol=0)  # one rounding
        torch.testing.assert_close(loss[i], own[0], **near)
        torch.testing.assert_close(spoiled.grad[i, ..., :n], alone.grad[0], **near)


@pytest.mark.parametrize("threshold", [0.0, 0.7])
def test_each_row_by_hand(threshold):
    z, y, mask = batch()
    got = span_loss(z, y, threshold=threshold, mask=mask, reduction="none")
    for i in range(len(z)):
        for side in range(2):
            for r in range(R):
                row = [(s - threshold, t) for s, t, m in zip(z[i, side, r].tolist(), y[i, side, r].tolist(), mask[i].tolist()) if m]
                N, P = sum(math.exp(s) for s, t in row if not t), sum(math.exp(-s) for s, t in row if t)
                assert math.isclose(got[i, side, r].item(), math.log1p(N) + math.log1p(P), rel_tol=1e-13)


def test_reductions_count_rows_with_a_position():
    z, y, mask = batch()
    each = span_loss(z, y, mask=mask, reduction="none")
    rows = 4 * 2 * R  # one of five examples has no position
    assert each.shape == (5, 2, R)
    near = dict(rtol=1e-14, atol=0)
    torch.testing.assert_close(span_loss(z, y, mask=mask), each.sum() / rows, **near)
    torch.testing.assert_close(span_loss(z, y, mask=mask, normalizer=5), each.sum() / 5, **near)
    weight = torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(span_loss(z, y, mask=mask, weight=weight, reduction="sum"), (each * weight).sum(), **near)
    torch.testing.assert_close(SpanLoss(weight=weight, reduction="sum")(z, y, mask=mask), (each * weight).sum(), **near)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 60))
def test_one_flat_row_never_costs_more(seed, size):
    z, y, mask = batch(seed=seed)
    z = z * size
    flat = multilabel_cross_entropy(z.flatten(1), y.flatten(1), mask=mask[:, None, None].expand(z.shape).flatten(1), reduction="none")
    rows = span_loss(z, y, mask=mask, reduction="none").sum((1, 2))
    assert (flat <= rows * (1 + 1e-12)).all()


def test_derivatives_and_vmap():
    z, y, mask = batch()
    z = z.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: span_loss(x, y, mask=mask), z)
    assert torch.autograd.gradgradcheck(lambda x: span_loss(x, y, mask=mask), z)
    per_row = torch.func.vmap(lambda x, t, m: span_loss(x[None], t[None], mask=m[None], reduction="sum"))(z.detach(), y, mask)
    torch.testing.assert_close(per_row, span_loss(z.detach(), y, mask=mask, reduction="none").sum((1, 2)), rtol=1e-12, atol=0)


@pytest.mark.parametrize("n", [0, 2])
def test_no_examples_and_no_spans(n):
    empty = [[] for _ in range(n)]
    target = encode_spans(empty, relations=R, length=L)
    assert target.shape == (n, 2, R, L) and not target.any()
    z = torch.full(target.shape, -30.0, requires_grad=True)
    assert decode_spans(z) == empty
    loss = span_loss(z, target)
    loss.backward()
    assert 0 <= loss.item() < 1e-11 and (loss.item() > 0) == bool(n) and (z.grad >= 0).all()


def test_no_positions():
    target = encode_spans([[], []], relations=R, length=0)
    z = torch.zeros(target.shape, requires_grad=True)
    assert target.shape == (2, 2, R, 0) and decode_spans(z) == [[], []]
    assert span_loss(z, target).item() == 0


GOOD = dict(relations=R, length=L)


@pytest.mark.parametrize("spans, more, kind, words", [
    ([[(3, 0, 1)]], {}, ValueError, "spans: in example 0, relation: got 3, expected an integer in [0, 2]"),
    ([[], [(-1, 0, 1)]], {}, ValueError, "spans: in example 1, relation: got -1"),
    ([[(0, 0, 9)]], {}, ValueError, "spans: in example 0, end: got 9, expected an integer in [0, 8]"),
    ([[(0, -1, 2)]], {}, ValueError, "spans: in example 0, start: got -1"),
    ([[(0, 3, 2)]], {}, ValueError, "spans: in example 0, got start 3 behind end 2"),
    ([[(0, 1)]], {}, ValueError, "spans: got (0, 1) in example 0, expected (relation, start, end)"),
    ([[5]], {}, ValueError, "spans: got 5 in example 0"),
    ([[(0, 1.0, 2)]], {}, TypeError, "spans: in example 0, start: got float"),
    ([[(True, 1, 2)]], {}, TypeError, "spans: in example 0, relation: got bool"),
    ([5], {}, TypeError, "spans: got int for example 0, expected a list of (relation, start, end)"),
    (5, {}, TypeError, "spans: got int, expected a list for each example"),
    ([], {"relations": 0}, ValueError, "relations: got 0, expected an integer of at least 1"),
    ([], {"length": -1}, ValueError, "length: got -1"),
    ([], {"length": 2.5}, TypeError, "length: got float"),
    ([[(0, 1, 5)]], {"mask": torch.arange(L)[None] < 4}, ValueError, "spans: got the end 5 of relation 0 in example 0, a position that the mask leaves out"),
    ([[]], {"mask": torch.ones(2, L, dtype=torch.bool)}, ValueError, "mask: got shape (2, 9), expected (1, 9)"),
    ([[]], {"mask": torch.ones(1, L)}, TypeError, "mask: got dtype torch.float32"),
])
def test_encode_refuses(spans, more, kind, words):
    with pytest.raises(kind) as error:
        encode_spans(spans, **{**GOOD, **more})
    assert words in str(error.value)


Z, Y = torch.zeros(2, 2, R, L), torch.zeros(2, 2, R, L, dtype=torch.bool)


@pytest.mark.parametrize("change, kind, words", [
    ({"logits": Z[0]}, ValueError, "logits: got shape (2, 3, 9), expected (N, 2, R, L)"),
    ({"logits": Z.transpose(1, 2)}, ValueError, "logits: got shape (2, 3, 2, 9)"),
    ({"logits": Z.long()}, TypeError, "logits: got dtype torch.int64"),
    ({"logits": [0.0]}, TypeError, "logits: got list"),
    ({"mask": torch.ones(2, 2, R, L, dtype=torch.bool)}, ValueError, "mask: got shape (2, 2, 3, 9), expected (2, 9)"),
    ({"mask": torch.ones(2, L)}, TypeError, "mask: got dtype torch.float32"),
    ({"mask": [True]}, TypeError, "mask: got list"),
    ({"threshold": math.nan}, ValueError, "threshold: got nan"),
    ({"threshold": "0"}, TypeError, "threshold: got str"),
    ({"threshold": torch.zeros(5)}, ValueError, "threshold: got shape (5,)"),
])
def test_both_refuse(change, kind, words):
    call = {"logits": Z, **change}
    for run in (lambda a: decode_spans(**a), lambda a: span_loss(target=Y, **a)):
        with pytest.raises(kind) as error:
            run(call)
        assert words in str(error.value)


def test_each_refuses_its_own():
    with pytest.raises(ValueError, match="logits: got NaN at a position that exists"):
        decode_spans(torch.full_like(Z, math.nan))
    assert span_loss(torch.full_like(Z, math.nan), Y).isnan()
    for change, kind, words in (
        ({"target": Y[..., :3]}, ValueError, "target: got shape"),
        ({"target": Y.long() + 2}, ValueError, "target: got the value 2"),
        ({"weight": torch.ones(L)}, ValueError, "weight: got shape (9,)"),
        ({"reduction": "average"}, ValueError, "reduction: got 'average'"),
    ):
        with pytest.raises(kind, match=words.replace("(", r"\(").replace(")", r"\)")):
            span_loss(**{"logits": Z, "target": Y, **change})
