"""The reference: is every public name there, with all that its signature and its docstring say, and an example that ran?"""
import functools
import html
import importlib
import inspect
import re

import pytest
from browsing import NOTEBOOKS
from pages import anchors, cells, dead, shown, source, texts
from torch import nn

import lossbook
from lossbook.criterion import Criterion
from lossbook.docstrings import Entry, addresses, faults, read, words

PAGES = [nb.as_posix() for nb in NOTEBOOKS if nb.name in ("api.ipynb", "api_sets.ipynb", "api_modules.ipynb", "api_tools.ipynb")]
PUBLIC = [f"lossbook.{name}" for name in lossbook.__all__]
TOOLS = [f"lossbook.{name}" for name in (
    "audit.audit", "audit.Report", "audit.Claim", "symbolic.Spec", "catalogue.catalogue", "catalogue.find", "subset_softmax.inclusion_probabilities",
    "subset_softmax.top_labels", "spans.encode_spans", "spans.decode_spans", "spans.span_loss", "spans.SpanLoss", "focal.calibrate", "fused.composition",
    "every.exhaustive", "bench.bench")]


def get(path):
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


@functools.lru_cache(None)
def entries():
    "Where each entry stands: path -> (page, the heading before, its cell, the cell after)."
    found = {}
    for page in PAGES:
        for before, cell, after in zip(cells(page), cells(page)[1:], cells(page)[2:]):
            if cell["cell_type"] == "code" and (call := re.search(r'^Entry\("([\w.]+)"', source(cell), re.M)):
                assert call[1] not in found, f"{call[1]} has two entries"
                found[call[1]] = page, source(before), cell, after
    return found


def own_signatures(thing):
    "The signatures of a name, asked of Python and nobody else."
    if not (inspect.isclass(thing) and issubclass(thing, nn.Module)): return [inspect.signature(thing)]
    call = inspect.signature(thing.forward)
    return [inspect.signature(thing), call.replace(parameters=[p for p in call.parameters.values() if p.name != "self"])]


def rows(text, path):
    "The rows of the tables of arguments: name -> cells as text."
    strip = lambda markup: html.unescape(re.sub(r"<[^>]+>", "", markup)).strip()
    return {name: [strip(cell) for cell in re.findall(r"<td\b[^>]*>(.*?)</td>", row, re.S)]
            for name, row in re.findall(rf'<tr role="row" id="{re.escape(path)}\.(\w+)">(.*?)</tr>', text, re.S)}


def lacking(path, text):
    "Parameters of a name that the text of its entry does not explain."
    table = rows(text, path)
    return [p for s in own_signatures(get(path)) for p in s.parameters if len(table.get(p, ())) != 2 or not table[p][1]]


def test_every_public_name_has_one_entry():
    assert sorted(entries()) == sorted(PUBLIC + TOOLS)
    assert {"lossbook.cross_entropy", "lossbook.CrossEntropyLoss", "lossbook.compiled"} <= set(entries())


@pytest.mark.parametrize("path", PUBLIC + TOOLS)
def test_the_entry_stands_under_its_name_and_is_that_of_today(path):
    page, heading, cell, _ = entries()[path]
    assert heading.splitlines()[-1] == f"### `{path.removeprefix('lossbook.')}`"
    assert path in anchors(page)
    assert shown(cell, "text/html") == eval(source(cell).replace("#| echo: false\n", ""), {"Entry": Entry})._repr_html_()


