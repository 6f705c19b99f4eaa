"""Does the ledger's record hold what is promised, and is no promise looser than it must be?"""
import json

import pytest
from conftest import CLAIMS, DTYPES

from lossbook.catalogue import variants
from lossbook.ledger import headline, setting
from lossbook.records import project_root

RECORD = json.loads((project_root() / "nbs/evidence/records/ledger.json").read_text())
ROWS = {(r["name"], r["set"], r["dtype"]): r for r in RECORD["result"]["rows"] if r["who"] == "lossbook"}
HELD = {(c.name, setting(c)): c for c in (*CLAIMS, *variants())}


@pytest.mark.parametrize("name,options,dtype", [(*key, d) for key in HELD for d in DTYPES])
def test_measured_against_promised(name, options, dtype):
    row, claim = ROWS[name, options, dtype], HELD[name, options]
    assert tuple(row["promise"]) == claim.promise[dtype], "the record was taken under another promise: make audit"
    for what, promised in zip(("value", "gradient"), claim.promise[dtype]):
        worst = max(s["worst"] for s in row[what].values())
        assert worst <= promised and promised <= 4 * worst
        assert sum(s["zeros"] + s["broken"] for s in row[what].values()) == 0
        if dtype in ("float16", "bfloat16"):  # random rows are no census
            assert all(c["rounded"] >= 0.999 for case, c in row[what].items() if case.startswith(("target", "scores (x", "(x")))
    if row["second"]: assert row["second"]["relative"] <= claim.second and row["second"]["broken"] == 0


def test_the_record_covers_the_catalogue_and_nothing_else():
    assert set(ROWS) == {(*key, d) for key in HELD for d in DTYPES} and RECORD["result"]["tier"] == "full"
    assert len(HELD) == len(CLAIMS) + len(variants()), "two claims with one name and one setting"


def test_headline_has_its_numbers_from_the_record():
    line = headline(RECORD)
    assert RECORD["date"] in line and f"{len({name for name, *_ in ROWS})} losses" in line
