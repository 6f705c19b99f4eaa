#!/usr/bin/env python3
"""The last step of a render: make `_site/` complete in itself.

Quarto and smalldocs both run this after writing the pages; `python tools/finish_site.py` runs it by hand. It puts
MathJax beside the pages, turns figures into inline SVG whose colours follow the page, boxes wide tables, and checks
that no page asks another host for anything. Standard library only: Quarto runs it with whatever python it finds.
Running it twice changes nothing.
"""
import html
import json
import os
import re
import shutil
import sys
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
  // A box that scrolls must be reachable by keyboard; one that does not must not be a stop on the way.
  const boxes = () => {
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
        box.setAttribute("role", "region");
        box.setAttribute("aria-label", box.matches("pre") ? "Code, scrolls sideways" : "Formula, scrolls sideways");
      } else if (box.getAttribute("role") === "region") ["tabindex", "role", "aria-label"].forEach(a => box.removeAttribute(a));
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
        const t = r.textContent.toLowerCase(), whole = [...r.cells].map(c => c.textContent.trim().toLowerCase());
        r.hidden = !words.every(w => w[0] === "=" ? whole.includes(w.slice(1)) : t.includes(w));   // =word: a whole cell
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


def inline_svg(tag, body, n, label, colours):
    "One picture, ready to stand in a page: own names for its ids, the page's colours, a name for who cannot see it."
    root = f"lb-fig-{n}"
    body = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", body, flags=re.S)
    body = re.sub(r'(\sid=")([^"]+)', rf"\g<1>{root}-\2", body)
    body = re.sub(r'(\s(?:xlink:)?href="#|url\(#)', rf"\g<1>{root}-", body)
    body = re.sub(r"(<style[^>]*>)(.*?)(</style>)", lambda m: m[1] + scoped(m[2], root) + m[3], body, flags=re.S)
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


def captions(main):
    "smalldocs leaves TeX between dollars in a caption; Quarto has set it by now."
    tex = lambda m: m[1] + re.sub(r"\$([^$<]+)\$", r'<span class="math inline">\\(\1\\)</span>', m[2]) + m[3]
    return re.sub(r"(<(?:fig)?caption\b[^>]*>)(.*?)(</(?:fig)?caption>)", tex, main, flags=re.S)


def tables(main):
    def box(m):
        if m[1]: return m[0]
        found = re.search(r"<caption[^>]*>(.*?)</caption>", m[2], re.S)
        own = attributes(re.match(r"<table\b[^>]*>", m[2])[0]).get("aria-label") or "Table"
        words = re.sub(r"\\[()]", "", text_of(found.group(1)))[:120] if found else own
        # The caption stands above the box: inside it would be as wide as the table and scroll away with it.
        above = f'<p class="lb-caption">{found[1]}</p>' if found else ""
        table = m[2].replace(found[0], "", 1).replace("<table", f'<table aria-label="{html.escape(words)}"', 1) if found else m[2]
        return f'{above}<div class="lb-scroll" role="region" tabindex="0" aria-label="{html.escape(words)}">{table}</div>'
    return re.sub(r'(<div class="lb-scroll"[^>]*>)?(<table\b.*?</table>)', box, main, flags=re.S)


def finish(page, folder, out, colours, mathjax):
    "One page, from the renderer's HTML to the book's."
    page = HEAD.sub("", page)
    for unused in UNUSED: page = unused.sub("", page)
    if not re.search(r"<html\b[^>]*\blang=", page): page = re.sub(r"<html\b", '<html lang="en"', page, count=1)
    found = MAIN.search(page)
    if not found: raise SystemExit("finish_site: a page has no <main>")
    main = tables(captions(figures(found[0], folder, out, colours)))
    page = page[:found.start()] + main + page[found.end():]
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
    pages = [p for p in sorted(out.rglob("*.html")) if "site_libs" not in p.relative_to(out).parts]
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
        text = finish(text, page.parent, out, colours, mathjax)
        for name in set(OWN.findall(text)):
            script = ROOT / f"assets/{name}.js"
            if not script.is_file(): raise SystemExit(f"finish_site: {page.relative_to(out)} asks for assets/{name}.js, which does not exist")
            write(out / f"site_libs/lossbook/{name}.js", script.read_text(encoding="utf-8"))
        write(page, text)
        outside.update(EXTERNAL.findall(text))
    print(f"finish_site: {len(pages)} pages, mathematics " + ("by the local MathJax" if mathjax else "by the renderer's CDN: django-static-mathjax is not installed"))
    if mathjax and outside: raise SystemExit("finish_site: pages still ask other hosts for " + ", ".join(sorted(outside)))


if __name__ == "__main__":
    main((ROOT / (sys.argv[1] if len(sys.argv) > 1 else os.environ.get("QUARTO_PROJECT_OUTPUT_DIR") or "_site")).resolve())
