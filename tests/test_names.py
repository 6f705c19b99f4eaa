"""Names that clash: does each conversion give the number of the other library?

The libraries are not installed here. What they computed is a record, made by `python tools/peers --names` from the same
file; here the calls on this side are executed, and the record is held to that file.
"""
import json
import re

import pytest
import torch
from pages import ROOT, cells, dead, source, texts

import lossbook

PAGE = "nbs/evidence/names.ipynb"
MOVES = {row["id"]: row for row in json.loads((ROOT / "nbs/evidence/names.json").read_text(encoding="utf-8"))}
RECORD = json.loads((ROOT / "nbs/evidence/records/names.json").read_text())["result"]
LIBRARIES = {"PyTorch", "torchvision", "kornia", "MONAI", "smp", "mmdetection", "Keras", "optax", "bert4torch", "timm", "PML"}


@pytest.fixture
def tool(monkeypatch):
    "tools/peers/names.py, which needs none of the libraries to be read."
    monkeypatch.syspath_prepend(str(ROOT / "tools/peers"))
    import names
    return names


def test_the_record_is_of_these_conversions(tool):
    assert RECORD["source"] == tool.source(), "make it anew: python tools/peers --names"
    assert set(RECORD["moves"]) == set(MOVES) and {row["peer"] for row in MOVES.values()} >= LIBRARIES


@pytest.mark.parametrize("name", MOVES)
def test_both_calls_gave_one_number(name):
    assert RECORD["moves"][name]["off"] < 1e-6


@pytest.mark.parametrize("name", [n for n, row in MOVES.items() if row["peer"] == "PyTorch"])
def test_pytorch_again(name, tool):
    "The one library that is always here."
    assert tool.off(MOVES[name]) < 1e-12


def test_a_wrong_conversion_is_found(tool):
    "The mean over one-hot rows without its denominator, and a loss that is not reduced."
    row = MOVES["torch-soft-mean"]
    assert tool.off({**row, "here": row["here"].replace(", normalizer=N", "")}) > 0.01
    assert tool.off({**row, "here": row["here"].replace("normalizer=N", "reduction='none'")}) == float("inf")


@pytest.mark.parametrize("name", MOVES)
def test_the_call_here_differentiates(name, tool):
    values = tool.example(0)
    first = values["emb" if "emb" in MOVES[name]["here"] else "s"].requires_grad_()
    loss = eval(MOVES[name]["here"], {"lossbook": lossbook, "torch": torch, **values})
    [slope] = torch.autograd.grad(loss.sum(), first)
    assert slope.isfinite().all() and slope.any()


def test_every_conversion_stands_on_the_page():
    text = "\n".join(texts(PAGE))
    for name, row in MOVES.items():
        assert f'<tr role="row" id="{name}">' in text
        [cell] = [c for c in cells(PAGE) if c["cell_type"] == "code" and f'moved("{name}"' in source(c)]
        printed = "".join("".join(out.get("text", [])) for out in cell["outputs"])
        assert f"there  {row['there']}\nhere   {row['here']}" in printed
    for word in ("α", "γ", "`pos_weight`", "smoothing ε", "multiclass", "mean"): assert re.search(rf"^- \*\*{re.escape(word)}\*\*", text, re.M), word


def test_no_link_is_dead():
    assert not [link for text in texts(PAGE) for link in dead(PAGE, text)]
