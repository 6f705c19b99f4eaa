"""Is the house in order? Layers, notebooks, documentation, words that must not appear."""
import ast
import configparser
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CLAIMS
from pages import book_order

import lossbook
from lossbook.figures import PALETTE

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "nbs").rglob("*.ipynb"))
PARTS = {p.relative_to(ROOT / "nbs").parts[0] for p in NOTEBOOKS}
# Pages that are not about one loss: the head of a part, failures, the map of a part, a study, a layer with any loss. Spans are a use of a loss: the form, but no card.
OTHERS = {"index", "nan", "two_sums", "yeast", "digits", "shuttle", "scores", "focus", "tagger", "linear"}
CHAPTERS = [p for p in NOTEBOOKS if p.parent.name not in ("foundations", "evidence") and p.stem not in OTHERS]
SECTIONS = ["Definition", "Derivation", "Where the textbook form breaks", "Implementation", "Checks", "Shape", "In use", "What the note said", "Exercises", "References"]
PROVING = {"symbolic", "exact", "figures", "audit", "rows", "sets", "every", "records", "catalogue", "ledger", "targets", "cli", "bench", "playground", "docstrings"}


def cells(path): return json.loads(path.read_text())["cells"]
def source(cell): return "".join(cell["source"])
def module_of(path):
    found = [m[1] for c in cells(path) if (m := re.search(r"^#\| default_exp (\S+)", source(c), re.M))]
    return found[0] if found else None


def imports_of(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "lossbook": names |= {a.name for a in node.names}
            elif node.module.startswith("lossbook."): names.add(node.module.split(".")[1])
    return names


def test_every_notebook_is_in_the_book_once():
    order = book_order()
    assert sorted(order) == sorted(["index.ipynb", *(str(p.relative_to(ROOT)) for p in NOTEBOOKS)])


def test_one_module_per_notebook_and_one_notebook_per_module():
    modules = [m for p in NOTEBOOKS if (m := module_of(p))]
    assert len(modules) == len(set(modules))
    assert {p.stem for p in (ROOT / "lossbook").glob("*.py")} - {"_modidx"} == set(modules)


def test_a_chapter_imports_only_what_comes_before_it():
    place = {module_of(ROOT / p): i for i, p in enumerate(book_order()) if (ROOT / p).suffix == ".ipynb" and module_of(ROOT / p)}
    for path in (ROOT / "lossbook").glob("*.py"):
        if path.stem in ("_modidx", "__init__", "catalogue"): continue
        late = {m for m in imports_of(path) if m in place and place[m] >= place[path.stem]}
        assert not late, f"{path.stem} imports {late}, which come later in the book"


def test_layers():
    "Foundations import no chapter; nothing imports evidence but evidence."
    folder = {module_of(p): p.parent.name for p in NOTEBOOKS if module_of(p)}
    for path in (ROOT / "lossbook").glob("*.py"):
        if path.stem == "_modidx": continue
        for name in imports_of(path) & set(folder):
            if folder[path.stem] == "foundations": assert folder[name] == "foundations", (path.stem, name)
            if folder[path.stem] != "evidence": assert folder[name] != "evidence", (path.stem, name)


def test_what_users_call_imports_torch_only():
    code = "import sys, torch; before = set(sys.modules); import lossbook; print(*{m.split('.')[0] for m in set(sys.modules) - before})"
    added = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split())
    assert not added & {"sympy", "flint", "matplotlib", "nbdev", "fastcore", "IPython", "rich", "typer", "sklearn"}
    assert not {f"lossbook.{m}" for m in PROVING} & added


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_chapter_sections_are_in_order(path):
    found = [line[3:].strip() for c in cells(path) if c["cell_type"] == "markdown" for line in source(c).splitlines() if line.startswith("## ")]
    assert found == SECTIONS


@pytest.mark.parametrize("path", [p for p in CHAPTERS if p.stem != "spans"], ids=lambda p: p.stem)
def test_every_chapter_begins_with_a_card(path):
    first = [c for c in cells(path) if c["cell_type"] == "code" and "default_exp" not in source(c)][0]
    assert "Card(" in source(first)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_form(path):
    all_cells = cells(path)
    assert all_cells[0]["cell_type"] == "raw" and {"title:", "description:"} <= set(re.findall(r"^\w+:", source(all_cells[0]), re.M))
    code = [source(c) for c in all_cells if c["cell_type"] == "code"]
    assert len(code) < 80, "too many cells for one idea"
    for text in code:
        assert text.strip(), "an empty cell"
        if "#| export" in text: assert re.findall(r"^#\| .*", text, re.M) == ["#| export"] and text.startswith("#| export\n"), text[:80]
        if "#| label: fig-" in text: assert "#| fig-cap: " in text and "#| fig-alt: " in text
        if "#| label: tbl-" in text: assert "#| tbl-cap: " in text
    assert not any(source(c).lstrip().startswith("# ") for c in all_cells if c["cell_type"] == "markdown"), "the title stands in the front matter"


def test_mean_cell_is_short():
    "A reader holds a cell in the head: documentation and options not counted."
    for path in CHAPTERS:
        sizes = []
        for c in cells(path):
            if c["cell_type"] != "code": continue
            text = re.sub(r'""".*?"""', "", source(c), flags=re.S)
            sizes.append(sum(bool(line.strip()) and not line.startswith("#|") for line in text.splitlines()))
        assert sum(sizes) / len(sizes) <= 10, path.stem


