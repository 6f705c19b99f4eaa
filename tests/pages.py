"""What the pages point at, read from the notebooks: every link of a page, and every anchor that a page has."""
import functools
import html
import json
import re
from pathlib import Path, PurePosixPath
from posixpath import normpath

import yaml

ROOT = Path(__file__).resolve().parent.parent


@functools.lru_cache(None)
def cells(page: str): return json.loads((ROOT / page).read_text(encoding="utf-8"))["cells"]


def source(cell): return "".join(cell["source"])


def shown(cell, *kinds):
    "What a cell shows, as text of these kinds, such as text/html."
    return "\n".join("".join(out.get("data", {}).get(kind, [])) for out in cell.get("outputs", []) for kind in kinds)


def texts(page: str):
    "All that a reader sees of a page: Markdown, and outputs in HTML and Markdown."
    for cell in cells(page):
        yield source(cell) if cell["cell_type"] == "markdown" else shown(cell, "text/html", "text/markdown")


def slug(heading: str) -> str:
    "The anchor that both renderers make of a heading."
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", heading).strip().lower()
    return re.sub(r"^[^a-z]+", "", re.sub(r"\s+", "-", re.sub(r"[^\w\s.-]", "", plain)))


def anchors(page: str) -> set:
    "The names in a page that a link can lead to: headings, ids in outputs, labels of tables and figures."
    found = set()
    for cell in cells(page):
        text = source(cell)
        if cell["cell_type"] == "markdown":
            found |= {slug(h) for h in re.findall(r"^#{2,4} (.+)$", text, re.M)} | set(re.findall(r'\bid="([^"]+)"', text))
        else:
            found |= set(re.findall(r"^#\| label: (\S+)", text, re.M)) | set(re.findall(r'\bid="([^"]+)"', shown(cell, "text/html", "text/markdown")))
    return found


def links(text: str) -> set:
    "The internal links of a text in Markdown or HTML."
    found = set(re.findall(r"\]\(([^)\s]+)\)", text)) | {html.unescape(h) for h in re.findall(r'\bhref="([^"]+)"', text)}
    return {link for link in found if not re.match(r"[a-z]+:|//", link)}


def dead(page: str, text: str) -> list:
    "The links of a text on a page that lead to no notebook, or to no place in it."
    found = []
    for link in sorted(links(text)):
        path, _, place = link.partition("#")
        path = path.partition("?")[0]
        there = normpath(str(PurePosixPath(page).parent / path.replace(".html", ".ipynb"))) if path else page
        if not (ROOT / there).is_file() or (place and place not in anchors(there)): found.append(link)
    return found


def book_order():
    "Notebooks in the order of the sidebar."
    found = []
    def walk(node):
        if isinstance(node, str): found.append(node)
        elif isinstance(node, list): [walk(n) for n in node]
        elif isinstance(node, dict): walk([*([node["href"]] if "href" in node else []), *node.get("contents", [])])
    walk(yaml.safe_load((ROOT / "_quarto.yml").read_text())["website"]["sidebar"]["contents"])
    return found
