#!/usr/bin/env python3
"""Execute the notebooks and keep their outputs, so that the committed pages are true.

    python tools/refresh.py                 execute what has changed, store the outputs
    python tools/refresh.py --check         write nothing; exit 1 if an output would change
    python tools/refresh.py --clean         do not execute: only clean the files
    python tools/refresh.py --clean --check exit 1 if a file is not clean
    python tools/refresh.py nbs/imbalance   only these notebooks or folders

Cells with `#| eval: false` are not executed and keep their stored outputs. A
page that shows a warning (anything on stderr) fails the check, unless the cell
says `#| warning: true`.

With LOSSBOOK_RECORD=name (or all) in the environment the named measurements are
made anew: one notebook at a time, with the machine's own threads and GPU.
"""
from __future__ import annotations

import argparse
import asyncio
import copy
import difflib
import hashlib
import json
import os
import platform
import re
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from export import Refused, directives, dump_notebook, give_ids, notebooks, read_config, source, write_whole

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(".cache/refresh.json")
KERNEL = {"display_name": "python3", "language": "python", "name": "python3"}

# Whatever can make a page differ between two machines or two runs.
FIXED_ENV = {
    "SOURCE_DATE_EPOCH": "0",
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "TZ": "UTC",
    "LC_ALL": "C.UTF-8",
    "COLUMNS": "80",
    "NO_COLOR": "1",
    "TERM": "dumb",
}
RECORD = "LOSSBOOK_RECORD"  # names the measurements to make anew; see nbs/foundations/records.ipynb
MEASURING = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
DROPPED_ENV = ("IN_TEST", "MPLBACKEND", "MATPLOTLIBRC", "PYTHONSTARTUP", "PYTHONWARNINGS", "PYTHONOPTIMIZE")
CELL_FILE = re.compile(r"\S*ipykernel_\d+[/\\]\d+\.py")  # a warning's place: holds a process number
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
SHOWN = 24  # lines of a diff or traceback


# -- one notebook's text -----------------------------------------------------


def joined(value):
    return "".join(value) if isinstance(value, list) else value


def split_outputs(nb: dict) -> None:
    """Sources, and texts and drawings in outputs, as lists of lines.

    Quarto loses line breaks in one long string. Base64 pictures stay one string.
    """
    for cell in nb["cells"]:
        cell["source"] = source(cell).splitlines(True)
        for out in cell.get("outputs", []):
            if "text" in out:
                out["text"] = joined(out["text"]).splitlines(True)
            for mime, value in out.get("data", {}).items():
                is_text = mime.startswith("text/") or mime in ("image/svg+xml", "application/javascript")
                if is_text:
                    out["data"][mime] = joined(value).splitlines(True)
                elif isinstance(value, list) and all(isinstance(line, str) for line in value):
                    out["data"][mime] = "".join(value)


def merge_streams(outputs: list[dict]) -> list[dict]:
    "Neighbouring pieces of one stream become one: where the kernel cuts them is chance."
    merged: list[dict] = []
    for out in outputs:
        last = merged[-1] if merged else {}
        if out["output_type"] == "stream" == last.get("output_type") and out["name"] == last["name"]:
            last["text"] = joined(last["text"]) + joined(out["text"])
        else:
            merged.append(out)
    return merged


def clean(nb: dict, name: str, cfg) -> dict:
    "The notebook as it is committed: no counts, no passing metadata, ids that stay."
    from nbdev.clean import clean_nb

    nb = copy.deepcopy(nb)
    give_ids(nb, name)
    nb["metadata"].setdefault("kernelspec", {}).update(KERNEL)
    for cell in nb["cells"]:
        cell.setdefault("metadata", {})
        if cell["cell_type"] == "code":
            cell["execution_count"] = None
            cell["outputs"] = merge_streams(cell.get("outputs", []))
            for out in cell["outputs"]:
                if out["output_type"] == "stream":
                    out["text"] = CELL_FILE.sub("cell.py", joined(out["text"]))
    split_outputs(nb)
    clean_nb(
        nb,
        allowed_metadata_keys=cfg.get("allowed_metadata_keys", "").split(),
        allowed_cell_metadata_keys=cfg.get("allowed_cell_metadata_keys", "").split(),
        clean_ids=cfg.getboolean("clean_ids", True),
    )
    return nb


# -- execution ---------------------------------------------------------------


