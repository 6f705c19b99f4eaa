#!/usr/bin/env python3
"""Render the book to `_site/`: with Quarto where it is on PATH, else with smalldocs, from the same `_quarto.yml`.

A warning fails the render: both renderers exit 0 on a dead link or a stray `:::`, and the page is wrong all the same.
"""
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
TROUBLE = re.compile(r"\bWARN(?:ING)?\b|\bERROR\b|^warning:|[Uu]nable to resolve|[Uu]nresolved|:::")
# Keys of `_quarto.yml` that only Quarto reads. Each is named in full, so that nothing else hides behind it.
QUARTO_ONLY = {
    "warning: execute.enabled is ignored: smalldocs runs no code",
    "warning: ipynb-filters is ignored: smalldocs runs no code",
    "warning: unknown key html-table-processing",
    "warning: unknown key tbl-colwidths",
    "warning: format.html.respect-user-color-scheme is ignored",
    "warning: theme light.scss: smalldocs compiles no Sass; use css: and the --bs-* variables",
    "warning: theme dark.scss: smalldocs compiles no Sass; use css: and the --bs-* variables",
}


def renderer():
    "The name of the renderer and the command that runs it."
    if quarto := shutil.which("quarto"): return "Quarto", [quarto, "render"]
    if find_spec("smalldocs"): return "smalldocs", [sys.executable, "-m", "smalldocs.cli", "render", "."]
    beside = shutil.which("smalldocs") or shutil.which("smalldocs", path=os.pathsep.join([str(ROOT / ".venv/bin"), str(ROOT / ".venv/Scripts")]))
    if beside: return "smalldocs", [beside, "render", "."]
    sys.exit("book: no renderer. Install Quarto, or smalldocs with: pip install -c constraints.txt -e '.[dev]'")


def run(command):
    "The exit code and every line of the output, which is shown as it comes."
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace")
    seen = []
    for line in process.stdout:
        line = ANSI.sub("", line).rstrip()
        if line in QUARTO_ONLY: continue
        print(line, flush=True)
        seen.append(line)
    return process.wait(), seen


def main():
    name, command = renderer()
    print(f"book: rendering with {name}", flush=True)
    code, seen = run(command)
    if code: sys.exit(f"book: {name} failed with code {code}")
    if trouble := [line for line in seen if TROUBLE.search(line)]:
        sys.exit(f"book: {name} printed {len(trouble)} warning(s); each must be mended:\n  " + "\n  ".join(trouble))
    index = ROOT / "_site/index.html"
    if not index.is_file(): sys.exit("book: no _site/index.html was written")
    print(f"book: rendered with {name}. Open {index.as_uri()}\n"
          f"      or serve it: {Path(sys.executable).name} -m http.server --directory {os.path.relpath(ROOT / '_site')} 8000")


if __name__ == "__main__":
    main()
