"""The site: the notebook filter, the finishing step, and every page as a browser shows it.

The browser is Debian's Chromium, driven by Playwright and cut off from the network. Every page is opened once over
http; desktop and phone, light and dark are then looked at in turn, and their pictures go to `_artifacts/screens/`.
"""
import functools
import html.parser
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
import yaml
from browsing import DESKTOP, NOTEBOOKS, PAGES, PHONE, ROOT, SCREENS, contact_sheet, opened, tool, violations
from pages import book_order

# The notebook filter

def code_cell(source, *outputs): return dict(cell_type="code", metadata={}, source=source, outputs=list(outputs))


def filtered(*cells, **metadata):
    "What Quarto receives: the filter is run as Quarto runs it."
    nb = dict(cells=list(cells), metadata=metadata, nbformat=4, nbformat_minor=5)
    done = subprocess.run([sys.executable, ROOT / "tools/ipynb_filter.py"], input=json.dumps(nb).encode(), stdout=subprocess.PIPE, check=True, env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    return json.loads(done.stdout)


@pytest.mark.parametrize("line", ["#| export", "#|export", "# | exporti", "#| hide", "#| exports", "#| default_exp foundations.exact", "#| export lossbook.core"])
def test_filter_drops_a_directive(line):
    [cell] = filtered(code_cell([f"{line}\n", "x = 1"]))["cells"]
    assert cell["source"] == ["x = 1"]


@pytest.mark.parametrize("line", ["#| eval: false", "#| label: fig-x", "#| fig-cap: What we export", "#| echo: false", "#| export: true", "#|   hidden words of a folded value"])
def test_filter_keeps_an_option(line):
    [cell] = filtered(code_cell([f"{line}\n", "x = 1"]))["cells"]
    assert cell["source"] == [f"{line}\n", "x = 1"]


def test_filter_looks_only_at_the_head_of_code_cells():
    code, text = ["x = 1\n", "#| export\n"], "Write `#| export` first:\n#| export\n"
    kept = filtered(code_cell(code), dict(cell_type="markdown", metadata={}, source=text))["cells"]
    assert kept[0]["source"] == code and "".join(kept[1]["source"]) == text


def test_filter_drops_the_cells_it_empties():
    shown = dict(output_type="stream", name="stdout", text="1\n")
    kept = filtered(code_cell("#| default_exp exact"), code_cell(""), code_cell("#| hide\n", shown))["cells"]
    assert [cell["outputs"] for cell in kept] == [[{**shown, "text": ["1\n"]}]]


def test_filter_gives_quarto_lists_of_lines():
    out = dict(output_type="display_data", data={"text/markdown": "ℓ\n\n$$x$$\n", "image/png": "aGk=\n", "application/json": {"a": 1}})
    [cell] = filtered(code_cell("a = 1\nb = 2", out))["cells"]
    assert cell["source"] == ["a = 1\n", "b = 2"]
    assert cell["outputs"][0] == dict(output_type="display_data", metadata={}, data={"text/markdown": ["ℓ\n", "\n", "$$x$$\n"], "image/png": "aGk=\n", "application/json": {"a": 1}})


def test_filter_names_the_language():
    assert filtered(kernelspec=dict(name="other"))["metadata"]["kernelspec"] == dict(name="other", display_name="Python 3", language="python")


# The notebooks, as both renderers need them

OPTION = re.compile(r"#\| [\w-]+: \S")


@pytest.mark.parametrize("path", [nb.as_posix() for nb in NOTEBOOKS])
def test_cells_suit_both_renderers(path):
    "smalldocs reads an option only on one line and apart from nbdev's; Quarto puts the words of fig-alt between single quotes."
    directive, bad = tool("ipynb_filter").DIRECTIVE, []
    for n, cell in enumerate(json.loads((ROOT / path).read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] != "code": continue
        lines = "".join(cell["source"]).splitlines()
        head = lines[:next((i for i, line in enumerate(lines) if not line.startswith("#|")), len(lines))]
        own = [line for line in head if not directive.match(line)]
        options = dict(re.match(r"#\|\s*([\w-]+):\s*(.*)", line).groups() for line in own if OPTION.match(line))
        if len(options) < len(own): bad.append(f"cell {n}: an option is not on one line, as `#| key: value`")
        try: yaml.safe_load("\n".join(line.removeprefix("#|").strip() for line in own))
        except yaml.YAMLError as error: bad.append(f"cell {n}: the options are no YAML, and all of them are lost: {error}")
        shows = cell["outputs"] or "".join(lines[len(head):]).strip()
        if shows and options.keys() - {"eval"} and len(own) < len(head): bad.append(f"cell {n}: an nbdev directive stands beside an option")
        svgs = ["".join(out["data"]["image/svg+xml"]) for out in cell["outputs"] if "image/svg+xml" in out.get("data", {})]
        if svgs and options.get("include") != "false":
            missing = {"label", "fig-cap", "fig-alt"} - options.keys()
            if missing: bad.append(f"cell {n}: a figure without {', '.join(sorted(missing))}")
            if not options.get("label", "fig-").startswith("fig-"): bad.append(f"cell {n}: a figure's label begins with fig-")
            if re.search(r"['\\$]", options.get("fig-alt", "").strip("\"'")): bad.append(f"cell {n}: fig-alt is plain words, no apostrophe and no TeX")
            if not all(svg.lstrip().startswith("<svg") for svg in svgs): bad.append(f"cell {n}: a picture must begin with <svg, else smalldocs loses its fig-alt")
    assert not bad, f"{path}\n  " + "\n  ".join(bad)


@pytest.mark.parametrize("path", [nb.as_posix() for nb in NOTEBOOKS])
def test_no_word_of_a_figure_has_the_colour_of_the_paper(path):
    "The paper is transparent in the dark, and a word drawn in it is gone."
    paper, gone = re.search(r"--fig-paper: (#[0-9a-f]{6});", (ROOT / "styles.css").read_text())[1], []
    for n, cell in enumerate(json.loads((ROOT / path).read_text(encoding="utf-8"))["cells"]):
        for out in cell.get("outputs", []):
            svg = "".join(out.get("data", {}).get("image/svg+xml", []))
            gone += [f"cell {n}: {m[1]}" for m in re.finditer(rf'id="text_\d+">\s*<!-- (.*?) -->\s*<g style="fill: {paper}', svg)]
    assert not gone, gone


# The finishing step, on pages as each renderer writes them

SVG = '''<?xml version="1.0"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x.dtd">
<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="432pt" height="288pt" viewBox="0 0 432 288" xmlns="http://www.w3.org/2000/svg" version="1.1">
<metadata>made by a program</metadata><defs><style type="text/css">*{stroke-linejoin: round}</style><path id="m1" style="stroke: #0067a5"/></defs>
<g clip-path="url(#p1)"><use xlink:href="#m1" style="fill: #1F2328; stroke: #abcdef"/></g><clipPath id="p1"/></svg>'''

QUARTO = '''<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" lang="en" xml:lang="en"><head><title>A page – lossbook</title>
<link href="../site_libs/bootstrap/bootstrap-abc.min.css" rel="stylesheet" class="quarto-color-scheme">
<script src="https://cdnjs.cloudflare.com/ajax/libs/require.js/2.3.6/require.min.js" integrity="sha512-x" crossorigin="anonymous"></script>
<script src="https://cdnjs.cloudflare.com/ajax/libs/jquery/3.5.1/jquery.min.js" integrity="sha512-y" crossorigin="anonymous" data-relocate-top="true"></script>
<script type="application/javascript">define('jquery', [],function() {return window.jQuery;})</script>
<script src="https://cdnjs.cloudflare.com/polyfill/v3/polyfill.min.js?features=es6"></script>
<script src="https://cdn.jsdelivr.net/npm/mathjax@3/es5/tex-chtml-full.js" type="text/javascript"></script>
<script type="text/javascript">const typesetMath = (el) => { if (window.MathJax) window.MathJax.typeset([el]); }; window.Quarto = { typesetMath };</script>
</head><body class="nav-sidebar floating nav-fixed quarto-light"><main class="content" id="quarto-document-content">
<h1 class="title">A page</h1><p>So <span class="math inline">\\(x\\)</span>.</p>
<div id="fig-x" class="quarto-float quarto-figure quarto-figure-center anchored" alt="A &quot;falling&quot; curve">
<figure class="quarto-float quarto-float-fig figure"><div aria-describedby="fig-x-caption-0ceaefa1-69ba-4598-a22c-09a6ac19f8ca">
<img src="page_files/figure-html/fig-x-output-1.svg" class="img-fluid figure-img" alt="A &quot;falling&quot; curve"></div>
<figcaption class="quarto-float-caption-bottom quarto-float-caption quarto-float-fig" id="fig-x-caption-0ceaefa1-69ba-4598-a22c-09a6ac19f8ca">Figure&nbsp;1: The loss.</figcaption></figure></div>
<div class="cell-output"><figure class="figure"><p><img src="page_files/figure-html/cell-2-output-1.svg" class="img-fluid figure-img"></p><figcaption>The <em>same</em>.</figcaption></figure></div>
<table class="caption-top table"><caption>All losses</caption><tbody><tr><td>1</td></tr></tbody></table>
<div id="cell-4" class="cell"><div class="sourceCode cell-code" id="cb1"><pre class="sourceCode python code-with-copy"><code class="sourceCode python"><span id="cb1-1"><a href="#cb1-1" aria-hidden="true" tabindex="-1"></a><span class="kw">def</span> twice(x):</span>
<span id="cb1-2"><a href="#cb1-2" aria-hidden="true" tabindex="-1"></a>    <span class="st">"Two &lt; three."</span></span>
<span id="cb1-3"><a href="#cb1-3" aria-hidden="true" tabindex="-1"></a>    <span class="cf">return</span> <span class="dv">2</span> <span class="op">*</span> x</span></code><button title="Copy to Clipboard" class="code-copy-button"><i class="bi"></i></button></pre></div></div>
<div id="cell-5" class="cell"><div class="code-copy-outer-scaffold"><div class="sourceCode cell-code" id="cb2"><pre class="sourceCode python code-with-copy"><code class="sourceCode python"><span id="cb2-1"><a href="#cb2-1" aria-hidden="true" tabindex="-1"></a><span class="cf">assert</span> twice(<span class="dv">2</span>) <span class="op">==</span> <span class="dv">4</span></span></code></pre></div><button title="Copy to Clipboard" class="code-copy-button"><i class="bi"></i></button></div></div>
<details class="code-fold"><summary>The code that draws</summary><div class="sourceCode cell-code" id="cb3"><pre class="sourceCode python code-with-copy"><code class="sourceCode python"><span id="cb3-1">draw()</span></code></pre></div></details>
</main></body></html>'''

SMALLDOCS = '''<!DOCTYPE html><html lang="en"><head><title>A page</title>
<link rel="stylesheet" href="https://cdn.jsdelivr.net/npm/katex@0.16.11/dist/katex.min.css"><script src="https://cdn.jsdelivr.net/npm/katex@0.16.11/dist/katex.min.js" defer></script>
<script src="https://cdn.jsdelivr.net/npm/katex@0.16.11/dist/contrib/auto-render.min.js" defer></script></head><body><main class="content">
<figure class="figure"><p><svg alt="Falling" width="432pt" height="288pt" viewBox="0 0 432 288"><defs><style>*{a: b}</style></defs><path id="m1" style="fill: #fefefe"/></svg></p>
<figcaption>With $\\gamma = 2$.</figcaption></figure><p><span class="math display">\\[x\\]</span></p>
<header id="title-block-header" class="quarto-title-block default"><div class="quarto-title"><h1 class="title">A page</h1></div></header>
<div id="cell-4" class="cell">
<div class="code-copy-outer-scaffold"><div class="sourceCode" id="cb1"><pre class="sourceCode python code-with-copy cell-code"><code class="sourceCode python"><span class="kw">def</span> <span class="fu">twice</span>(x):
    <span class="st">&quot;</span><span class="st">Two &lt; three.</span><span class="st">&quot;</span>
    <span class="cf">return</span> <span class="dv">2</span> <span class="op">*</span> x</code></pre></div><button title="Copy to Clipboard" class="code-copy-button"><i class="bi"></i></button></div>
</div>
<div class="code-copy-outer-scaffold"><div class="sourceCode" id="cb2"><pre class="sourceCode python code-with-copy cell-code"><code class="sourceCode python"><span class="cf">assert</span> twice(<span class="dv">2</span>) == 4</code></pre></div><button title="Copy to Clipboard" class="code-copy-button"><i class="bi"></i></button></div>
<details class="code-fold">
<summary>The code that draws</summary>
<div class="code-copy-outer-scaffold"><div class="sourceCode" id="cb3"><pre class="sourceCode python code-with-copy cell-code"><code class="sourceCode python">draw()</code></pre></div><button title="Copy to Clipboard" class="code-copy-button"><i class="bi"></i></button></div>
</details></main></body></html>'''


@pytest.fixture
def finished(tmp_path, monkeypatch):
    "Finish one page in a small site; the local MathJax is a stand-in, or absent."
    finish = tool("finish_site")
    monkeypatch.setattr(finish, "ROOT", tmp_path)
    (tmp_path / "styles.css").write_text((ROOT / "styles.css").read_text())

    def run(page, mathjax=True, times=1, notebook=None):
        if notebook:   # the notebook that the page was made from, and the module that it exports
            for name, text in {"nbs/page.ipynb": json.dumps(dict(cells=notebook)), "lossbook/page.py": 'def twice(x):\n    "Two < three."\n    return 2 * x  # as said\n'}.items():
                (tmp_path / name).parent.mkdir(exist_ok=True)
                (tmp_path / name).write_text(text)
        for name, text in {"nbs/page.html": page, "nbs/page_files/figure-html/fig-x-output-1.svg": SVG, "nbs/page_files/figure-html/cell-2-output-1.svg": SVG,
                           "site_libs/bootstrap/b.css": '@import url(https://fonts.example/css2?family=A:wght@300;400&display=swap);@import "https://fonts.example/b.css";a{b:c}',
                           "search.json": '[{"text": "</script>"}]'}.items():
            (tmp_path / "_site" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "_site" / name).write_text(text, encoding="utf-8")
        (tmp_path / "es5").mkdir(exist_ok=True)
        (tmp_path / "es5/tex-svg-full.js").write_text("MathJax")
        monkeypatch.setattr(finish, "find_mathjax", lambda: tmp_path if mathjax else None)
        for _ in range(times): finish.main(tmp_path / "_site")
        return (tmp_path / "_site/nbs/page.html").read_text(encoding="utf-8")
    return run


@pytest.mark.parametrize("page", [QUARTO, SMALLDOCS], ids=["quarto", "smalldocs"])
def test_finishing_leaves_nothing_external(finished, page, tmp_path):
    text = finished(page)
    assert not re.findall(r'(?:src|href)="https?:', text)
    assert 'src="../site_libs/mathjax/tex-svg-full.js"' in text and (tmp_path / "_site/site_libs/mathjax/tex-svg-full.js").is_file()
    assert (tmp_path / "_site/site_libs/bootstrap/b.css").read_text() == "a{b:c}"
    assert "</script>" not in (tmp_path / "_site/search.js").read_text()


@pytest.mark.parametrize("page", [QUARTO, SMALLDOCS], ids=["quarto", "smalldocs"])
@pytest.mark.parametrize("mathjax", [True, False])
def test_finishing_twice_changes_nothing(finished, page, mathjax):
    once = finished(page, mathjax)
    finish = tool("finish_site")
    out = ROOT / "_site"
    again = finish.finish(once, out / "nbs", out, finish.palette((ROOT / "styles.css").read_text()), mathjax)
    assert again == once


def test_without_mathjax_the_cdn_stays(finished, capsys):
    text = finished(QUARTO, mathjax=False)
    assert "mathjax@3" in text and "tex-svg-full" not in text
    assert "not installed" in capsys.readouterr().out


def test_quarto_figures_come_into_the_page(finished):
    text = finished(QUARTO)
    assert "<img" not in text and " alt=" not in text and "<metadata" not in text and "<?xml" not in text
    assert 'role="img" aria-label="A &quot;falling&quot; curve"' in text and 'aria-label="The same ."' in text
    assert "var(--fig-blue)" in text and "var(--fig-ink)" in text and "#abcdef" in text
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids)), "two figures of one page share an id"
    assert all(f'id="{ref}"' in text for ref in re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    assert "#lb-fig-1 *{stroke-linejoin: round}" in text, "a figure's style reaches the page"


def test_pictures_lose_only_what_no_screen_shows():
    light = tool("finish_site").lighter
    assert light('<path d="M 1.234567 -0.001234 \nL 10.5 -20.999"/><use x="3.14159" transform="translate(0.125678 7) scale(0.015625)"/>') == '<path d="M 1.23 0 \nL 10.5 -21"/><use x="3.14" transform="translate(0.13 7) scale(0.015625)"/>'
    assert light('<g id="v1.23456" style="stroke-width: 0.12345; stroke-dasharray: 7.999,3.001"/>') == '<g id="v1.23456" style="stroke-width: 0.12345; stroke-dasharray: 7.999,3.001"/>'


def test_smalldocs_captions_and_names(finished):
    text = finished(SMALLDOCS)
    assert '<span class="math inline">\\(\\gamma = 2\\)</span>' in text
    assert 'aria-label="Falling"' in text and " alt=" not in text


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("own, captions", [("", 1), ("<figcaption>Table 1: Of `n`.</figcaption>", 0), ('<p class="lb-caption">Of n.</p>', 0)], ids=["none", "Quarto's", "there"])
def test_a_table_of_markdown_gets_its_caption(finished, own, captions, times):
    "Once, and not where the renderer has set it."
    cell = code_cell("#| label: tbl-x\n#| tbl-cap: Of `n` < 3, with $a_1$.\nMarkdown(text)")
    table = f'<div id="tbl-x" class="cell">{own}<table class="t"><tbody><tr><td>1</td></tr></tbody></table></div></main>'
    text = finished(SMALLDOCS.replace("</main>", table), times=times, notebook=[cell])
    assert text.count('Of <code>n</code> &lt; 3, with <span class="math inline">\\(a_1\\)</span>.</p><div class="lb-scroll"') == captions


@pytest.mark.parametrize("page", PAGES)
def test_every_caption_is_on_its_page(site, page):
    notebook = (ROOT / page).with_suffix(".ipynb")
    plain = lambda text: re.sub(r"\W+", "", re.sub(r"<[^>]+>", "", html.unescape(text)))
    words = plain((site / page).read_text(encoding="utf-8"))
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for caption in re.findall(r"^#\| (?:fig|tbl)-cap: (.+)$", "".join(cell["source"]), re.M):
            assert plain(re.split(r"[$`*[]", caption)[0])[:60] in words, caption


@pytest.mark.parametrize("times", [1, 2])
def test_paper_gets_the_addresses_that_the_words_hide(finished, times):
    links = '<p><a href="https://a.example/?x=1&amp;y=2">A paper</a> <a class="uri" href="https://b.example/">https://b.example/</a> <a href="c.html">c</a></p><table'
    text = finished(SMALLDOCS.replace('<header id', links.removesuffix("<table") + "<header id"), times=times)
    assert '<a data-print href="https://a.example/?x=1&amp;y=2">A paper</a>' in text and text.count("data-print") == 1


def test_tables_get_a_box(finished):
    assert '<div class="lb-scroll" role="region" tabindex="0" aria-label="All losses"><table' in finished(QUARTO)


@pytest.mark.parametrize("page", [QUARTO, SMALLDOCS], ids=["quarto", "smalldocs"])
def test_a_table_of_arguments_keeps_its_own_name(finished, page):
    "Each is a region of its own for a screen reader, so each has another name."
    from lossbook.docstrings import Entry
    names = "lossbook.cross_entropy", "lossbook.lsep_loss", "lossbook.LinearLoss"
    text = finished(page.replace("</main>", "".join(Entry(n)._repr_html_() for n in names) + "</main>"))
    labels = [m[1] for m in re.finditer(r'<div class="lb-scroll" role="region" tabindex="0" aria-label="([^"]+)"><table class="lb-cards lb-args"', text)]
    assert labels == [f"Arguments of {n}" for n in ("lossbook.cross_entropy", "lossbook.lsep_loss", "lossbook.LinearLoss to build it", "lossbook.LinearLoss to call it")]
    assert 'id="lossbook.cross_entropy.label_smoothing"' in text and "<p class=\"lb-caption\">Arguments" not in text


NOTEBOOK = [code_cell("#| default_exp page"), code_cell('#| export\ndef twice(x):\n    "Two < three."\n    return 2 * x'),
            dict(cell_type="markdown", source="## Checks"), code_cell("assert twice(2) == 4"), code_cell("#| code-fold: true\n#| code-summary: The code that draws\ndraw()")]
PRINTED = dict(output_type="stream", name="stdout", text="4\n")


@pytest.mark.parametrize("page", [QUARTO, SMALLDOCS], ids=["quarto", "smalldocs"])
@pytest.mark.parametrize("times", [1, 2])
def test_code_folds_once_and_whole(finished, page, times):
    "A chapter: the exported code stays, the check is folded, what was folded stays as it was."
    text = finished(page, notebook=NOTEBOOK, times=times)
    folds = re.findall(r'<details class="code-fold[^>]*>\s*<summary>(.*?)</summary>(.*?)</details>', text, re.S)
    assert [words for words, _ in folds] == ["The check (1 line)", "The code that draws"]
    assert all(block.count("<div") == block.count("</div>") and block.count("<pre") == 1 for _, block in folds)
    assert text.count("<div") == text.count("</div>")


@pytest.mark.parametrize("page", [QUARTO, SMALLDOCS], ids=["quarto", "smalldocs"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_page_leads_to_its_notebook_and_source(finished, page, times, tmp_path):
    text, site = finished(page, notebook=NOTEBOOK, times=times), tmp_path / "_site"
    assert text.count('class="lb-tools"') == 1 and re.search(r'<h1 class="title">A page</h1>(?:</div></header>)?<!-- lossbook --><div class="lb-tools"', text)
    assert 'href="page.ipynb" download' in text and (site / "nbs/page.ipynb").read_text() == (tmp_path / "nbs/page.ipynb").read_text()
    assert "<code>jupyter lab nbs/page.ipynb</code>" in text
    assert 'href="../source/page.html">Source: lossbook/page.py' in text
    source = (site / "source/page.html").read_text()
    assert 'href="../nbs/page.html">A page</a>' in source and 'id="twice"' in source and '<span class="c"># as said</span>' in source
    shown = re.search(r"<pre><code>(.*)</code></pre>", source, re.S)[1].replace('</span><span class="line"', '</span>\n<span class="line"')
    assert tool("finish_site").html.unescape(re.sub(r"<[^>]+>", "", shown)) + "\n" == (tmp_path / "lossbook/page.py").read_text()


def test_code_that_is_not_found_stays_open_and_is_named(finished, capsys):
    "A renderer that writes code in another way costs the folds, not the site."
    text = finished(QUARTO.replace("twice(<", "thrice(<"), notebook=NOTEBOOK)
    assert "not folded, since it is not in the page: The check" in capsys.readouterr().out and "<summary>The check" not in text


@pytest.mark.parametrize("page", PAGES)
def test_all_that_should_be_folded_is_found_in_the_page(site, page, capsys):
    finish, main = tool("finish_site"), re.search(r"<main\b.*</main>", (site / page).read_text(encoding="utf-8"), re.S)[0]
    assert finish.fold_code(main, (ROOT / page).with_suffix(".ipynb")) == main, "a fold is missing"
    assert "not folded" not in capsys.readouterr().out


def test_a_page_without_a_module_has_no_source(finished):
    assert "Source:" not in finished(QUARTO, notebook=NOTEBOOK[1:])


@pytest.mark.parametrize("source, outputs, section, subject, words", [
    ("#| export\ndef loss(x): return x", [], "Implementation", True, None),
    ("#| export\ndef loss(x): return x", [], "Implementation", False, "The code: <code>loss</code> (1 line)"),
    ("#| export\ndef _kernel(x): return x\ndef loss(x): return x", [], "Implementation", True, "The code: <code>loss</code>, <code>_kernel</code> (2 lines)"),
    ("#| export\ndef loss(x):\n" + "    x = x\n" * 19, [], "Implementation", True, "The code: <code>loss</code> (20 lines)"),
    ("#| export\ndef loss(x):\n" + "    x = x\n" * 18, [], "Implementation", True, None),
    ("#| export\ndef reference(x): return x", [], "Checks", True, "The code: <code>reference</code> (1 line)"),
    ("#| export\nimport torch\nfrom torch import Tensor", [], "", True, "Imports (2 lines)"),
    ("x = 1\nassert loss(x) == 1", [], "", True, "The check (2 lines)"),
    ("torch.testing.assert_close(a, b)", [], "", True, "The check (1 line)"),
    ("assert loss(1) == 1\nprint(loss(2))", [PRINTED], "", True, None),
    ("x = loss(1)\nassert x == 1", [], "In use", True, None),
    ("x = loss(1)", [], "", False, None),
    ("!pip list", [], "", False, None),
])
def test_the_rule_of_folding(source, outputs, section, subject, words):
    assert tool("finish_site").fold_as(code_cell(source, *outputs), section, subject) == words


def test_finishing_fails_where_it_matters(finished, tmp_path):
    with pytest.raises(SystemExit, match="no title"): finished(QUARTO.replace("h1", "h2"), notebook=NOTEBOOK)
    (tmp_path / "nbs/page.ipynb").unlink()
    with pytest.raises(SystemExit, match="missing"): finished(QUARTO.replace("fig-x-output-1.svg", "gone.svg"))
    with pytest.raises(SystemExit, match="other hosts"): finished(QUARTO.replace("<title>", '<script src="https://example.org/x.js"></script><title>'))
    with pytest.raises(SystemExit, match="no pages"): tool("finish_site").main(tmp_path / "nowhere")


def test_every_figure_colour_has_a_dark_twin():
    css = (ROOT / "styles.css").read_text()
    light, dark = (dict(re.findall(r"(--(?:fig|lb)-[\w-]+):\s*([^;]+);", css[css.index(start):].split("}")[0])) for start in (":root", ".quarto-dark {"))
    assert light.keys() == dark.keys()


# The renderer's own gate

@pytest.mark.parametrize("line", ["WARNING: Unable to resolve link target: x.ipynb", "WARN: The following string was found in the document: :::", "warning: nbs/a.ipynb: broken link b.ipynb", "[WARNING] x"])
def test_a_warning_fails_the_render(line):
    assert tool("book").TROUBLE.search(line)


@pytest.mark.parametrize("line", ["Output created: _site/index.html", "[ 3/15] nbs/foundations/exact.ipynb", "finish_site: 15 pages, mathematics by the local MathJax", "wrote 14 page(s) to _site"])
def test_a_quiet_render_passes(line):
    assert not tool("book").TROUBLE.search(line)


# The built site

class Reader(html.parser.HTMLParser):
    "The ids of a page, and what it points at."

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.h1 = set(), [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.h1 += tag == "h1"
        self.ids.update(v for k, v in attrs.items() if k in ("id", "name") and v)
        self.links += [v for k, v in attrs.items() if v and ((k == "href" and tag in ("a", "link")) or (k == "src" and tag in ("img", "script")))]


@functools.lru_cache(None)
def read(file): return Reader(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(site, page):
    "Every internal link, picture, script and fragment leads somewhere."
    here, dead = (site / page).as_uri(), []
    for link in read(site / page).links:
        url = urlsplit(urljoin(here, link))
        if url.scheme != "file" or link in ("#", ""): continue
        file = Path(unquote(url.path))
        file = file / "index.html" if file.is_dir() else file
        if not file.is_file() or (url.fragment and file.suffix == ".html" and unquote(url.fragment) not in read(file).ids): dead.append(link)
    assert not dead, f"dead links in {page}: {dead}"


@pytest.mark.parametrize("page", PAGES)
def test_markup(site, page):
    text = (site / page).read_text(encoding="utf-8")
    assert read(site / page).h1 == 1, "a page has one h1"
    assert re.search(r"<html\b[^>]*\blang=", text) and re.search(r"<title>[^<]+</title>", text)
    svgs = re.findall(r'<svg [^>]*class="lb-figure".*?</svg>', text, re.S)
    strange = {c for svg in svgs for c in re.findall(r"#[0-9a-fA-F]{6}\b", svg)}
    assert not strange, f"figures with colours that styles.css does not know, unreadable on a dark page: {strange}"


LOOK = """() => {
  const seen = e => e.getClientRects().length > 0;
  const main = document.querySelector("main");
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let text = "", blocks = "";
  for (let n; n = words.nextNode();) {
    const p = n.parentElement;
    if (!seen(p) || p.closest("script, style, mjx-container")) continue;
    if (p.closest("pre")) blocks += n.data; else if (!p.closest("code")) text += n.data + "\\n";
  }
  return {
    unset: [...main.querySelectorAll(".math")].filter(e => !e.querySelector("mjx-container svg")).map(e => e.textContent),
    broken: [...document.querySelectorAll("mjx-merror, [data-mjx-error]")].map(e => e.textContent || e.dataset.mjxError),
    text, blocks,
    figures: [...main.querySelectorAll("svg.lb-figure, img")].filter(e => !e.closest(".callout-icon")).map(e => ({
      name: e.getAttribute("aria-label") || e.alt || "", caption: e.closest("figure")?.querySelector("figcaption")?.textContent.trim() || "",
      height: e.getBoundingClientRect().height})),
  };
}"""

# Text against the first solid colour behind it, as WCAG measures contrast.
FAINT = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const rgba = c => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const over = (a, b) => { const t = a[3] / 255; return [0, 1, 2].map(i => a[i] * t + b[i] * (1 - t)).concat(255); };
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const behind = e => {
    const layers = [];
    for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3]) layers.push(c); if (c[3] === 255) break; }
    return layers.reduceRight((below, c) => over(c, below), [255, 255, 255, 255]);
  };
  const faint = new Set(), kinds = new Set(), what = "p, li, td, th, dt, dd, figcaption, caption, h1, h2, h3, a, span, summary, code, text";
  document.querySelectorAll("main :is(" + what + "), .sidebar-navigation a, #TOC a, .footer :is(p, div)").forEach(e => {
    if (!e.getClientRects().length || e.closest("mjx-container, .code-copy-button, .anchorjs-link, [class*=callout-icon]")) return;
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) return;
    if (e.tagName === "SPAN" && e.closest("pre")) { if (kinds.has(e.className)) return; kinds.add(e.className); }   // highlighting: one of each kind
    const style = getComputedStyle(e), back = behind(e), ink = over(rgba(e.matches("text") ? style.fill : style.color), back);
    const [a, b] = [light(ink), light(back)].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) faint.add(`${e.tagName.toLowerCase()}.${e.className.baseVal ?? e.className} ${ratio.toFixed(2)}: ${e.textContent.trim().slice(0, 40)}`);
  });
  return [...faint];
}"""

WIDE = """() => {
  // A page may also cut off what is too wide, and then it does not grow.
  const wide = document.scrollingElement.scrollWidth, edge = Math.min(innerWidth, document.querySelector("main").getBoundingClientRect().right + 40);
  const culprits = [...document.querySelectorAll("main *")].filter(e => e.getClientRects().length && e.getBoundingClientRect().right > edge + 1
    && !e.closest(".lb-wide, mjx-container, .column-margin, .aside") && !e.parentElement.closest(".lb-scroll, .math, pre, svg"));
  if (wide <= innerWidth && !culprits.length) return "";
  return wide + "px: " + culprits.slice(0, 3).map(e => e.tagName + "." + e.getAttribute("class")).join(", ");
}"""

# The card at the top of a chapter, and rows that are cards on a phone, are read without scrolling sideways; only a long formula in one scrolls.
CARDS = """() => [...document.querySelectorAll("main .lb-scroll")]
  .filter(e => (e.querySelector("th")?.textContent.trim() === "property" || (innerWidth < 576 && e.querySelector(".lb-cards"))) && e.scrollWidth > e.clientWidth + 2)
  .map(e => e.querySelector("td + td")?.textContent + ": " + e.scrollWidth)"""

# What scrolls sideways on a phone: no code, and no table but those named here, each with the reason.
SIDEWAYS = {}   # caption: reason
NARROW = """() => [...document.querySelectorAll("main pre, main .lb-scroll")].filter(e => e.getClientRects().length && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== "visible")
  .map(e => e.getAttribute("aria-label") + ": " + e.scrollWidth)"""

# A bar may show only where something is really too wide: a vertical one only on a long table, which has a box of its own.
BARS = """() => [...document.querySelectorAll("main .math, main .lb-scroll:not(.lb-tall), main .cell-output-display, main .lb-wide")]
  .filter(e => ["auto", "scroll"].includes(getComputedStyle(e).overflowY) && e.scrollHeight > e.clientHeight + 1).map(e => e.outerHTML.slice(0, 80))"""

DARK = """async () => {
  (window.quartoToggleColorScheme || window.smalldocsToggleScheme)();
  await new Promise(done => setTimeout(done, 120));
  return !!document.querySelector("html.quarto-dark, body.quarto-dark");
}"""


def check_content(tab):
    found = tab.evaluate(LOOK)
    assert not found["unset"], f"mathematics that was not set: {found['unset'][:3]}"
    assert not found["broken"], f"TeX that MathJax refuses: {found['broken'][:3]}"
    raw = re.search(r".{0,30}(?:\$\$|\\(?:frac|tag|left|right|begin|displaystyle|operatorname|mathrm|sigma|gamma|log|exp|sum)\b).{0,30}", found["text"])
    assert not raw, f"raw TeX is visible: {raw[0]!r}"
    assert not re.search(r"^\s*#\s?\|", found["text"] + "\n" + found["blocks"], re.M), "a cell option is visible"
    assert ":::" not in found["text"], "a fence of colons is visible"
    for figure in found["figures"]:
        assert figure["name"] not in ("", "Figure"), "a figure has no words for who cannot see it: fig-alt"
        assert figure["caption"], f"a figure has no caption: {figure['name']}"
        assert figure["height"] > 40, f"a figure has no height: {figure['name']}"


# The words and numbers in tables that are broken over two lines, and tables that are wider than the page.
BROKEN = """() => [...document.querySelectorAll("main table")].flatMap(table => {
  const out = table.offsetWidth > table.closest("main").clientWidth + 1 ? ["wide: " + table.innerText.slice(0, 30)] : [];
  const texts = document.createTreeWalker(table, NodeFilter.SHOW_TEXT), range = document.createRange();
  for (let node; node = texts.nextNode();) {
    if (node.parentElement.closest("code, a, mjx-container")) continue;
    for (const word of node.data.matchAll(/[\\w.]+/g)) {
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map(box => box.top)).size > 1) out.push(word[0]);
    }
  }
  return out;
})"""


def resized(tab, viewport):
    tab.set_viewport_size(viewport)
    tab.wait_for_timeout(150)  # the page's script looks again at what scrolls


@pytest.mark.parametrize("page", PAGES)
def test_page_in_the_browser(tab, server, page):
    opened(tab, f"{server}/{page}")
    check_content(tab)
    SCREENS.mkdir(parents=True, exist_ok=True)
    dark, now = False, DESKTOP
    for mode, size, viewport in [("light", "desktop", DESKTOP), ("dark", "desktop", DESKTOP), ("dark", "phone", PHONE), ("light", "phone", PHONE)]:
        if viewport != now: resized(tab, now := viewport)
        if (mode == "dark") != dark:
            dark = tab.evaluate(DARK)
            assert dark == (mode == "dark"), "the switch between light and dark does nothing"
        wide = tab.evaluate(WIDE)
        assert not wide, f"wider than the {size}, {mode}: {wide}"
        assert not (bars := tab.evaluate(BARS)), f"a stray scroll bar on the {size}: {bars}"
        assert not (cards := tab.evaluate(CARDS)), f"a card wider than the {size}: {cards}"
        if size == "desktop": assert not (faint := tab.evaluate(FAINT)), f"too little contrast, {mode}: {faint}"
        if (mode, size) == ("light", "desktop"): assert not (serious := violations(tab)), f"axe-core: {serious}"
        picture = SCREENS / f"{page.removesuffix('.html').replace('/', '-')}-{size}-{mode}"
        tab.screenshot(path=picture.with_suffix(".jpg"), full_page=True, quality=80)
        tab.screenshot(path=picture.with_suffix(".small.jpg"), quality=50)
    if (button := tab.locator(".lb-tools button")).count():
        button.click()
        assert button.inner_text() == "Fold the code" and tab.evaluate("[...document.querySelectorAll('main details.code-fold')].every(d => d.open)")
    assert not (wide := [e for e in tab.evaluate(NARROW) if e.rpartition(":")[0] not in SIDEWAYS]), f"scrolls sideways on a phone: {wide}"
    tab.emulate_media(media="print")
    resized(tab, {"width": 673, "height": 1000})  # A4 between its margins
    assert not (broken := tab.evaluate(BROKEN)), f"cut off or broken on paper: {broken}"


def test_a_table_cut_off_or_broken_on_paper_is_found(tab, server):
    opened(tab, f"{server}/index.html")
    tab.emulate_media(media="print")
    resized(tab, {"width": 673, "height": 1000})
    assert tab.evaluate(BROKEN) == []
    tab.evaluate("""() => document.querySelector("main").insertAdjacentHTML("beforeend",
      '<table style="min-width: 900px"><tr><td>Cut</td></tr></table><table style="table-layout: fixed; width: 4em"><tr><td style="overflow-wrap: anywhere">Incomprehensibilities</td></tr></table>')""")
    found = tab.evaluate(BROKEN)
    assert "wide: Cut" in found and "Incomprehensibilities" in found


def test_axe_rejects_a_broken_page(tab, server):
    "A picture without words, a field without a name, words that are too faint."
    opened(tab, f"{server}/index.html")
    assert not violations(tab)
    tab.evaluate("""() => document.querySelector("main").insertAdjacentHTML("beforeend",
      '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw="><input><p style="color: #ccc; background: #fff">Faint.</p><div role="group" style="height: 3em; overflow: auto"><p>a<br>b<br>c<br>d<br>e</p></div>')""")
    assert {"image-alt", "label", "color-contrast"} <= {text.split()[0] for text in violations(tab)}


def test_folded_code_opens(tab, server):
    "By a link into it, by the button, and closes again; without a button where there is nothing to fold."
    page = "nbs/foundations/exact.html"
    opened(tab, f"{server}/{page}")
    folds = tab.locator("main details.code-fold")
    inside = folds.nth(2).locator("[id]").first.get_attribute("id")
    assert folds.count() > 5 and tab.locator("main details.code-fold[open]").count() == 0
    opened(tab, f"{server}/index.html")
    opened(tab, f"{server}/{page}#{inside}")
    assert folds.nth(2).get_attribute("open") is not None and tab.locator(f"#{inside}").is_visible()
    button = tab.locator(".lb-tools button")
    button.focus()
    tab.keyboard.press("Enter")
    assert tab.locator("main details.code-fold[open]").count() == folds.count() and button.inner_text() == "Fold the code"
    tab.keyboard.press("Enter")
    assert tab.locator("main details.code-fold[open]").count() == 0 and button.inner_text() == "Show all code"


def test_the_notebook_is_downloaded_with_its_outputs(tab, server):
    opened(tab, f"{server}/nbs/likelihood/bce.html")
    with tab.expect_download() as got: tab.get_by_role("link", name="Download the notebook").click()
    assert got.value.suggested_filename == "bce.ipynb"
    assert Path(got.value.path()).read_text(encoding="utf-8") == (ROOT / "nbs/likelihood/bce.ipynb").read_text(encoding="utf-8")


SOURCES = sorted({(ROOT / nb).as_posix() for nb in NOTEBOOKS if tool("finish_site").exported(ROOT / nb)})


def test_every_page_leads_to_what_it_exports(site, tab):
    "And the source opens from a file, light and dark, on a phone, with no serious violation."
    finish = tool("finish_site")
    for notebook in map(Path, SOURCES):
        module = finish.exported(notebook)
        page = (site / notebook.relative_to(ROOT)).with_suffix(".html")
        assert f'source/{module.stem}.html">Source: {module.as_posix()}</a>' in page.read_text(encoding="utf-8")
        lines = re.search(r"<pre><code>(.*)</code></pre>", (site / f"source/{module.stem}.html").read_text(encoding="utf-8"), re.S)[1].split('<span class="line"')[1:]
        assert len(lines) == len((ROOT / module).read_text(encoding="utf-8").splitlines())
    tab.set_viewport_size(PHONE)
    tab.emulate_media(color_scheme="dark")
    tab.goto((site / "source/bce.html").as_uri())
    assert tab.evaluate("document.documentElement.className") == "dark"
    tab.emulate_media(color_scheme="light")
    for dark in (False, True):
        tab.goto((site / "source/bce.html").as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"] and not violations(tab)
        assert (tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(34, 34, 34)") == dark
        tab.goto((site / "index.html").as_uri())
        tab.evaluate(DARK)


LIMIT = 1_500_000


def weight(site, page):
    "Bytes that a reader loads with a page, but for the mathematics engine and the index that a search loads."
    here, files = site / page, {(site / page).resolve()}
    for link in read(here).links:
        url = urlsplit(urljoin(here.as_uri(), link))
        if url.scheme == "file" and Path(url.path).suffix in (".js", ".css", ".png", ".jpg", ".svg"): files.add(Path(unquote(url.path)).resolve())
    for css in [f for f in files if f.suffix == ".css"]:
        for source in re.findall(r"src:([^;}]+)|(url\([^)]+\))", css.read_text(encoding="utf-8", errors="replace")):
            for link in re.findall(r"""url\(["']?([^"')]+)""", "".join(source))[:1]:   # of several forms of one font a browser takes the first it knows
                file = (css.parent / unquote(urlsplit(link).path)).resolve()
                if not link.startswith("data:") and file.is_file(): files.add(file)
    return sum(file.stat().st_size for file in files if "mathjax" not in file.parts)


def test_pages_are_light(site, record_property):
    sizes = {page: weight(site, page) for page in PAGES}
    heavy = sorted(sizes, key=sizes.get)[::-1]
    record_property("site", f"weight without the mathematics engine: {', '.join(f'{page} {sizes[page] / 1e6:.2f} MB' for page in heavy[:3])}; median {sorted(sizes.values())[len(sizes) // 2] / 1e6:.2f} MB")
    assert not (over := {page: size for page, size in sizes.items() if size > LIMIT}), f"over {LIMIT} bytes: {over}"


def test_the_scale_counts_what_a_page_loads(tmp_path):
    (tmp_path / "mathjax").mkdir()
    for name, text in {"a.html": '<link rel="stylesheet" href="a.css"><script src="mathjax/m.js"></script><img src="a.png"><a href="b.html">b</a>', "a.css": "a { src: url('a.woff2?x') format('woff2'), url(a.woff) }", "a.woff2": "1234", "a.woff": "12345", "a.png": "12",
                       "mathjax/m.js": "123456789", "b.html": "much more than that"}.items(): (tmp_path / name).write_text(text)
    assert weight(tmp_path, "a.html") == sum((tmp_path / name).stat().st_size for name in ("a.html", "a.css", "a.woff2", "a.png"))


PAINTED = """() => new Promise(done => {
  const seen = list => { const e = list.find(e => e.name === "first-contentful-paint"); if (e) done(e.startTime); };
  seen(performance.getEntriesByType("paint"));
  new PerformanceObserver(list => seen(list.getEntries())).observe({type: "paint", buffered: true});
})"""


def test_how_soon_a_page_is_readable_from_disk(tab, site, record_property):
    "Told, not held: a busy machine is slow. The first text on the screen, of every chapter opened as a file."
    times = {}
    for page in [page for page in PAGES if not re.match("nbs/(?:foundations|evidence)/", page)]:
        tab.goto((site / page).as_uri(), wait_until="commit")
        times[page] = tab.evaluate(PAINTED)
    slow = sorted(times, key=times.get)[::-1]
    record_property("site", f"first text from disk: median {sorted(times.values())[len(times) // 2]:.0f} ms; slowest {', '.join(f'{page} {times[page]:.0f} ms' for page in slow[:3])}")
    assert all(time > 0 for time in times.values())


def test_the_contact_sheet_shows_what_was_found(tmp_path):
    assert contact_sheet(tmp_path) is None
    for name in ("index-desktop-light.jpg", "index-desktop-light.small.jpg", "index-phone-dark.jpg", "nbs-a-b-desktop-dark.jpg", "other.jpg"): (tmp_path / name).write_bytes(b"x")
    text = contact_sheet(tmp_path).read_text(encoding="utf-8")
    assert re.findall(r'<th scope="row">(.*?)</th>', text) == ["index", "nbs-a-b"] and "other" not in text
    assert '<a href="index-desktop-light.jpg"><img loading="lazy" src="index-desktop-light.small.jpg"' in text and 'src="index-phone-dark.jpg"' in text and text.count("<td>none</td>") == 5


def search(tab, word):
    "Type a word into whichever search box the renderer made, and give the results it shows."
    if (button := tab.locator("#quarto-search .aa-DetachedSearchButton")).count(): button.first.click()
    box = tab.locator("#quarto-search input, .aa-Input").first
    box.click()
    box.press_sequentially(word)
    hits = tab.locator(".search-result, .aa-Item")
    hits.first.wait_for(timeout=5000)
    return hits.all_inner_texts()


def test_search_finds_a_word(tab, server):
    assert any("cross-entropy" in hit.lower() for hit in search(opened(tab, f"{server}/index.html"), "cross-entropy"))


@pytest.mark.parametrize("name, page", [("sigmoid_focal_loss", "api"), ("CrossEntropyLoss", "api_modules"), ("decode_spans", "api_sets"), ("calibrate", "api_tools")])
def test_search_finds_a_public_name(tab, server, name, page):
    "The first that it finds is the entry in the reference, and a click leads there."
    hits = search(opened(tab, f"{server}/index.html"), name)
    assert name in hits[0]
    tab.locator("a.search-result, .aa-Item a").first.click()
    tab.wait_for_url(re.compile(rf"/{page}\.html.*#"))
    assert tab.locator(f"[id='lossbook.{name}'], [id$='.{name}']").first.is_visible()


def test_an_argument_has_an_address(tab, server):
    "A link of a module leads to the row that explains its option, and the row is marked."
    opened(tab, f"{server}/nbs/evidence/api_modules.html")
    tab.locator("[id='lossbook.CrossEntropyLoss'] a[href$='lossbook.cross_entropy.label_smoothing']").click()
    opened(tab, tab.url)
    row = tab.locator("[id='lossbook.cross_entropy.label_smoothing']")
    assert row.evaluate("e => e.matches(':target')") and "number in [0, 1]" in row.inner_text()
    assert row.evaluate("e => { const b = e.getBoundingClientRect(); return b.top >= document.querySelector('#quarto-header').getBoundingClientRect().bottom && b.bottom <= innerHeight; }")


@pytest.mark.parametrize("page", ["api", "api_sets", "api_modules", "api_tools"])
def test_a_page_of_the_reference_is_not_too_long(tab, server, page):
    opened(tab, f"{server}/nbs/evidence/{page}.html")
    assert tab.evaluate("document.scrollingElement.scrollHeight") < 15_000


def test_the_site_works_from_a_file(tab, site):
    "Opened by a double click: mathematics, styles and search need no server."
    page = next((p for p in PAGES if "bce" in p), PAGES[0])
    opened(tab, (site / page).as_uri())
    check_content(tab)
    assert search(tab, "cross-entropy")


def test_tables_sort_and_filter_by_keyboard(tab, server):
    "The ledger: a head is a button, the order is announced, and words narrow the rows."
    opened(tab, f"{server}/nbs/evidence/ledger.html")
    table = tab.locator("table.lb-sort").first
    def column(i): return table.locator(f"tbody tr:not([hidden]) td:nth-child({i + 1})").all_inner_texts()
    def first_lines(i): return [cell.split("\n")[0] for cell in column(i)]
    heads = table.locator("thead th").all_inner_texts()
    place = next(i for i, head in enumerate(heads) if head.startswith("measured"))
    head = table.locator("thead th").nth(place)
    head.locator("button").focus()
    tab.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    def worst(cell): return max(float(v) for v in re.findall(r"\d+\.\d+", cell))
    found = [worst(cell) for cell in first_lines(place)]
    assert found == sorted(found)
    tab.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending" and [worst(cell) for cell in first_lines(place)] == found[::-1]
    box = tab.get_by_label("Show rows with").first
    box.focus()
    tab.keyboard.type("focal bfloat16")
    names, dtypes = first_lines(0), first_lines(1)
    assert names and all("focal" in n for n in names) and set(dtypes) == {"bfloat16"} and len(names) < len(found)


def test_a_link_of_the_catalogue_shows_the_rows_of_one_loss(tab, server):
    "And no others, though the name is a part of other names; the field can be emptied again."
    opened(tab, f"{server}/nbs/evidence/catalogue.html")
    tab.locator("a[href*='rows=%3Dcross_entropy']").click()
    opened(tab, tab.url)
    rows = tab.locator("main table.lb-sort").first.locator("tbody tr:not([hidden])")
    assert {name.split("\n")[0] for name in rows.locator("td:first-child").all_inner_texts()} == {"cross_entropy"}
    before = rows.count()
    tab.get_by_label("Show rows with").first.fill("")
    assert rows.count() > before > 0


def test_cards_sort_and_filter_on_a_phone(tab, server):
    "The claims of the note: each row is a card as wide as the page, and the heads are buttons above them."
    tab.set_viewport_size(PHONE)
    opened(tab, f"{server}/nbs/evidence/note.html")
    table = tab.locator("table.lb-cards").first
    cards, widths = table.locator("tbody tr:not([hidden])"), "rows => rows.map(r => r.getBoundingClientRect()).every(b => b.left >= 0 && b.right <= innerWidth && b.width > 250)"
    assert cards.count() == 52 and cards.evaluate_all(widths)
    table.locator("thead button").nth(1).focus()
    tab.keyboard.press("Enter")
    tab.keyboard.press("Enter")
    assert [text for text in cards.locator("[class^=lb-verdict-]").all_inner_texts()][-1] == "true" and cards.first.locator("[class^=lb-verdict-]").inner_text() != "true"
    tab.get_by_label("Show rows with").first.fill("softmax false")
    assert 0 < cards.count() < 52 and cards.evaluate_all(widths)


def test_previous_and_next_follow_the_sidebar(site):
    "Each page leads to the one before and the one after it, and the head of a part stands before its pages."
    order = [(site / page).with_suffix(".html") for page in book_order()]
    assert len(order) == len(PAGES)
    for i, page in enumerate(order):
        nav = re.search(r'<nav class="page-navigation".*?</nav>', page.read_text(encoding="utf-8"), re.S)[0]
        found = [(page.parent / href).resolve() for href in re.findall(r'<a\b[^>]*\bhref="([^"]+)"[^>]*\bclass="pagination-link', nav) or re.findall(r'<a\b[^>]*\bhref="([^"]+)"', nav)]
        assert found == [*order[max(i - 1, 0):i], *order[i + 1:i + 2]], page


def test_the_front_page_has_three_doors(tab, server):
    "Side by side on a laptop, one above the other on a phone, each with a sentence and links; the headline with its date, and how to install."
    opened(tab, f"{server}/index.html")
    doors = tab.locator(".lb-doors > .lb-door")
    assert [door.inner_text().split()[0] for door in doors.all()] == ["Learn", "Use", "Audit"]
    assert all(door.locator("a").count() >= 3 for door in doors.all())
    def boxes(): return [door.bounding_box() for door in doors.all()]
    assert len({round(b["y"]) for b in boxes()}) == 1 and len({round(b["x"]) for b in boxes()}) == 3
    tab.set_viewport_size(PHONE)
    assert len({round(b["x"]) for b in boxes()}) == 1 and len({round(b["y"]) for b in boxes()}) == 3
    text = tab.locator("main").inner_text()
    assert re.search(r"worst error .+ ulp\..+Measured on \d{4}-\d\d-\d\d", text) and "pip install" in text


def test_paper_is_light(tab, server):
    "A page that is printed from the dark mode has black words."
    page = next((p for p in PAGES if "bce" in p), PAGES[0])
    opened(tab, f"{server}/{page}")
    tab.evaluate(DARK)
    tab.emulate_media(media="print")
    assert tab.evaluate("getComputedStyle(document.querySelector('main')).color") == "rgb(0, 0, 0)"
    assert tab.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--fig-ink').trim()") == "#1f2328"
    look = "what => [...new Set([...document.querySelectorAll(what)].map(e => getComputedStyle(e)).map(s => s.color + ' on ' + s.backgroundColor))]"
    assert tab.evaluate(look, "main pre, main pre code, main pre span") and all(set(re.findall(r"rgba?\((.*?)\)", pair)) <= {"0, 0, 0", "255, 255, 255", "0, 0, 0, 0"} for pair in tab.evaluate(look, "main pre, main pre code, main pre span"))
    gone = "#quarto-header, #quarto-sidebar, .page-navigation, .nav-footer, main button, main .lb-filter, .lb-tools [download], .lb-tools summary"
    assert tab.evaluate("what => [...document.querySelectorAll(what)].filter(e => e.getClientRects().length).map(e => e.outerHTML.slice(0, 80))", gone) == []
    tab.pdf(path=SCREENS.parent / "print.pdf", format="A4")


def test_a_long_table_is_whole_on_paper(tab, server):
    "And nothing of it lies over what follows."
    opened(tab, f"{server}/nbs/evidence/peers.html")
    tall = tab.locator("main .lb-tall")
    hidden = "boxes => boxes.map(e => e.scrollHeight - e.clientHeight)"
    assert tall.count() >= 3 and min(tall.evaluate_all(hidden)) > 500
    tab.emulate_media(media="print")
    assert max(tall.evaluate_all(hidden)) <= 1
    tab.emulate_media(media="screen")
    box = tall.first
    box.focus()
    tab.keyboard.press("PageDown")
    tab.wait_for_function("document.querySelector('main .lb-tall').scrollTop > 100")   # the keyboard scrolls it
