#!/usr/bin/env python3
"""The last step of a render: make `_site/` complete in itself.

Quarto and smalldocs both run this after writing the pages; `python tools/finish_site.py` runs it by hand. It puts
MathJax beside the pages, turns figures into inline SVG whose colours follow the page, folds the code that is not the
subject of a page, boxes tables, puts the notebook and the exported source beside the page, and checks that no page
asks another host for anything. Standard library only: Quarto runs it with whatever python it finds. Running it twice
changes nothing.
"""
import ast
import html
import io
import json
import keyword
import os
import re
import shutil
import sys
import tokenize
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
MATHJAX = "mathjax/static/mathjax"  # inside site-packages: the PyPI package django-static-mathjax
HEAD = re.compile(r"\n?<!-- lossbook -->.*?<!-- /lossbook -->\n?", re.S)
MAIN = re.compile(r"<main\b.*</main>", re.S)
SVG = re.compile(r"(?:<\?xml[^>]*\?>\s*)?(?:<!DOCTYPE svg[^>]*>\s*)?(<svg\b[^>]*>)(.*?)</svg>", re.S)
IMG = re.compile(r'<img\b[^>]*?\bsrc="([^"]+\.svg)"[^>]*>')
ATTR = re.compile(r"""\s([\w:.-]+)=("[^"]*"|'[^']*')""")
HEX = re.compile(r"#[0-9a-fA-F]{6}\b")
OWN = re.compile(r'<div\b[^>]*\bdata-script="([\w-]+)"')
TITLE = re.compile(r'<header\b[^>]*\bid="title-block-header".*?</header>|<h1\b.*?</h1>', re.S)
OPTIONS = re.compile(r"^#\s?\|.*\n?", re.M)
# A block of code as the renderers write it, and what stands before it when a cell asks to be folded by itself.
BLOCK = re.compile(
    r'(<details\b[^>]*>\s*<summary\b[^>]*>(?:(?!</summary>).)*</summary>\s*)?((<div class="code-copy-outer-scaffold">\s*)?<div class="sourceCode[^>]*>\s*<pre\b[^>]*>'
    r'<code\b[^>]*>((?:(?!</code>).)*)</code>(?:(?!</pre>).)*</pre>\s*</div>(?(3)(?:(?!</div>).)*</div>))', re.S)
TALL = 30  # a table of more rows scrolls in a box of its own, under a head that stays
EXTERNAL = re.compile(r"""<(?:script|img|iframe|source|link(?=[^>]*\brel=["']?(?:stylesheet|preload|icon|modulepreload)))\b[^>]*?\b(?:src|href)=["']((?:https?:)?//[^"']+)""")
# Quarto adds these for every page with an HTML output, in case it is a widget; the book has no widgets.
UNUSED = [re.compile(p, re.S) for p in (
    r'<script\b[^>]*\bsrc="https://[^"]*/(?:require\.js|jquery)/[^"]*"[^>]*></script>\s*',
    r"<script\b[^>]*>\s*define\('jquery',.*?</script>\s*",
    r'<script\b[^>]*\bsrc="https://[^"]*polyfill[^"]*"[^>]*></script>\s*')]
CDN_MATH = re.compile(r'(?:<script\b[^>]*\bsrc="https://[^"]*(?:mathjax|katex)[^"]*"[^>]*></script>|<link\b[^>]*\bhref="https://[^"]*katex[^"]*"[^>]*>)\s*', re.I)
WEB_FONT = re.compile(r"""@import\s+(?:url\(\s*["']?(?:https?:)?//[^)]*\)|["'](?:https?:)?//[^"']*["'])[^;{}]*;""")

CONFIG = r"""<script>
window.MathJax = {
  tex: {inlineMath: [["\\(", "\\)"]], displayMath: [["\\[", "\\]"]]},
  svg: {fontCache: "local"},
  // The menu would make every formula a stop of the Tab key; the hidden MathML is what a screen reader reads.
  options: {enableMenu: false, enableAssistiveMml: true},
  startup: {pageReady: () => MathJax.startup.defaultPageReady().then(() => dispatchEvent(new Event("lossbook:math")))}
};
</script>
"""

