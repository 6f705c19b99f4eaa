"""Does the ledger's record hold what is promised, and is no promise looser than it must be?"""
import json
import subprocess
import sys

import pytest
import torch
from conftest import CLAIMS, DTYPES

from lossbook.audit import audit, make_subject, measure
from lossbook.catalogue import find, variants
from lossbook.ledger import headline, setting, take_ledger_on
from lossbook.records import project_root

RECORD = json.loads((project_root() / "nbs/evidence/records/ledger.json").read_text())
ROWS = {}  # the ways of a loss together
for r in RECORD["result"]["rows"]:
    if r["who"] == "lossbook": ROWS.setdefault((r["name"], r["set"], r["dtype"]), []).append(r)
HELD = {(c.name, setting(c)): c for c in (*CLAIMS, *variants())}


@pytest.mark.parametrize("name,options,dtype", [(*key, d) for key in HELD for d in DTYPES])
def test_measured_against_promised(name, options, dtype):
    rows, claim = ROWS[name, options, dtype], HELD[name, options]
    for what, promised in zip(("value", "gradient"), claim.promise[dtype]):
        worst = max(s["worst"] for row in rows for s in row[what].values())
        assert worst <= promised and promised <= 4 * worst
    for row in rows:
        assert tuple(row["promise"]) == claim.promise[dtype], "the record was taken under another promise: make audit"
        for what in ("value", "gradient"):
            assert sum(s["zeros"] + s["broken"] for s in row[what].values()) == 0
            if dtype in ("float16", "bfloat16"):  # random rows are no census
                assert all(c["rounded"] >= 0.999 for case, c in row[what].items() if case.startswith(("target", "scores (x", "(x")))
        if row["second"]: assert row["second"]["relative"] <= claim.second and row["second"]["broken"] == 0


def test_each_way_of_a_loss_has_a_row():
    "In float32; in the other dtypes the way that plain code takes."
    from test_paths import WITH_KERNEL

    for (name, _, dtype), rows in ROWS.items():
        kernel = name in WITH_KERNEL and (dtype != "float64" or name in ("binary_cross_entropy_with_logits", "sigmoid_focal_loss"))
        both = ["kernel", "composition"] if dtype == "float32" else ["kernel"]
        assert [r["path"] for r in rows] == (both if kernel else ["composition"]), (name, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("claim", variants(), ids=lambda c: f"{c.name}, {setting(c)}")
def test_the_quick_tier_keeps_every_promise(claim, dtype):
    "The other rows of the ledger, the claims of the catalogue, are measured anew in test_values.py."
    report = audit(claim, dtypes=[dtype], checks=["value", "gradient", "false zeros", "finite", "rounding"], tier="quick")
    assert report.passed, report.text()


def test_the_ledger_of_another_device_has_the_same_rows(monkeypatch):
    claim = find("cross_entropy")
    monkeypatch.setattr("lossbook.ledger.ledger_entries", lambda: [(claim, "lossbook", claim.loss), (claim, "PyTorch", claim.torch)])
    monkeypatch.setattr("lossbook.ledger.DTYPES", ("float64",))
    made = take_ledger_on("cpu", "quick")
    assert [(r["who"], r["promise"]) for r in made["rows"]] == [("lossbook", claim.promise["float64"]), ("PyTorch", None)] and made["device"] == "cpu"
    assert made["rows"][0]["value"] == measure(make_subject(claim), "float64")["value"]


def test_a_device_that_is_not_there_is_one_line_and_status_2():
    if torch.cuda.is_available(): pytest.skip("this machine has CUDA")
    done = subprocess.run([sys.executable, "tools/audit.py", "--device", "cuda"], cwd=project_root(), capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "finds no CUDA device" in done.stderr and not done.stdout


def test_the_record_covers_the_catalogue_and_nothing_else():
    assert set(ROWS) == {(*key, d) for key in HELD for d in DTYPES} and RECORD["result"]["tier"] == "full"
    assert len(HELD) == len(CLAIMS) + len(variants()), "two claims with one name and one setting"


def test_headline_has_its_numbers_from_the_record():
    line = headline(RECORD)
    assert RECORD["date"] in line and f"{len({name for name, *_ in ROWS})} losses" in line