@dataclass
class Page:
    "A notebook on its way: what was read, what came out, what is wrong with it."

    name: str
    path: Path
    text: str
    result: str = ""  # "", ok, changed, failed
    seconds: float = 0.0
    new_text: str = ""
    problems: list[str] = field(default_factory=list)  # fail the check
    notes: list[str] = field(default_factory=list)  # worth a line, harmless


def kernel_env(root: Path, scratch: Path) -> dict[str, str]:
    env = {key: value for key, value in os.environ.items() if key not in DROPPED_ENV}
    # A measurement may use the machine as it is; a page may not depend on it.
    free = MEASURING if os.environ.get(RECORD) else ()
    env.update({key: value for key, value in FIXED_ENV.items() if key not in free})
    # The book's own lossbook, installed or not.
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    # A reader's own IPython start-up files and matplotlib style stay out; fonts are found once.
    env["IPYTHONDIR"] = str(scratch / "ipython")
    env["JUPYTER_RUNTIME_DIR"] = str(scratch / "runtime")
    fonts = root / ".cache" / "matplotlib"
    fonts.mkdir(parents=True, exist_ok=True)
    env["MPLCONFIGDIR"] = str(fonts)
    return env


def make_kernel(scratch: Path):
    "A kernel of this very interpreter, whatever kernels the user has registered."
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = KernelSpec(argv=argv, display_name="python3", language="python")

    class ThisPython(KernelSpecManager):
        def get_kernel_spec(self, kernel_name):
            return spec

    km = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=ThisPython())
    folder = Path(tempfile.mkdtemp(dir=scratch))
    km.connection_file = str(folder / "kernel.json")
    if os.name == "posix":
        # Sockets in a private folder: no port to collide on, nothing on the network.
        km.transport, km.ip = "ipc", str(folder / "ipc")
    return km


def where(name: str, number: int, cell: dict) -> str:
    return f"{name}, cell {number} (#{cell['id']})"


def shorten(text: str, last: bool = False) -> str:
    lines = text.rstrip("\n").splitlines()
    if len(lines) > SHOWN:
        lines = ["..."] + lines[-SHOWN:] if last else lines[:SHOWN] + ["..."]
    return "\n".join("    " + line for line in lines)


async def execute(page: Page, nb: dict, root: Path, scratch: Path, timeout: int) -> dict | None:
    "Run every cell but those with `eval: false`; None, with the problem noted, if one fails."
    import nbformat
    from jupyter_core.utils import ensure_async
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    work = nbformat.from_dict(copy.deepcopy(nb))
    for cell in work.cells:
        cell.source = joined(cell.source)
    km = make_kernel(scratch)
    client = NotebookClient(work, km=km, timeout=timeout, record_timing=False, store_widget_state=False)
    number, cell = 0, None
    try:
        await client.async_start_new_kernel(cwd=str(page.path.parent), env=kernel_env(root, scratch))
        await client.async_start_new_kernel_client()
        for index, cell in enumerate(work.cells):
            number = index + 1
            if cell.cell_type != "code" or directives(cell).get("eval", "").lower() == "false":
                continue
            if not cell.source.strip():
                cell.outputs = []
                continue
            await client.async_execute_cell(cell, index)
    except CellExecutionError as err:
        page.problems.append(f"{where(page.name, number, cell)} raised\n" + shorten(ANSI.sub("", str(err)), True))
        return None
    except CellTimeoutError:
        page.problems.append(f"{where(page.name, number, cell)} did not end within {timeout} s")
        return None
    except (DeadKernelError, RuntimeError) as err:
        # nbclient takes our own Ctrl-C for a dead kernel.
        if asyncio.current_task().cancelling():
            raise asyncio.CancelledError from None
        at = where(page.name, number, cell) if cell else page.name
        page.problems.append(f"{at}: {err}")
        return None
    finally:
        if client.kc is not None:
            client.kc.stop_channels()
        if await km.is_alive():
            await km.shutdown_kernel(now=True)
        else:
            await ensure_async(km.cleanup_resources())
    return json.loads(json.dumps(work))


def warnings_of(page: Page, nb: dict) -> list[str]:
    found = []
    for number, cell in enumerate(nb["cells"], 1):
        if directives(cell).get("warning", "").lower() == "true":
            continue
        for out in cell.get("outputs", []):
            if out.get("name") == "stderr":
                found.append(
                    f"{where(page.name, number, cell)}: the page shows a warning\n" + shorten(joined(out["text"]))
                )
    return found


