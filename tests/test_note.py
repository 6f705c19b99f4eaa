"""The page on the note: is every claim there, judged once, quoted once, and does each link lead to the cell that decides?"""
import html
import json
import re
from collections import Counter

import pytest
from pages import ROOT, anchors, cells, dead, links, shown, source, texts

from lossbook.records import VERDICTS, note_claims

PAGE = "nbs/evidence/note.ipynb"
EXPECTED = [f"{letter}{n}" for letter, last in dict(A=10, B=11, C=8, D=7, E=16).items() for n in range(1, last + 1)]
CLAIMS = {c["id"]: c for c in note_claims(ROOT / "nbs/evidence")}
BOOK = [p.relative_to(ROOT).as_posix() for p in sorted((ROOT / "nbs").rglob("*.ipynb"))]


def rows(text):
    "The rows of the page's table, by claim."
    return {m[1].upper(): m[0] for m in re.finditer(r'<tr role="row" id="(\w+)">.*?</tr>', text)}


def test_no_claim_is_missing():
    assert list(CLAIMS) == EXPECTED and len(EXPECTED) == 52
    assert list(rows("\n".join(texts(PAGE)))) == EXPECTED


@pytest.mark.parametrize("number", EXPECTED)
def test_the_row_is_what_the_data_say(number):
    claim, row = CLAIMS[number], rows("\n".join(texts(PAGE)))[number]
    for key in ("claim", "quote", "why"):
        assert claim[key] and html.escape(claim[key]) in row, key
    assert f'<span class="lb-verdict-{claim["verdict"]}">{VERDICTS[claim["verdict"]]}</span>' in row
    [link] = [link for link in links(row)]
    assert link == claim["page"].replace("nbs/", "../").replace(".ipynb", ".html") + f"#note-{number.lower()}"


@pytest.mark.parametrize("number", EXPECTED)
def test_the_link_leads_to_the_cell_that_decides(number):
    "The anchor stands once in the book, in the output of a cell that asserts something or prints what it found."
    wanted = f'id="note-{number.lower()}"'
    found = [(page, cell) for page in BOOK for cell in cells(page) if wanted in shown(cell, "text/html")]
    [(page, cell)] = found
    assert page == CLAIMS[number]["page"]
    decides = "print(" in source(cell) if CLAIMS[number]["verdict"] == "empirical" else re.search(r"\bassert(_close\(| )", source(cell))
    assert decides, source(cell)
    assert html.unescape(CLAIMS[number]["why"]) in shown(cell, "text/html"), "the chapter shows an older text"


def test_a_quotation_stands_in_one_place():
    "In note.json once, and typed in no page: pages print it from there."
    quotes = [c["quote"] for c in CLAIMS.values()]
    assert all(quotes) and not [(a, b) for i, a in enumerate(quotes) for j, b in enumerate(quotes) if i != j and a in b]
    typed = [(page, q) for page in BOOK for cell in cells(page) for q in quotes if q in source(cell)]
    assert not typed, typed


def test_the_summary_counts():
    count, text = Counter(c["verdict"] for c in CLAIMS.values()), "\n".join(texts(PAGE))
    assert set(count) == set(VERDICTS) and f"Of its {len(CLAIMS)} claims {count['true']} are true, {count['half']} are true only" in text
    for verdict, words in VERDICTS.items():
        cells_ = re.search(rf"<tr><th>{words}</th>(.*?)</tr>", text)[1]
        assert [int(n or 0) for n in re.findall(r'<td class="lb-num">(\d*)</td>', cells_)][-1] == count[verdict]


def test_no_link_is_dead():
    assert not [link for text in texts(PAGE) for link in dead(PAGE, text)]


def test_a_dead_link_is_found():
    "The check itself, on links that must fail and on one that must not."
    assert "note-a1" in anchors("nbs/likelihood/bce.ipynb")
    text = '[a](../likelihood/bce.ipynb#note-z9) <a href="../likelihood/gone.html">b</a> [c](../likelihood/bce.ipynb#note-a1) <a href="#tbl-note">d</a>'
    assert dead(PAGE, text) == ["../likelihood/bce.ipynb#note-z9", "../likelihood/gone.html"]