def test_no_output_is_an_error_or_a_warning():
    for path in [ROOT / "index.ipynb", *NOTEBOOKS]:
        for c in cells(path):
            for out in c.get("outputs", []):
                assert out["output_type"] != "error" and out.get("name") != "stderr", path


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.name)
def test_public_functions_document_every_argument(claim):
    text = inspect.getdoc(claim.loss)
    for name in inspect.signature(claim.loss).parameters: assert re.search(rf"^\s+{name}: .+", text, re.M), name
    for section in ("Args:", "Returns:", "Raises:", "Source:"): assert section in text
    assert inspect.getdoc(claim.module).endswith(text[-40:])


def test_exported_functions_have_docstrings():
    for path in sorted((ROOT / "lossbook").glob("*.py")):
        if path.stem == "_modidx": continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                bare_class = isinstance(node, ast.ClassDef) and any(k.arg == "loss" for k in node.keywords)  # documentation is made from the loss
                assert ast.get_docstring(node) or bare_class, f"{path.stem}.{node.name}"


def test_public_names_are_those_of_the_catalogue():
    names = {t.__name__ for c in CLAIMS for t in (c.loss, c.module)}
    assert set(lossbook.__all__) == names | {"linear_loss", "LinearLoss", "compiled"} and all(hasattr(lossbook, n) for n in names)
    assert lossbook.__doc__ and lossbook.__version__


def test_every_claim_of_the_note_that_a_page_decides_is_shown_there():
    rows = json.loads((ROOT / "nbs/evidence/note.json").read_text())
    assert len({r["id"] for r in rows}) == len(rows)
    for row in rows:
        assert set(row) == {"id", "claim", "quote", "verdict", "why", "page"}
        outputs = json.dumps([c.get("outputs") for c in cells(ROOT / row["page"])], ensure_ascii=False)
        assert f'id=\\"note-{row["id"].lower()}\\"' in outputs, f"{row['id']} has no verdict on its page"


def test_the_style_sheet_has_the_figures_colours():
    light = (ROOT / "styles.css").read_text().partition("}")[0]
    assert dict(re.findall(r"--fig-(\w+): (#[0-9a-f]{6});", light)) == PALETTE


def test_readme_is_what_the_records_say():
    done = subprocess.run([sys.executable, "tools/readme.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def readme(kind): return re.findall(rf"```{kind}\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
def outside(*words, cwd): return subprocess.run([sys.executable, *words], cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)


def test_readme_code_runs(tmp_path):
    use, losses, own = readme("python")
    code = use + "\nmy_loss = lambda z, t: lossbook.binary_cross_entropy_with_logits(z, t, reduction='none')\n" + own.replace("bce.spec())", "bce.spec(), checks=['value', 'gradient'])")
    (tmp_path / "readme.py").write_text(code)
    assert not (done := outside("readme.py", cwd=tmp_path)).returncode, done.stderr


def test_readme_audit_finds_what_it_says(tmp_path):
    "The file and the command as they stand there; every finding that is quoted is found."
    (tmp_path / "losses.py").write_text(readme("python")[1])
    [command] = [line for block in readme("sh") for line in block.splitlines() if line.startswith("lossbook audit ")]
    done = outside("-m", "lossbook.cli", *command.split()[1:], "--json", "report.json", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    found, [quoted] = (tmp_path / "report.json").read_text(), readme("text")
    for line in quoted.splitlines():
        check, _, words = line.partition(": ")
        assert words in found and check in done.stdout.splitlines()[-1], line


def test_readme_shows_pictures_that_are_there():
    "With words for who cannot see them, and none too heavy."
    shown = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert [name for _, name in shown] == ["assets/error.svg", "assets/site.png"]
    assert all(len(words) > 50 and 0 < (ROOT / name).stat().st_size < 300_000 for words, name in shown)


def test_nothing_names_a_private_place():
    "No path of a developer's machine and no package index in anything that is published."
    words = re.compile(r"/work/|(?<!torch)\.library|\.\./shared|/root/|/home/\w|/tmp/\w|files\.pythonhosted|pypi\.org/simple|download\.pytorch")
    skipped = {".venv", "_site", "_artifacts", ".cache", ".git", "build", "dist", "__pycache__", ".pytest_cache", ".hypothesis"}
    for path in ROOT.rglob("*"):
        if not path.is_file() or skipped & set(path.relative_to(ROOT).parts) or ".egg-info" in str(path) or path == Path(__file__): continue
        if path.suffix in (".png", ".pyc"): continue
        hit = words.search(path.read_text(errors="ignore"))
        assert not hit, f"{path.relative_to(ROOT)}: {hit[0]}"


def test_version_is_one():
    cfg = configparser.ConfigParser(delimiters=["="])
    cfg.read(ROOT / "settings.ini")
    assert cfg["DEFAULT"]["version"] == lossbook.__version__
    assert lossbook.__version__ in (ROOT / "CHANGELOG.md").read_text() and lossbook.__version__ in (ROOT / "CITATION.cff").read_text()