# -- comparison --------------------------------------------------------------


def as_text(outputs: list[dict]) -> dict[str, str]:
    "Outputs by kind, each as one text."
    found: dict[str, str] = {}
    for out in outputs:
        parts = {out.get("name", "stream"): out["text"]} if "text" in out else out.get("data", {})
        for kind, value in parts.items():
            value = joined(value) if isinstance(value, (str, list)) else json.dumps(value, sort_keys=True)
            found[kind] = found.get(kind, "") + value + ("" if value.endswith("\n") else "\n")
    return found


def describe(kind: str, old: str, new: str) -> str:
    if not new:
        return f"  {kind}: is gone"
    old_lines, new_lines = old.splitlines(), new.splitlines()
    if kind.startswith(("image/", "application/")):
        if not old:
            return f"  {kind}: is new"
        pairs = zip(old_lines, new_lines)
        first = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(old_lines), len(new_lines)))
        a, b = ((lines + [""])[min(first, len(lines))][:100] for lines in (old_lines, new_lines))
        return f"  {kind}: differs from line {first + 1} (of {len(old_lines)}, now {len(new_lines)})\n    -{a}\n    +{b}"
    diff = list(difflib.unified_diff(old_lines, new_lines, n=1, lineterm=""))[2:]
    return f"  {kind}:\n" + shorten("\n".join(line[:160] for line in diff))


def compare(page: Page, old: dict, new: dict) -> list[str]:
    "Which cell's output is not the committed one, and how."
    found = []
    for number, (a, b) in enumerate(zip(old["cells"], new["cells"]), 1):
        if a.get("outputs", []) == b.get("outputs", []):
            continue
        left, right = as_text(a.get("outputs", [])), as_text(b.get("outputs", []))
        parts = [describe(k, left.get(k, ""), right.get(k, "")) for k in {**left, **right} if left.get(k) != right.get(k)]
        parts = parts or ["  the same texts, in another form or order"]
        found.append(f"{where(page.name, number, b)}: the output changed\n" + "\n".join(parts))
    return found


# -- the cache ---------------------------------------------------------------


def surroundings(root: Path, cfg) -> str:
    "A hash of all that a page can read or import, apart from itself."
    seen = hashlib.sha256()
    files = [root / "constraints.txt", root / "settings.ini", *sorted((root / cfg["lib_path"]).rglob("*.py"))]
    files += [p for p in sorted((root / cfg["nbs_path"]).rglob("*")) if p.is_file() and p.suffix != ".ipynb"]
    files += [Path(__file__), Path(__file__).with_name("export.py")]
    for path in files:
        if path.exists() and "__pycache__" not in path.parts and not path.name.startswith("."):
            seen.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    seen.update(f"{platform.platform()} {sys.version}".encode())
    for dist in ("torch", "numpy", "sympy", "python-flint", "matplotlib", "ipython", "nbdev"):
        try:
            seen.update(f"{dist} {metadata.version(dist)}".encode())
        except metadata.PackageNotFoundError:
            pass
    return seen.hexdigest()


def key_of(text: str, around: str) -> str:
    return hashlib.sha256((around + text).encode()).hexdigest()


def read_cache(root: Path) -> dict[str, str]:
    try:
        cache = json.loads((root / CACHE).read_text())
        return cache if isinstance(cache, dict) else {}
    except (OSError, ValueError):
        return {}


# -- all of them -------------------------------------------------------------


def chosen(root: Path, cfg, paths: list[str]) -> list[Path]:
    pages = [root / "index.ipynb"] if (root / "index.ipynb").exists() else []
    pages += notebooks(root, cfg["nbs_path"])
    if not paths:
        return pages
    wanted: list[Path] = []
    for given in paths:
        # From the folder the person stands in, or from the top of the book.
        options = [Path(given).resolve(), (root / given).resolve()]
        hits = [page for page in pages if any(page == o or o in page.parents for o in options)]
        if not hits:
            raise Refused(f"{given}: no notebook of the book")
        wanted += [page for page in hits if page not in wanted]
    return wanted


def load(root: Path, path: Path) -> Page:
    return Page(path.relative_to(root).as_posix(), path, path.read_text(encoding="utf-8"))


def parse(page: Page) -> dict:
    try:
        return json.loads(page.text)
    except ValueError as err:
        raise Refused(f"{page.name}: not a notebook ({err})") from None