@pytest.mark.parametrize("path", PUBLIC + TOOLS)
def test_the_signature_is_as_it_is(path):
    thing, text = get(path), shown(entries()[path][2], "text/html")
    written = [html.unescape(re.sub(r"<[^>]+>", "", s)) for s in re.findall(r'<p class="lb-signature">(.*?)</p>', text)]
    wanted = own_signatures(thing)
    assert len(written) == len(wanted)
    for name, mine, signature in zip((path, "module"), written, wanted):
        if path == "lossbook.bench.bench": mine = mine.replace("progress=a function", f"progress={signature.parameters['progress'].default}")
        if signature.return_annotation in (None, "None"): signature = signature.replace(return_annotation=signature.empty)
        assert mine.replace("'", "") == f"{name}{signature}".replace("'", "")
        by_name = [p for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
        assert ("*, " in mine) == bool(by_name)


@pytest.mark.parametrize("path", PUBLIC + TOOLS)
def test_every_argument_is_in_its_table_and_exists(path):
    thing, (_, _, cell, _) = get(path), entries()[path]
    text, known = shown(cell, "text/html"), {p for s in own_signatures(thing) for p in s.parameters}
    assert set(read(inspect.getdoc(thing)).arguments) == known
    if not (inspect.isclass(thing) and issubclass(thing, Criterion)):
        assert not lacking(path, text) and set(rows(text, path)) == known
        return
    to, anchor = re.search(r'href="([\w.]+)#([\w.]+)"', text).groups()
    function = entries()[anchor]
    assert function[0].endswith(to.replace(".html", ".ipynb")) and get(anchor) is thing.loss
    for part, signature in zip(re.findall(r"<dt>to (?:build|call) it</dt><dd>(.*?)</dd>", text), own_signatures(thing)):
        linked = re.findall(r'href="[\w.]+#([\w.]+)"', part)
        assert linked == [f"{anchor}.{p}" for p in signature.parameters]
        assert {name.rpartition(".")[2] for name in linked} <= set(rows(shown(function[2], "text/html"), anchor))


@pytest.mark.parametrize("path", PUBLIC + TOOLS)
def test_every_entry_has_an_example_that_ran(path):
    page, _, cell, example = entries()[path]
    assert example["cell_type"] == "code" and not source(example).startswith("#|")
    name = path.rpartition(".")[2]
    assert re.search(rf"\b{'report' if name == 'Report' else name}\b", source(example)), "the example does not use the name"
    printed = "".join("".join(out.get("text", [])) for out in example["outputs"])
    assert printed.strip() and not re.search(r"\d\.\d{5,}|0x[0-9a-f]{6}|grad_fn", printed)
    chapter = re.search(r'<dt>Chapter</dt><dd><a href="([^"]+)">[^<]+</a>', shown(cell, "text/html"))[1]
    assert get(path).__module__.rpartition(".")[2] in "".join(source(c) for c in cells("nbs/" + chapter.removeprefix("../").replace(".html", ".ipynb"))[:4])


@pytest.mark.parametrize("page", PAGES)
def test_no_link_of_the_reference_is_dead(page):
    assert not [link for text in texts(page) for link in dead(page, text)]


# What `?` shows

@pytest.mark.parametrize("path", PUBLIC)
def test_a_question_mark_shows_all_of_it(path):
    from IPython.core.oinspect import Inspector

    thing = get(path)
    told = Inspector(theme_name="nocolor").info(thing, oname=path)
    assert not faults(thing)
    for head in ("Args:", "Returns:", "Raises:", "Source:"): assert f"\n{head}\n" in told["docstring"]
    for name in own_signatures(thing)[0].parameters:
        assert re.search(rf"\b{name}\b", told["definition"] or told["init_definition"])
        assert re.search(rf"^    (?:\w+, )*{name}(?:, \w+)*: \S", told["docstring"], re.M)


@pytest.mark.parametrize("path", PUBLIC)
def test_no_line_of_a_docstring_is_broken_in_its_middle(path):
    "A line ends where the next word would not fit into a hundred columns, or a sentence, an item or a list ends."
    lines = inspect.getdoc(get(path)).splitlines()
    early = [line for line, following in zip(lines, lines[1:]) if len(line) < 60 and re.search(r"[\w,;]$", line) and re.match(r" *[a-z]\w* [a-z]", following) and ":" not in following]
    assert not early, early


@pytest.mark.parametrize("path", TOOLS)
def test_the_tools_are_documented_as_the_losses_are(path):
    thing = get(path)
    assert not faults(thing, ("Args",) if inspect.isclass(thing) else ("Args", "Returns"))
    raises = re.search(r"^ *raise |check_\w+\(", inspect.getsource(thing), re.M) if inspect.isfunction(thing) else None
    assert not raises or read(inspect.getdoc(thing)).raises


# The checks bite

def whole(x, *, gamma: float = 2.0, mask=None):
    """x to a power.

    Args:
        x: any shape; real numbers.
        gamma: number, at least 0.
        mask: bool, same shape.

    Returns:
        Same shape.

    Raises:
        TypeError: x is no tensor.

    Source:
        Nobody.
    """


@pytest.mark.parametrize("old, new, fault", [
    ("", "", None),
    ("        mask: bool, same shape.\n", "", "mask is not explained"),
    ("        gamma: number", "        power: number", "power is explained, but does not exist"),
    ("bool, same shape", "what is left out", "mask: no shape, range or type is named"),
    ("    Args:\n", "    Arguments:\n", "got the head 'Arguments'"),
    ("        x: any", "        x any", "under Args: got 'x any"),
    ("    Source:\n        Nobody.\n", "", "there is no Source"),
    ("    Raises:\n        TypeError: x is no tensor.\n", "", "there is no Raises"),
])
def test_a_fault_of_a_docstring_is_told(monkeypatch, old, new, fault):
    assert old in whole.__doc__
    monkeypatch.setattr(whole, "__doc__", whole.__doc__.replace(old, new))
    found = faults(whole)
    assert any(f.startswith(fault) for f in found) if fault else not found


def test_names_in_the_words_lead_to_their_entries():
    "But not the name of the entry itself, and no name that has none."
    assert addresses() == {path: f"{page.rpartition('/')[2].replace('.ipynb', '.html')}#{path}" for path, (page, *_) in entries().items()}
    assert words("`linear_loss` & `nothing`", "x") == '<a href="api.html#lossbook.linear_loss"><code>linear_loss</code></a> &amp; <code>nothing</code>'
    assert words("`linear_loss`", "lossbook.linear_loss") == "<code>linear_loss</code>"
    assert 'href="api_tools.html#lossbook.audit.Report"' in shown(entries()["lossbook.audit.audit"][2], "text/html")


def test_an_entry_that_lacks_an_argument_is_seen(monkeypatch):
    "The words of one argument are taken away: the table, the comparison and the stored page all show it."
    path, loss = "lossbook.lsep_loss", lossbook.lsep_loss
    assert not lacking(path, Entry(path)._repr_html_())
    short = re.sub(r"\n +scale: .*", "", loss.__doc__)
    monkeypatch.setattr(loss, "__doc__", short)
    now = Entry(path)._repr_html_()
    assert lacking(path, now) == ["scale"] and faults(loss) == ["scale is not explained"]
    assert now != shown(entries()[path][2], "text/html")