SCRIPT = r"""// lossbook: what the pages need beyond their renderer.
(() => {
  "use strict";
  // On a phone a table that would scroll sideways becomes cards, one for each row; each cell says what its head said.
  // The roles are those that the cells lose when they are no longer laid out as a table.
  const cards = () => document.querySelectorAll("main .lb-scroll > table:not(.lb-cards), main .lb-scroll > table.lb-auto").forEach(table => {
    const heads = table.tHead?.rows.length === 1 ? [...table.tHead.rows[0].cells] : [], box = table.parentElement;
    if (!heads.length) return;
    table.classList.remove("lb-cards", "lb-auto");
    if (innerWidth >= 576 || box.scrollWidth <= box.clientWidth + 1) return;
    table.classList.add("lb-cards", "lb-auto");
    if (table.getAttribute("role")) return;
    table.setAttribute("role", "table");
    const words = heads.map(head => {
      const copy = head.cloneNode(true);
      copy.querySelectorAll("br").forEach(end => end.replaceWith(", "));
      return copy.textContent.trim();
    });
    for (const part of [table.tHead, ...table.tBodies]) part.setAttribute("role", "rowgroup");
    for (const row of table.rows) {
      row.setAttribute("role", "row");
      [...row.cells].forEach((cell, i) => {
        cell.setAttribute("role", row.parentElement === table.tHead ? "columnheader" : cell.tagName === "TH" ? "rowheader" : "cell");
        if (i && cell.tagName === "TD" && words[i]) cell.dataset.head = words[i];
      });
    }
  });
  // A box that scrolls must be reachable by keyboard; one that does not must not be a stop on the way.
  const boxes = () => {
    cards();
    document.querySelectorAll("main mjx-container:not([display])").forEach(m => {
      const block = m.closest("p, li, td, th, dd, dt, figcaption, caption, div");
      m.classList.remove("lb-wide");
      // In a table a wide formula scrolls by itself; else every other cell grows with it and is cut off.
      const box = m.closest(".lb-scroll"), room = box ? Math.max(180, box.clientWidth - 150) : block?.clientWidth;
      box?.style.setProperty("--lb-room", `${room}px`);
      if (block && m.getBoundingClientRect().width > room + 1) m.classList.add("lb-wide");
    });
    document.querySelectorAll("main .math.display, main .lb-wide, main pre").forEach(box => {
      const wide = box.scrollWidth > box.clientWidth + 1;
      if (wide) {
        box.tabIndex = 0;
        box.setAttribute("role", "group");
        box.setAttribute("aria-label", box.matches("pre") ? "Code, scrolls sideways" : "Formula, scrolls sideways");
      } else if (box.getAttribute("role") === "group") ["tabindex", "role", "aria-label"].forEach(a => box.removeAttribute(a));
    });
  };
  // A table of class lb-sort is sorted by a click on a head, and filtered by words. Without this script it is a table.
  const value = cell => { const t = cell.dataset.sort ?? cell.textContent.trim(), n = parseFloat(t.replace(/[\s\u202f]/g, "")); return /^[-+\d.∞]/.test(t) ? (t.startsWith("∞") ? Infinity : n) : t.toLowerCase(); };
  const order = (a, b) => typeof a === typeof b ? (a < b ? -1 : +(a > b)) : typeof a === "number" ? -1 : 1;
  const sortable = table => {
    const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells], rows = [...body.rows];
    heads.forEach((head, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "lb-head";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach(h => h.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        rows.sort((a, b) => (down ? -1 : 1) * order(value(a.cells[i]), value(b.cells[i])));
        body.append(...rows);
      });
    });
    if (rows.length < 8) return;
    const label = document.createElement("label"), input = document.createElement("input"), count = document.createElement("span");
    label.className = "lb-filter";
    input.type = "search";
    input.placeholder = `words, such as: ${table.dataset.words || "focal bfloat16"}`;
    count.setAttribute("role", "status");
    label.append("Show rows with ", input, count);
    (table.closest(".lb-scroll") || table).before(label);
    const filter = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      rows.forEach(r => {
        const t = r.textContent.toLowerCase(), whole = [...r.cells].map(c => [...c.childNodes].filter(n => n.nodeName !== "SMALL").map(n => n.textContent).join("").trim().toLowerCase());
        r.hidden = !words.every(w => w[0] === "=" ? whole.includes(w.slice(1)) : t.includes(w));   // =word: a whole cell, but for what stands small in it
      });
      count.textContent = words.length ? ` ${rows.filter(r => !r.hidden).length} of ${rows.length}` : "";
    };
    input.addEventListener("input", filter);
    // A link such as ledger.html?rows==cross_entropy shows the rows of one loss; the field says so, and can be emptied.
    const asked = new URLSearchParams(location.search).get("rows");
    if (asked && table === document.querySelector("main table.lb-sort")) { input.value = asked; filter(); }
  };
  addEventListener("DOMContentLoaded", () => document.querySelectorAll("main table.lb-sort").forEach(sortable));

  let waiting = 0;
  const later = () => { clearTimeout(waiting); waiting = setTimeout(boxes, 100); };
  ["load", "resize", "lossbook:math"].forEach(e => addEventListener(e, later));
  document.addEventListener("toggle", later, true);

  // A link into folded code opens it.
  const unfold = () => {
    const there = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    let shut = there?.closest("main details:not([open])");
    if (!shut) return;
    for (; shut; shut = shut.parentElement.closest("details:not([open])")) shut.open = true;
    there.scrollIntoView();
  };
  ["DOMContentLoaded", "hashchange"].forEach(e => addEventListener(e, unfold));
  // One button for all the code of a page: to read it, to search in it, to print it.
  addEventListener("DOMContentLoaded", () => {
    const all = [...document.querySelectorAll("main details.code-fold")], line = document.querySelector("main .lb-tools");
    if (!all.length || !line) return;
    const button = document.createElement("button");
    button.type = "button";
    const told = () => { button.textContent = all.some(d => !d.open) ? "Show all code" : "Fold the code"; };
    button.addEventListener("click", () => { const open = all.some(d => !d.open); all.forEach(d => { d.open = open; }); told(); });
    document.addEventListener("toggle", told, true);
    told();
    line.append(button);
  });

  // A page opened as a file may not fetch; a script it may load. So search works there too.
  if (location.protocol === "file:") {
    const fetched = window.fetch, here = document.currentScript.src;
    const index = () => window.lossbookSearch ? Promise.resolve() : new Promise((done, failed) => {
      const s = document.createElement("script");
      Object.assign(s, {src: new URL("../../search.js", here).href, onload: done, onerror: failed});
      document.head.append(s);
    });
    window.fetch = (what, ...rest) => /search\.json$/.test(String(what.url || what))
      ? index().then(() => new Response(JSON.stringify(window.lossbookSearch))) : fetched(what, ...rest);
  }
})();
"""