def settle(page: Page, new: dict, check: bool) -> None:
    "Write the page, or say why it would have to be written."
    page.new_text = dump_notebook(new)
    page.result = "ok"
    if page.new_text == page.text:
        return
    if check:
        page.problems += compare(page, parse(page), new) or [f"{page.name}: not clean"]
        return
    if page.path.read_text(encoding="utf-8") != page.text:
        page.problems.append(f"{page.name}: was edited while it ran, so it is left as it is; run this again")
        return
    write_whole(page.path, page.new_text)
    page.result = "changed"


async def refresh_all(pages: list[Page], root: Path, cfg, args, done) -> None:
    limit = asyncio.Semaphore(args.jobs)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:

        async def one(page: Page) -> None:
            async with limit:
                start = time.monotonic()
                nb = parse(page)
                give_ids(nb, page.name)
                ran = await execute(page, nb, root, Path(scratch), args.timeout)
                if ran is not None:
                    new = clean(ran, page.name, cfg)
                    settle(page, new, args.check)
                    (page.problems if args.check else page.notes).extend(warnings_of(page, new))
                page.seconds = time.monotonic() - start
                done(page)

        await asyncio.gather(*(one(page) for page in pages))


def report(page: Page) -> None:
    word = "FAILED" if page.problems else {"ok": "same", "changed": "stored"}[page.result]
    print(f"{word:<7} {page.name}  {page.seconds:.1f} s", flush=True)
    for text in page.problems + page.notes:
        print(text, flush=True)


def run(root: Path, args) -> int:
    cfg = read_config(root)
    start = time.monotonic()
    pages = [load(root, path) for path in chosen(root, cfg, args.paths)]
    if args.clean:
        for page in pages:
            settle(page, clean(parse(page), page.name, cfg), args.check)
            if page.problems:
                # No output was made here: what differs is form.
                page.problems = [f"{page.name}: not clean. Run `python tools/refresh.py --clean`."]
            if page.problems or page.result == "changed":
                report(page)
        todo = pages
    else:
        around = surroundings(root, cfg)
        cache = {} if args.no_cache else read_cache(root)
        todo = [page for page in pages if cache.get(page.name) != key_of(page.text, around)]

        def done(page: Page) -> None:
            report(page)
            if not page.problems and not page.notes and not args.no_cache:
                cache[page.name] = key_of(page.new_text, around)
                (root / CACHE).parent.mkdir(exist_ok=True)
                write_whole(root / CACHE, json.dumps(cache, indent=1, sort_keys=True) + "\n")

        asyncio.run(refresh_all(todo, root, cfg, args, done))

    failed = [page for page in pages if page.problems]
    if args.report:
        names = {page.name: [ANSI.sub("", text) for text in page.problems] for page in pages}
        args.report.write_text(json.dumps(names, indent=1) + "\n", encoding="utf-8")
    parts = [f"{len(pages)} notebooks"]
    if len(todo) < len(pages):
        parts.append(f"{len(pages) - len(todo)} unchanged since the last run")
    if not args.check:
        parts.append(f"{sum(page.result == 'changed' for page in pages)} stored")
    parts.append(f"{len(failed)} failed")
    print(f"{', '.join(parts)}, {time.monotonic() - start:.1f} s")
    if failed and args.check and not args.clean:
        print("Where an output changed for a good reason, run `make refresh` and commit the notebook.")
    return 1 if failed else 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", help="notebooks or folders; all of the book by default")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if something would change")
    parser.add_argument("--clean", action="store_true", help="do not execute, only clean")
    parser.add_argument("--no-cache", action="store_true", help="execute even what has not changed")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at a time (default 2)")
    parser.add_argument("--timeout", type=int, default=600, help="seconds that one cell may take (default 600)")
    parser.add_argument("--report", type=Path, help="also write the problems of every notebook to this JSON file")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.check:
        os.environ.pop(RECORD, None)  # a check measures nothing
    if os.environ.get(RECORD):
        args.no_cache, args.jobs = True, 1  # nothing else may run beside a measurement
    args.jobs = max(1, args.jobs)
    try:
        return run(args.root.resolve(), args)
    except Refused as err:
        print(f"refresh: {err}", file=sys.stderr)
        return 1
    except ImportError as err:
        print(f"refresh: {err}. Run `make env`.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; every notebook is whole", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
