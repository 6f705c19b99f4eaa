"""Pages that are made from claims and data: is everything there, computed and not typed, and does every link lead somewhere?"""
import json
import re

import pytest
import sympy as sp
import torch
import yaml
from conftest import CLAIMS
from pages import ROOT, anchors, cells, dead, shown, slug, source, texts

from lossbook.records import Table

CATALOGUE, GLOSSARY, REFERENCES = (f"nbs/evidence/{name}.ipynb" for name in ("catalogue", "glossary", "references"))
LEDGER = json.loads((ROOT / "nbs/evidence/records/ledger.json").read_text())["result"]["rows"]


def block(name):
    "What the catalogue says of one loss, name by name."
    text = "\n".join(texts(CATALOGUE))
    body = re.search(rf'<h3 id="{name}">.*?<dl class="lb-card">(.*?)</dl>', text, re.S)[1]
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", body, re.S))


@pytest.mark.parametrize("page", [CATALOGUE, GLOSSARY, REFERENCES])
def test_no_link_is_dead(page):
    assert not [link for text in texts(page) for link in dead(page, text)]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.name)
def test_the_catalogue_has_the_loss(claim):
    facts = block(claim.name)
    assert claim.name in anchors(CATALOGUE) and f'href="#{claim.name}"' in "\n".join(texts(CATALOGUE))
    assert claim.module.__name__ in facts["name, module"] and claim.spec.name in facts["name, module"]
    loss = re.sub(r"\\begin\{aligned\}&amp;|\\end\{aligned\}| \\\\ &amp;\\quad\{\}", "", facts["loss"])  # a wide sum has its terms on lines
    assert sp.latex(claim.spec.expression).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in loss
    assert {"derivative", "convex", "proper", "Lipschitz constant", "domain and range", "labels"} <= set(facts)
    assert (facts["in PyTorch"] == "none") == (claim.torch is None)
    settings = {}
    for r in LEDGER:
        if (r["who"], r["name"], r["dtype"]) == ("lossbook", claim.name, "float32"): settings.setdefault(r["set"], []).append(r)
    def most(rows, what): return max(s["worst"] for r in rows for s in r[what].values())
    worst = {f'{most(rows, "value"):.2f} / {most(rows, "gradient"):.2f}' for rows in settings.values()} or {"nothing yet"}
    assert re.search(r"measured (.+?)(?: ulp)?,", facts["error in float32"])[1] in worst
    assert claim.chapter.replace("nbs/", "../").replace(".ipynb", ".html") in facts["more"]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.name)
def test_the_labels_are_those_that_the_loss_takes(claim):
    "A soft label is refused or gives another number than both hard ones."
    row, soft, hard = torch.tensor([[0.2, 0.5, 0.7]]), torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[1.0, 0.0, 0.0]])
    if "shares" in block(claim.name)["labels"]:
        assert claim.loss(row, soft, **claim.options) != claim.loss(row, hard, **claim.options)
    else:
        with pytest.raises((TypeError, ValueError)): claim.loss(row, soft, **claim.options)


def test_twins_are_those_of_the_conversions():
    moves = json.loads((ROOT / "nbs/evidence/names.json").read_text(encoding="utf-8"))
    for m in moves:
        if m["peer"] != "PyTorch": assert m["peer"] in block(re.match(r"lossbook\.(\w+)", m["here"])[1])["elsewhere"]


def test_every_symbol_of_a_formula_is_explained():
    text = "\n".join(texts(GLOSSARY))
    for claim in CLAIMS:
        for symbol, meaning in (claim.spec.variables | claim.spec.targets | claim.spec.parameters).items():
            assert re.search(rf"\\\({re.escape(sp.latex(symbol))}\\\)</span></td><td[^>]*>{re.escape(meaning)}</td>", text), (claim.name, symbol)


def test_words_are_in_order():
    [words] = [source(c).partition("## Words\n")[2] for c in cells(GLOSSARY) if "## Words\n" in source(c)]
    heads = re.findall(r"^- \*\*(.+?)\.\*\* \S", words, re.M)
    assert len(heads) > 25 and heads == sorted(heads, key=str.lower) and words.count("\n- ") == len(heads)


def test_how_to_cite_is_what_the_file_says():
    cite, text = yaml.safe_load((ROOT / "CITATION.cff").read_text()), "\n".join("".join(out.get("text", [])) for c in cells(REFERENCES) for out in c.get("outputs", []))
    for value in (cite["title"], cite["version"], cite["repository-code"], cite["license"], cite["authors"][0]["name"]): assert value in text
    linked = re.findall(r"blob/main/([\w.]+)", "\n".join(texts(REFERENCES)))
    assert {"CHANGELOG.md", "LICENSE"} <= set(linked) and all((ROOT / name).is_file() for name in linked)


def test_headings_have_the_anchors_of_the_renderer():
    assert slug("## 9. Logits where `probabilities` belong".lstrip("# ")) == "logits-where-probabilities-belong" and slug("Which loss?") == "which-loss"


def test_a_table_refuses_rows_of_another_length():
    with pytest.raises(ValueError, match="2 cells"): Table(("a", "b"), [["x", "y"], ["z"]])
    with pytest.raises(ValueError, match="anchor"): Table(("a", "b"), [["x", "y"], ["z", "u"]], anchors=["one"])


def test_a_card_names_its_cells():
    html = Table(("loss", "error"), [["focal", (0.5, "½")]], bare=(0,))._repr_html_()
    assert '<td role="cell">focal</td>' in html and '<td role="cell" data-sort="0.5" data-head="error">½</td>' in html
    css = (ROOT / "styles.css").read_text()
    assert "lb-cards td[data-head]::before" in css and 'class="lb-sort lb-cards"' in html
    assert shown({"outputs": [{"data": {"text/html": [html]}}]}, "text/html") == html