ICON = ("data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect width='16' height='16' rx='3' fill='%230067a5'/%3E"
        "%3Cpath d='M3 3C4 10 8 12 13 12' fill='none' stroke='white' stroke-width='2' stroke-linecap='round'/%3E%3C/svg%3E")


def palette(css):
    "What matplotlib draws -> the variable that replaces it: the light values in the first :root block of styles.css."
    root = re.search(r":root\s*\{(.*?)\}", css, re.S)
    table = {value.lower(): f"var({name})" for name, value in re.findall(r"(--fig-[\w-]+):\s*(#[0-9a-fA-F]{6})\b", root.group(1) if root else "")}
    if not table: raise SystemExit("finish_site: styles.css has no --fig-… colours in its first :root block")
    return table


def text_of(markup):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def attributes(tag):
    return {name: html.unescape(value[1:-1]) for name, value in ATTR.findall(tag)}


def scoped(css, root):
    "The rules of a picture's own style sheet, which inline would reach the whole page."
    return "".join(f"{','.join(f'#{root} {s.strip()}' for s in sel.split(','))}{{{body}}}" for sel, body in re.findall(r"([^{}]+)\{([^{}]*)\}", css))


def lighter(body):
    "Places to a hundredth of a point, which no screen shows; matplotlib writes a millionth. Factors of scale stay."
    near = lambda m: re.sub(r"-?\d+\.\d{3,}", lambda n: f"{float(n[0]):.2f}".rstrip("0").rstrip(".").replace("-0", "0", f"{float(n[0]):.2f}" == "-0.00"), m[0])
    return re.sub(r'\s(?:d|x|y|points)="[^"]*"|\btranslate\([^)]*\)', near, body)


