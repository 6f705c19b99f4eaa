"""The pages as Quarto reads them. Quarto is a program that no registry has; its reader, pandoc, comes in a wheel.

Both renderers are given the same Markdown of a notebook, and the two trees must say the same: every heading with its
anchor, every formula, link, list, table, paragraph and line of code. pandoc must have nothing to warn of.
"""
import difflib
import json
import re
import subprocess

import pytest
import yaml
from browsing import NOTEBOOKS, ROOT, tool
from bs4 import BeautifulSoup, NavigableString

BLOCKS = set("p li h1 h2 h3 h4 h5 h6 td th tr table caption blockquote dl dt dd figure figcaption div ul ol section details".split())
SHOWN = BLOCKS - {"p", "div", "section", "figure", "details"}
# What a renderer adds of its own: tools of code blocks, the words of a callout's head, and drawings.
OWN = "script, style, svg, button, summary, col, colgroup, .callout-header"
INLINE = set("em strong code sup sub del".split())
# Beginnings of labels from which Quarto makes what the notebooks never mean: theorems, equations, sections of its own.
RESERVED = re.compile(r"(eq|sec|lst|thm|lem|cor|prp|cnj|def|exm|exr|sol|rem|alg|nte|tip|wrn|imp|cau)-")


def markdown_of(page):
    "The Markdown that a notebook becomes, after the filter that Quarto runs; outputs in HTML go through both untouched and are left out."
    smalldocs = pytest.importorskip("smalldocs.notebook", reason="smalldocs is not installed: the two renderers were not compared")
    nb = tool("ipynb_filter").clean(json.loads((ROOT / page).read_text(encoding="utf-8")))
    return re.sub(r"^(`{3,})\{=html\}\n.*?^\1$", "", smalldocs.to_markdown(json.dumps(nb))[1], flags=re.M | re.S)


def by_pandoc(text):
    "HTML by Quarto's reader, and its warnings."
    pypandoc = pytest.importorskip("pypandoc", reason="pandoc is not installed: nothing was read as Quarto reads it")
    command = [pypandoc.get_pandoc_path(), "--from=markdown", "--to=html", "--mathjax", "--wrap=none", "--syntax-highlighting=none"]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=True)
    return done.stdout.decode(), done.stderr.decode()


def by_smalldocs(text):
    from smalldocs.markdown import render
    return render(text, {})


def said(html):
    "What a tree says, a block a line; blocks that only group leave no line."
    tree, lines, words = BeautifulSoup(html, "html.parser"), [], []
    for tag in tree.select(OWN): tag.decompose()

    def end():
        if text := " ".join("".join(words).split()): lines.append(text)
        words.clear()

    def walk(tag):
        for child in tag.children:
            if type(child) is NavigableString: words.append(str(child)); continue
            name = child.name
            if name is None: continue
            if "math" in child.get("class", []): words.append(f" {child.get_text()[:2]} {child.get_text()[2:-2]} {child.get_text()[-2:]} ")
            elif name == "pre": end(); lines.append(child.get_text().rstrip())
            elif name == "a" and child.get("href"): words.append(f"[{child['href']}]("); walk(child); words.append(")")
            elif name in INLINE: words.append(f"<{name}>"); walk(child); words.append(f"</{name}>")
            elif "citation" in child.get("class", []): words.append(f"citation {child.get_text()}")
            elif name == "img": words.append(f"image {child.get('src')}")
            elif name in BLOCKS:
                end()
                anchor = child.get("id") or (child.parent.get("id") if child.parent.name == "section" else None)
                if name in SHOWN: lines.append(f"<{name}>" if name[0] != "h" else f"<{name} {anchor}>")
                walk(child); end()
            else:
                if name == "br": words.append(" ")
                walk(child)
    walk(tree); end()
    return lines


def differences(text):
    "What pandoc warns of, and where the two readers part."
    html, warnings = by_pandoc(text)
    parts = difflib.unified_diff(said(html), said(by_smalldocs(text)), "pandoc", "smalldocs", n=0, lineterm="")
    return warnings.splitlines() + [line[:300] for line in parts if not line.startswith("@@")]


def test_a_wide_table_keeps_the_widths_of_a_browser():
    "pandoc gives a table with a line of over 72 characters columns as wide as its dashes, equal ones here; Quarto keeps them unless told."
    wide = "| a | b |\n|---|---|\n| 1 | " + "words " * 20 + "|\n"
    assert "width: 50%" in by_pandoc(wide)[0]
    assert yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))["tbl-colwidths"] is False


def meant(text):
    "What means more to Quarto than to its reader: shortcodes, and labels that it takes for its own."
    labels = re.findall(r"[{\s]#([\w-]+)[^}\n]*\}", text)
    return [f"a shortcode: {found}" for found in re.findall(r"\{\{<.*", text)] + [f"a label of Quarto's own: {label}" for label in labels if RESERVED.match(label)]


def forms(page):
    "Outputs of which the two might choose another form."
    for n, cell in enumerate(json.loads((ROOT / page).read_text(encoding="utf-8"))["cells"]):
        for out in cell.get("outputs", []):
            rich = sorted(out.get("data", {}).keys() - {"text/plain"})
            if len(rich) > 1: yield f"cell {n}: an output in {len(rich)} forms: {', '.join(rich)}"


@pytest.mark.parametrize("page", [nb.as_posix() for nb in NOTEBOOKS])
def test_quartos_reader_sees_what_the_embedded_one_shows(page):
    text = markdown_of(page)
    found = [*differences(text), *meant(text), *forms(page)]
    assert not found, "\n".join(found[:40])


@pytest.mark.parametrize("text", [
    "Some words\n- one\n- two\n", "| a | b |\n|---|---|\n| `x|y` | 1 |\n", "<div>\n*words*\n</div>\n", "| a line\n| another\n",
    r"\begin{align}x\end{align}", "::: {.callout-note}\nwords\n", "[words]\n\n[words]: a.html\n[words]: b.html\n", "As in [@lin2017].\n",
], ids=["list without a blank line", "bar in code", "Markdown in HTML", "line block", "bare TeX", "open div", "link with two meanings", "citation"])
def test_a_page_that_the_two_would_read_otherwise_is_found(text):
    assert differences(text)


@pytest.mark.parametrize("text", ["$$x$$ {#eq-loss}\n", "::: {#thm-one .theorem}\nwords\n:::\n", "{{< include other.md >}}\n"])
def test_what_only_quarto_would_act_on_is_found(text):
    assert meant(text)
