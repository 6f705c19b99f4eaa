"""Does the ledger's record hold what is promised, and is no promise looser than it must be?"""
import json

import pytest
from conftest import CLAIMS, DTYPES

from lossbook.ledger import headline
from lossbook.records import project_root

RECORD = json.loads((project_root() / "nbs/evidence/records/ledger.json").read_text())
ROWS = {(r["name"], r["dtype"]): r for r in RECORD["result"]["rows"] if r["who"] == "lossbook"}


@pytest.mark.parametrize("name,dtype", [(c.name, d) for c in CLAIMS for d in DTYPES])
def test_measured_against_promised(name, dtype):
    row = ROWS[name, dtype]
    claim = next(c for c in CLAIMS if c.name == name)
    assert tuple(row["promise"]) == claim.promise[dtype], "the record was taken under another promise: make audit"
    for what, promised in zip(("value", "gradient"), claim.promise[dtype]):
        worst = max(s["worst"] for s in row[what].values())
        assert worst <= promised and promised <= 4 * worst
        assert sum(s["zeros"] + s["broken"] for s in row[what].values()) == 0
        if dtype in ("float16", "bfloat16"):  # random rows are no census
            assert all(c["rounded"] >= 0.999 for case, c in row[what].items() if not case.startswith("C="))
    if row["second"]: assert row["second"]["relative"] <= claim.second and row["second"]["broken"] == 0


def test_the_record_covers_the_catalogue_and_nothing_else():
    assert set(ROWS) == {(c.name, d) for c in CLAIMS for d in DTYPES} and RECORD["result"]["tier"] == "full"


def test_headline_has_its_numbers_from_the_record():
    line = headline(RECORD)
    assert RECORD["date"] in line and f"{len({n for n, _ in ROWS})} losses" in line
