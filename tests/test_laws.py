"""Do the laws that the chapters prove hold for the code?"""
import pytest
import torch
from conftest import CLAIMS, of_rows, of_sets, pointwise, subject_of
from hypothesis import given, settings
from hypothesis import strategies as st

LAWS = [(claim, name) for claim in CLAIMS if pointwise(claim) for name in claim.laws]
SET_LAWS = [(claim, name) for claim in CLAIMS if of_sets(claim) for name in claim.laws]
ROW_LAWS = [(claim, name) for claim in CLAIMS if of_rows(claim) for name in claim.laws]
LOGIT = st.floats(-700, 700, allow_nan=False)


@pytest.mark.parametrize("claim,name", LAWS, ids=[f"{c.name}-{n}" for c, n in LAWS])
@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.tuples(LOGIT, LOGIT, st.floats(0, 1, allow_subnormal=False)), min_size=1, max_size=8))
def test_law(claim, name, rows):
    a, b, t = torch.tensor(rows, dtype=torch.float64).T
    claim.laws[name](lambda z, y: claim.loss(z, y, reduction="none", **claim.options), a, b, t)


@pytest.mark.parametrize("claim,name", ROW_LAWS, ids=[f"{c.name}-{n}" for c, n in ROW_LAWS])
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), rows=st.integers(1, 6), classes=st.integers(2, 12), size=st.floats(0.01, 300))
def test_law_of_rows(claim, name, seed, rows, classes, size):
    generator = torch.Generator().manual_seed(seed)
    a, b, y = torch.randn(3, rows, classes, generator=generator, dtype=torch.float64)
    claim.laws[name](lambda z, t: claim.loss(z, t, reduction="none", **claim.options), a * size, b * size, torch.softmax(y * 2, 1))


@pytest.mark.parametrize("claim,name", SET_LAWS, ids=[f"{c.name}-{n}" for c, n in SET_LAWS])
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), rows=st.integers(1, 6), classes=st.integers(1, 12), size=st.floats(0.01, 300), share=st.floats(0, 1))
def test_law_of_sets(claim, name, seed, rows, classes, size, share):
    generator, subject = torch.Generator().manual_seed(seed), subject_of(claim)
    a, b = torch.randn(2, rows, classes, generator=generator, dtype=torch.float64) * size
    if claim.domain == "similarity": a, b = torch.tanh(a), torch.tanh(b)
    claim.laws[name](subject, a, b, torch.rand(rows, classes, generator=generator) < share)


def test_every_logit_loss_states_laws():
    assert [c.name for c in CLAIMS if c.domain == "logits" and not c.laws] == []


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31 - 1), st.floats(0, 1))
def test_label_smoothing_is_a_mixture_with_a_fair_coin(seed, epsilon):
    from lossbook import binary_cross_entropy_with_logits as loss
    torch.manual_seed(seed)
    z, y = torch.randn(5, dtype=torch.float64) * 4, torch.rand(5, dtype=torch.float64)
    mixed = (1 - epsilon) * loss(z, y, reduction="none") + epsilon * loss(z, torch.full_like(y, 0.5), reduction="none")
    torch.testing.assert_close(loss(z, y, label_smoothing=epsilon, reduction="none"), mixed, rtol=1e-12, atol=1e-14)