def inline_svg(tag, body, n, label, colours):
    "One picture, ready to stand in a page: own names for its ids, the page's colours, a name for who cannot see it."
    root = f"lb-fig-{n}"
    body = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", body, flags=re.S)
    body = re.sub(r'(\sid=")([^"]+)', rf"\g<1>{root}-\2", body)
    body = re.sub(r'(\s(?:xlink:)?href="#|url\(#)', rf"\g<1>{root}-", body)
    body = re.sub(r"(<style[^>]*>)(.*?)(</style>)", lambda m: m[1] + scoped(m[2], root) + m[3], body, flags=re.S)
    body = lighter(body)
    body = HEX.sub(lambda m: colours.get(m[0].lower(), m[0]), body)
    keep = {k: v for k, v in attributes(tag).items() if k in ("width", "height", "viewBox", "version", "xmlns", "xmlns:xlink")}
    attrs = dict(id=root, **{"class": "lb-figure"}, role="img", **{"aria-label": label}, **keep)
    return "<svg" + "".join(f' {k}="{html.escape(v)}"' for k, v in attrs.items()) + f">{body}</svg>"


def caption_after(text, pos):
    "The caption of the figure that is open at `pos`: a picture without its own words is named by it."
    end = text.find("</figure>", pos)
    found = re.search(r"<figcaption[^>]*>(.*?)</figcaption>", text[pos:end if end > 0 else pos], re.S)
    return text_of(found.group(1)) if found else ""


def figures(main, folder, out, colours):
    def load(m):
        src = m[1]
        if re.match(r"[a-z]+:|//", src): return m[0]
        file = (folder / unquote(src)).resolve()
        if out not in file.parents: return m[0]
        if not file.is_file(): raise SystemExit(f"finish_site: {folder.relative_to(out)}: the figure {src} is missing")
        found = SVG.search(file.read_text(encoding="utf-8"))
        if not found: raise SystemExit(f"finish_site: {src} holds no <svg>")
        alt = attributes(m[0]).get("alt", "")
        return f'<svg alt="{html.escape(alt)}"' + found[1][4:] + found[2] + "</svg>"

    main = IMG.sub(load, main)
    n = len(re.findall(r'<svg [^>]*class="lb-figure"', main))

    def put(m):
        nonlocal n
        given = attributes(m[1])
        if given.get("class") == "lb-figure": return m[0]
        n += 1
        return inline_svg(m[1], m[2], n, given.get("alt") or caption_after(m.string, m.end()) or given.get("aria-label") or "Figure", colours)

    main = SVG.sub(put, main)
    return re.sub(r'(<div\b[^>]*?)\s(?:fig-)?alt="[^"]*"', r"\1", main)  # Quarto repeats the words on a div, where they mean nothing


def addresses(main):
    "A link to another host whose words are not its address: on paper the address stands behind them."
    mark = lambda m: m[0] if text_of(m[3]) == html.unescape(m[2]) else f'<a data-print href="{m[2]}"{m[1]}{m[4]}>{m[3]}</a>'
    return re.sub(r'<a((?:\s(?!data-print|href)[\w-]+(?:="[^"]*")?)*)\shref="(https?://[^"]+)"([^>]*)>(.*?)</a>', lambda m: mark([m[0], m[1], m[2], m[4], m[3]]), main, flags=re.S)


