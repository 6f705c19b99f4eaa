"""The field: is the record whole, does the page show all of it, and does PyTorch still do what it says?"""
import json
import math
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools/peers"))

from audited import QUICK, errors, quick_of
from faults import FAULTS, agree
from installed import PEERS, release
from losses import entries

from lossbook.audit import make_subject

RECORD = json.loads((ROOT / "nbs/evidence/records/peers.json").read_text())["result"]
ROWS = {f["name"]: f for f in RECORD["faults"]}
STATES = {"there", "in part", "mended", "a choice", "right"}
PAGE = "".join("".join(out.get("data", {}).get("text/html", [])) for cell in json.loads((ROOT / "nbs/evidence/peers.ipynb").read_text())["cells"] for out in cell.get("outputs", [])).replace("<wbr>", "")


def key(row): return row["peer"], row["loss"], row["gamma"]
def number(text):
    try: return float(text)
    except ValueError: return text


def test_the_record_was_made_by_this_code():
    spec = __import__("importlib.util").util.spec_from_file_location("peers_main", ROOT / "tools/peers/__main__.py")
    module = __import__("importlib.util").util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert RECORD["source"] == module.source(), "tools/peers has changed since: python tools/peers"


def test_every_peer_has_a_version_and_it_is_the_pinned_one():
    assert [about["key"] for about in RECORD["peers"]] == list(PEERS)
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "tools/peers/requirements.txt").read_text(), re.M))
    for peer, (distribution, *_) in PEERS.items():
        version = RECORD["releases"][peer]
        assert version and (peer == "PyTorch" or pinned[distribution] == version), peer
    assert RECORD["releases"]["jax"] == pinned["jax"]


def test_the_record_holds_every_fault_and_every_loss():
    assert list(ROWS) == [f.name for f in FAULTS]
    assert [key(r) for r in RECORD["audited"]] == [(e.peer, e.loss, e.gamma) for e in entries()]


def test_every_fault_is_stated_in_full():
    for row in RECORD["faults"]:
        assert row["rows"] and all(len(r) == 3 and all(r) for r in row["rows"]), row["name"]
        assert all(row[k] for k in ("version", "function", "place", "what", "given", "mend", "kind")) and row["state"] in STATES, row["name"]
        right = all(agree(number(a), number(b)) for _, a, b in row["rows"])
        assert right == (row["state"] in ("mended", "right")), row["name"]
        assert (row["state"] == "a choice") <= bool(row["choice"]), row["name"]


def test_the_page_shows_every_row():
    for name in ROWS: assert f'id="fault-{name}"' in PAGE, name
    for row in RECORD["audited"]: assert PAGE.count(f"<code>{row['loss']}</code>") >= 2, row["loss"]
    for about in RECORD["peers"]: assert about["name"] in PAGE
    for _, _, why in RECORD["not run"]: assert why.replace("'", "&#x27;") in PAGE


def test_this_book_has_no_fault_there():
    for row in RECORD["audited"]:
        if row["peer"] == "lossbook":
            assert not row["failed"] and not any(row[w][k] for w in ("value", "gradient") for k in ("zeros", "broken")), row["loss"]


def test_what_the_page_says_in_prose():
    row = lambda peer, loss, gamma=None: next(r for r in RECORD["audited"] if key(r) == (peer, loss, gamma))
    for peer, loss in (("kornia", "binary_focal_loss_with_logits"), ("optax", "sigmoid_focal_loss")):
        assert float(row(peer, loss, 2.0)["value"]["worst"]) < 20
    kornia = row("kornia", "binary_focal_loss_with_logits", 2.0)
    assert float(kornia["gradient"]["worst"]) < 20 and kornia["gradient"]["zeros"] == 0
    assert all(float(low) > 2e38 for spans in kornia["gradient"]["broken_on"].values() for low, _ in spans)
    spans = [span for case in row("optax", "sigmoid_focal_loss", 2.0)["gradient"]["zeros_on"].values() for span in case]
    assert spans and all(28.6 < min(abs(float(v)) for v in span) and max(abs(float(v)) for v in span) < 29.4 for span in spans)
    optax = row("optax", "sigmoid_binary_cross_entropy")
    assert all(float(optax[w]["worst"]) < 9 for w in ("value", "gradient"))
    monai = row("MONAI", "FocalLoss, sigmoid", 2.0)
    assert "y = 1" not in monai["value"]["zeros_on"] and 17.8 < float(monai["gradient"]["zeros_on"]["y = 1"][0][0]) < 18
    for peer, loss in (("MONAI", "FocalLoss, sigmoid"), ("fvcore", "sigmoid_focal_loss")):
        assert all(float(row(peer, loss, 2.0)["sixteen"]["float16"][w]["worst"]) < 0.51 for w in ("value", "gradient"))
        assert set(row(peer, loss, 2.0)["dtypes"].values()) == {"float32"}
    for r in RECORD["audited"]:
        if r["peer"] != "lossbook" and r["formula"] in ("cross-entropy", "softmax focal loss"):
            assert float(r["value"]["worst"]) > 1e6, r["loss"]


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.peer == "PyTorch"], ids=lambda f: f.name)
def test_pytorch_still_does_it(fault):
    known, now = ROWS[fault.name], fault.run()
    news = f"PyTorch {release('PyTorch')}, recorded {known['version']}: {fault.name} was {known['state']!r}, is {now['state']!r}. If it is mended, say so on the page: python tools/peers"
    assert now["state"] == known["state"], news
    for (what, a, b), (_, c, d) in zip(known["rows"], now["rows"], strict=True):
        assert agree(number(c), number(a)) or (number(a) == 0 == number(c)), (news, what, a, c)
        assert agree(number(d), number(b)), (what, b, d)


@pytest.mark.parametrize("entry", [e for e in entries() if e.peer == "PyTorch"], ids=lambda e: e.loss)
def test_pytorch_still_fails_the_same_checks(entry):
    known = next(r for r in RECORD["audited"] if key(r) == (entry.peer, entry.loss, entry.gamma))
    assert set(quick_of(entry)) == set(known["failed"]) & set(QUICK)
    now = errors(make_subject(entry.claim()))
    for what in ("value", "gradient"):
        assert math.isclose(math.log2(float(now[what]["worst"])), math.log2(float(known[what]["worst"])), abs_tol=1)
        assert now[what]["zeros_on"].keys() == known[what]["zeros_on"].keys()
        assert now[what]["broken_on"].keys() == known[what]["broken_on"].keys()
