"""Do the checks bite? Each broken loss must be rejected by the named checks, and a correct one by none."""
import json

import pytest
from mutants import BUGS, HELD_TO, MUTANTS, fingerprint, plain, report_on

from lossbook import bce
from lossbook.audit import CHECKS, audit
from lossbook.records import project_root

RECORD = json.loads((project_root() / "nbs/evidence/records/mutants.json").read_text())["result"]


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_rejected(name):
    report = report_on(name, MUTANTS[name].caught_by)
    for check in MUTANTS[name].caught_by: assert report[check].passed is False, f"{name} slips through {check!r}"
    assert all(f.detail for f in report.findings)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_correct_loss_passes_every_numerical_check(dtype):
    needs_more = {"autocast", "infinite logits", "bad targets"}  # the plain formula has no care for these
    report = audit(plain, bce.spec(), dtypes=[dtype], checks=[c for c in CHECKS if c not in needs_more], second=1e-5)
    assert report.passed, report.text()


def test_every_check_rejects_some_mutant():
    caught = {check for m in MUTANTS.values() for check in m.caught_by}
    assert set(CHECKS) - caught == set(), "a check that has never been seen to fail"


def test_every_check_of_a_kind_rejects_some_mutant_of_that_kind():
    "A check that is answered anew for losses of rows or of sets must have been seen to fail there."
    for kinds in (("softmax",), ("sets", "sparse", "subsets", "pairs")):
        caught = {check for m in MUTANTS.values() if m.kind in kinds for check in m.caught_by}
        assert {name for name, (_, by_kind) in CHECKS.items() if kinds[0] in by_kind} <= caught


def test_every_class_of_bug_is_there():
    assert len(MUTANTS) >= 25 and {m.bug for m in MUTANTS.values()} == set(BUGS) and {m.kind for m in MUTANTS.values()} == set(HELD_TO)


def test_the_record_covers_every_mutant_and_every_check():
    "The table on the page of the audit. If this fails: python tools/mutants.py"
    rows = {row["name"]: row for row in RECORD["mutants"]}
    assert [c["check"] for c in RECORD["checks"]] == list(CHECKS), "made with other checks: python tools/mutants.py"
    assert list(rows) == list(MUTANTS), "made with other mutants: python tools/mutants.py"
    for name, row in rows.items():
        m = MUTANTS[name]
        assert row["source"] == fingerprint(name), f"{name} has changed: python tools/mutants.py {name}"
        assert (row["bug"], row["what"], row["caught by"]) == (m.bug, m.what, list(m.caught_by))
        assert {*row["failed"], *row["passed"], *row["not run"]} == set(CHECKS)
        assert set(m.caught_by) <= set(row["failed"]), f"the record has {name} slip through"