def captions(main):
    "smalldocs leaves TeX between dollars in a caption; Quarto has set it by now."
    tex = lambda m: m[1] + re.sub(r"\$([^$<]+)\$", r'<span class="math inline">\\(\1\\)</span>', m[2]) + m[3]
    return re.sub(r"(<(?:fig)?caption\b[^>]*>)(.*?)(</(?:fig)?caption>)", tex, main, flags=re.S)


def table_captions(main, notebook):
    "The captions that smalldocs leaves out: those of tables that a cell gives as Markdown."
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        options = dict(re.findall(r"^#\| (label|tbl-cap): (.+)$", "".join(cell["source"]), re.M))
        if cell["cell_type"] != "code" or "tbl-cap" not in options or "label" not in options: continue
        found = re.search(rf'<div id="{re.escape(options["label"])}"(.*?)<table\b[^>]*>', main, re.S)
        if not found or re.search(r'<(?:fig)?caption\b|class="lb-caption"', found[1] + main[found.end():].partition("</table>")[0]): continue
        words = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(options["tbl-cap"], quote=False))
        main = main[:found.end()] + f"<caption>{words}</caption>" + main[found.end():]
    return main


def tables(main):
    def box(m):
        if m[1]: return m[0]
        found = re.search(r"<caption[^>]*>(.*?)</caption>", m[2], re.S)
        own = attributes(re.match(r"<table\b[^>]*>", m[2])[0]).get("aria-label") or "Table"
        words = re.sub(r"\\[()]", "", text_of(found.group(1)))[:120] if found else own
        # The caption stands above the box: inside it would be as wide as the table and scroll away with it.
        above = f'<p class="lb-caption">{found[1]}</p>' if found else ""
        table = m[2].replace(found[0], "", 1).replace("<table", f'<table aria-label="{html.escape(words)}"', 1) if found else m[2]
        tall = " lb-tall" if m[2].count("<tr") > TALL else ""
        return f'{above}<div class="lb-scroll{tall}" role="region" tabindex="0" aria-label="{html.escape(words)}">{table}</div>'
    return re.sub(r'(<div class="lb-scroll[^>]*>)?(<table\b.*?</table>)', box, main, flags=re.S)


def notebook_of(page, out):
    "The notebook that a page was made from, or None; pages lie in the site as notebooks lie in the repository."
    file = ROOT / page.relative_to(out).with_suffix(".ipynb")
    return file if file.is_file() else None


def defined(code):
    "The names that a cell defines at its top, public ones before private ones."
    names = []
    for node in ast.parse(code).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)): names.append(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            names += [n.id for target in getattr(node, "targets", None) or [node.target] for n in ast.walk(target) if isinstance(n, ast.Name)]
    return sorted(dict.fromkeys(names), key=lambda name: name.startswith("_"))


def claims(node):
    "Does this piece of code test something?"
    return any(isinstance(n, ast.Assert) or (isinstance(n, ast.Attribute) and n.attr in ("assert_close", "raises")) for n in ast.walk(node))


LONG = 20  # lines of exported code in a chapter, from which it is folded


def fold_as(cell, section, subject):
    """The words under which the code of a cell is folded, as HTML, or None where it stays open. The one rule of the book:

    Code that only imports, and code that only tests, is folded everywhere but under "In use", where it is an example;
    what a cell prints stays, and then its code stays too. The front page is as it was written. Exported code is folded on the pages that are about the book's own tools; in a chapter it is the subject
    and stays, but for the kernels, which say once more and faster what stands beside them, for what belongs to the
    checks, and for what is long: mostly the documented arguments of a public function, which the API reference sets as
    a table.
    """
    source = "".join(cell["source"])
    code = OPTIONS.sub("", source)
    try: tree = ast.parse(code)
    except SyntaxError: return None  # a line of the shell
    if not tree.body or section == "In use": return None
    names = [f"<code>{name}</code>" for name in defined(code)]
    told = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    lines = f"{n} lines" if (n := len(code.strip().splitlines())) > 1 else "1 line"
    if all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in tree.body): return f"Imports ({lines})"
    if re.search(r"^#\s?\|\s*export\b", source, re.M):
        short = n < LONG and "kernel" not in " ".join(names)
        if subject and short and section not in ("Checks", "Shape"): return None
        return f"The code: {told} ({lines})" if names else f"The code ({lines})"
    printed = any(out["output_type"] == "stream" or out.get("data", {}).keys() == {"text/plain"} for out in cell["outputs"])
    return None if printed or not claims(tree) else f"The check ({lines})"


