"""Do the checks bite? Each broken loss must be rejected by the named checks, and a correct one by none."""
from dataclasses import replace

import pytest
import torch
from mutants import MUTANTS, right

from lossbook import bce
from lossbook.audit import CHECKS, audit
from lossbook.catalogue import find


HELD_TO = {"softmax": "cross_entropy", "sets": "multilabel_cross_entropy", "sparse": "sparse_multilabel_cross_entropy",
           "subsets": "subset_softmax_loss", "pairs": "lsep_loss"}


@pytest.fixture(autouse=True)
def grad_mode_is_restored():
    yield
    torch.set_grad_enabled(True)


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_rejected(name):
    m = MUTANTS[name]
    if m.kind != "pointwise":
        claim = find(HELD_TO[m.kind])
        few = {} if m.kind == "softmax" else {"sizes": {"quick": ((1, 2, 10, 40), 8000, 4)}}  # enough to find these bugs
        report = audit(replace(claim, loss=m.loss, options={}, traits={**claim.traits, **few}), dtypes=[m.dtype], checks=m.caught_by)
    else: report = audit(m.loss, bce.spec(), dtypes=[m.dtype], checks=m.caught_by, second=1e-5)
    for check in m.caught_by: assert report[check].passed is False, f"{name} slips through {check!r}"
    assert all(f.detail for f in report.findings)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_correct_loss_passes_every_numerical_check(dtype):
    needs_more = {"autocast", "infinite logits", "reductions"}  # the plain formula has no promise for these
    report = audit(right, bce.spec(), dtypes=[dtype], checks=[c for c in CHECKS if c not in needs_more], second=1e-5)
    assert report.passed, report.text()


def test_every_check_rejects_some_mutant():
    caught = {check for m in MUTANTS.values() for check in m.caught_by}
    assert set(CHECKS) - caught == set(), "a check that has never been seen to fail"


def test_every_check_of_a_kind_rejects_some_mutant_of_that_kind():
    "A check that is answered anew for losses of sets must have been seen to fail there."
    caught = {check for m in MUTANTS.values() if m.kind in ("sets", "sparse", "subsets", "pairs") for check in m.caught_by}
    assert {name for name, (_, by_kind) in CHECKS.items() if "sets" in by_kind} <= caught