def fold_code(main, notebook):
    "Fold the code of the cells that the rule names; what the renderer folded already stays as it is."
    if notebook.parent == ROOT: return main
    subject, section, rule = notebook.parent.name not in ("foundations", "evidence"), "", {}
    squeezed = lambda text: re.sub(r"\s+", "", text)
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown": section = (re.findall(r"^## (.+?)\s*$", source, re.M) or [section])[-1]
        if cell["cell_type"] == "code" and not re.search(r"^#\|\s*(?:echo|include):\s*false", source, re.M) and (words := fold_as(cell, section, subject)):
            rule[squeezed(OPTIONS.sub("", source))] = words
    seen = set()

    def fold(m):
        code = squeezed(OPTIONS.sub("", html.unescape(re.sub(r"<[^>]+>", "", m[4]))))
        seen.add(code)
        return m[0] if m[1] or code not in rule else f'<details class="code-fold lb-fold"><summary>{rule[code]}</summary>{m[2]}</details>'

    main = BLOCK.sub(fold, main)
    if lost := [words for code, words in rule.items() if code not in seen]:
        print(f"finish_site: {notebook.relative_to(ROOT)}: not folded, since it is not in the page: {', '.join(map(text_of, lost))}")
    return main


def exported(notebook):
    "The module that a notebook exports, relative to the repository, or None."
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if found := re.search(r"^#\s?\|\s*default_exp\s+(\S+)", "".join(cell["source"]), re.M):
            module = Path("lossbook") / (found[1].replace(".", "/") + ".py")
            return module if (ROOT / module).is_file() else None
    return None


def tools_line(page, notebook, out):
    "The line under a title: the page as a notebook, and as the module that it exports."
    here, module, up = notebook.relative_to(ROOT).as_posix(), exported(notebook), "../" * len(page.parent.relative_to(out).parts)
    source = f'<a href="{up}source/{module.stem}.html">Source: {module.as_posix()}</a>' if module else ""
    return ('<!-- lossbook --><div class="lb-tools" role="group" aria-label="This page as code">'
            f'<a href="{notebook.name}" download="{notebook.name}">Download the notebook</a>'
            f"{source}<details><summary>Open in JupyterLab</summary><p>In a copy of the repository, in the environment that <code>make env</code> makes: "
            f"<code>jupyter lab {here}</code></p></details></div><!-- /lossbook -->")


def coloured(code):
    "Python as HTML: one line of text is one line of the page, and what a line defines is its anchor."
    rows, spans = code.splitlines(), []
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        kind = {tokenize.COMMENT: "c", tokenize.STRING: "s"}.get(token.type) or ("k" if token.type == tokenize.NAME and keyword.iskeyword(token.string) else None)
        if kind or "FSTRING" in tokenize.tok_name[token.type]: spans.append((token.start, token.end, kind or "s"))
    marks = {}
    for (first, start), (last, end), kind in spans:
        for row in range(first, last + 1):
            marks.setdefault(row, []).append((start if row == first else 0, end if row == last else len(rows[row - 1]), kind))
    out = []
    for n, row in enumerate(rows, 1):
        text, at = "", 0
        for start, end, kind in sorted(marks.get(n, [])):
            text += html.escape(row[at:start]) + f'<span class="{kind}">{html.escape(row[start:end])}</span>'
            at = end
        name = re.match(r"(?:def|class) (\w+)|(\w+)(?:: [^=]+)? = ", row)
        name = (name[1] or name[2]) if name else None
        out.append(f'<span class="line"{f" id={chr(34)}{name}{chr(34)}" if name and all(f" id={chr(34)}{name}{chr(34)}" not in line for line in out[-400:]) else ""}>{text}{html.escape(row[at:])}</span>')
    return "\n".join(out)


SOURCE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{module} – lossbook</title><link rel="icon" href="{icon}">
<script>(() => {{   // as the pages: what the reader chose, else what the system asks for
  let chosen = null;
  try {{ chosen = localStorage.getItem("smalldocs-scheme") || localStorage.getItem("quarto-color-scheme"); }} catch (e) {{}}
  if (chosen ? /dark|alternate/.test(chosen) : matchMedia("(prefers-color-scheme: dark)").matches) document.documentElement.className = "dark";
}})();</script>
<style>
:root {{ --ink: #1f2328; --paper: #ffffff; --muted: #57606a; --key: #8a1c5b; --text: #0b5d2a; --link: #0a58a8; }}
.dark {{ --ink: #e6e6e6; --paper: #222222; --muted: #b4bcc4; --key: #ff9ac9; --text: #86e2ac; --link: #7cc0ff; color-scheme: dark; }}
body {{ margin: 0 auto; padding: 1rem; max-width: 62rem; color: var(--ink); background: var(--paper); font: 1rem/1.5 system-ui, "Liberation Sans", Arial, sans-serif; }}
h1 {{ font-size: 1.4rem; }} a {{ color: var(--link); }}
pre {{ margin: 0; font-size: .85rem; line-height: 1.45; white-space: pre-wrap; overflow-wrap: anywhere; counter-reset: line; }}
.line {{ display: block; min-height: 1.45em; padding-left: 3.5em; text-indent: -3.5em; }}
.line::before {{ counter-increment: line; content: counter(line); display: inline-block; width: 2.75em; margin-right: .75em; text-indent: 0; text-align: right; color: var(--muted); }}
.line:target {{ outline: 2px solid var(--link); }}
.c {{ color: var(--muted); font-style: italic; }} .s {{ color: var(--text); }} .k {{ color: var(--key); font-weight: 600; }}
@media (max-width: 36rem) {{ .line {{ padding-left: 0; text-indent: 0; }} .line::before {{ content: none; }} }}
@media print {{ :root {{ --ink: #000; --paper: #fff; --muted: #444; --key: #000; --text: #222; --link: #000; }} }}
</style></head>
<body><main><h1>{module}</h1><p>Written by the notebook of <a href="{back}">{title}</a>, where it is explained; this file is not edited.</p>
<pre><code>{code}</code></pre></main></body></html>
"""


def source_page(module, page, out):
    "The module that a page exports, as a page that needs nothing else."
    code = coloured((ROOT / module).read_text(encoding="utf-8")).replace("</span>\n<span", "</span><span")
    title = re.search(r"<h1\b[^>]*>(.*?)</h1>", page.read_text(encoding="utf-8"), re.S)
    return SOURCE.format(module=module.as_posix(), icon=ICON, back="../" + page.relative_to(out).as_posix(), title=text_of(title[1]) if title else page.stem, code=code)


def finish(page, folder, out, colours, mathjax, file=None):
    "One page, from the renderer's HTML to the book's."
    page = HEAD.sub("", page)
    for unused in UNUSED: page = unused.sub("", page)
    if not re.search(r"<html\b[^>]*\blang=", page): page = re.sub(r"<html\b", '<html lang="en"', page, count=1)
    found = MAIN.search(page)
    if not found: raise SystemExit("finish_site: a page has no <main>")
    notebook = file and notebook_of(file, out)
    main = table_captions(found[0], notebook) if notebook else found[0]
    main = addresses(tables(captions(figures(main, folder, out, colours))))
    if notebook:
        main = fold_code(main, notebook)
        title = TITLE.search(main)
        if not title: raise SystemExit(f"finish_site: {file.relative_to(out)} has no title")
        main = main[:title.end()] + tools_line(file, notebook, out) + main[title.end():]
    page = page[:found.start()] + main + page[found.end():]
    # Two landmarks of one kind need names; smalldocs also calls the arrows of its sidebar navigation.
    page = re.sub(r'<nav class="navbar(?![^>]*aria-label)', '<nav aria-label="Site" class="navbar', page)
    page = re.sub(r'(<a class="sidebar-item-toggle[^>]*) role="navigation"', r'\1 role="button"', page)
    up = "../" * len(folder.relative_to(out).parts)
    head = f'<script src="{up}site_libs/lossbook/book.js"></script>\n'
    # A part of a page may ask for a script of its own, assets/NAME.js, which runs when the page has been read.
    for name in sorted(set(OWN.findall(main))): head += f'<script defer src="{up}site_libs/lossbook/{name}.js"></script>\n'
    if not re.search(r'<link\b[^>]*\brel="icon"', page): head = f'<link rel="icon" href="{ICON}">\n' + head
    if mathjax:
        page = CDN_MATH.sub("", page)
        if re.search(r'class="math\b|\\\(|\\\[', main): head += CONFIG + f'<script defer src="{up}site_libs/mathjax/tex-svg-full.js"></script>\n'
    return page.replace("</head>", f"\n<!-- lossbook -->\n{head}<!-- /lossbook -->\n</head>", 1)


def find_mathjax():
    "The folder of the installed package, seen without importing it: the rendering python is often not the book's."
    places = [Path(p) for p in sys.path if p]
    for env in (ROOT / ".venv", Path(os.environ.get("VIRTUAL_ENV") or ROOT / ".venv")):
        places += [*env.glob("lib/python*/site-packages"), env / "Lib/site-packages"]
    return next((p / MATHJAX for p in places if (p / MATHJAX / "es5/tex-svg-full.js").is_file()), None)


def write(file, text):
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def main(out):
    pages = [p for p in sorted(out.rglob("*.html")) if p.relative_to(out).parts[0] not in ("site_libs", "source")]
    if not pages: raise SystemExit(f"finish_site: no pages in {out}")
    colours, mathjax = palette((ROOT / "styles.css").read_text(encoding="utf-8")), find_mathjax()
    if mathjax:
        libs = out / "site_libs/mathjax"
        libs.mkdir(parents=True, exist_ok=True)
        for file in ("es5/tex-svg-full.js", "LICENSE"):
            if (mathjax / file).is_file(): shutil.copyfile(mathjax / file, libs / Path(file).name)
    write(out / "site_libs/lossbook/book.js", SCRIPT)
    index = out / "search.json"
    if index.is_file():
        # `</` and the two line separators are the only JSON that is not also safe in a script.
        data = json.dumps(json.loads(index.read_text(encoding="utf-8"))).replace("</", "<\\/")
        write(out / "search.js", f"window.lossbookSearch = {data};\n")
    for css in out.rglob("*.css"):
        text = css.read_text(encoding="utf-8", errors="surrogateescape")
        if WEB_FONT.search(text): css.write_text(WEB_FONT.sub("", text), encoding="utf-8", errors="surrogateescape")
    outside = set()
    for page in pages:
        text = page.read_text(encoding="utf-8")
        if "<main" not in text: continue  # a redirect
        text = finish(text, page.parent, out, colours, mathjax, page)
        for name in set(OWN.findall(text)):
            script = ROOT / f"assets/{name}.js"
            if not script.is_file(): raise SystemExit(f"finish_site: {page.relative_to(out)} asks for assets/{name}.js, which does not exist")
            write(out / f"site_libs/lossbook/{name}.js", script.read_text(encoding="utf-8"))
        write(page, text)
        if notebook := notebook_of(page, out):
            shutil.copyfile(notebook, page.with_suffix(".ipynb"))
            if module := exported(notebook): write(out / "source" / f"{module.stem}.html", source_page(module, page, out))
        outside.update(EXTERNAL.findall(text))
    print(f"finish_site: {len(pages)} pages, mathematics " + ("by the local MathJax" if mathjax else "by the renderer's CDN: django-static-mathjax is not installed"))
    if mathjax and outside: raise SystemExit("finish_site: pages still ask other hosts for " + ", ".join(sorted(outside)))


if __name__ == "__main__":
    main((ROOT / (sys.argv[1] if len(sys.argv) > 1 else os.environ.get("QUARTO_PROJECT_OUTPUT_DIR") or "_site")).resolve())
