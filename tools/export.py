#!/usr/bin/env python3
"""Export the notebooks to lossbook/*.py, with nbdev, without surprises.

    python tools/export.py            write what has changed
    python tools/export.py --check    write nothing; exit 1 and show a diff if out of step
    python tools/export.py --force    overwrite modules that look edited by hand

nbdev alone overwrites a module that was edited by hand, lets the later of two
notebooks with one name win, and keeps the module of a notebook that is gone.
So the export goes to a temporary copy first, and only what may be replaced is.
"""
from __future__ import annotations

import argparse
import contextlib
import difflib
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import traceback
import warnings
from configparser import ConfigParser
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATE = Path(".cache/export.json")  # the hash of every module as this tool last saw it in step
BACKUP = Path(".cache/overwritten")


class Refused(Exception):
    "What is wrong, in words for the person at the terminal."


# -- notebooks, as files -----------------------------------------------------


def read_config(root: Path):
    cfg = ConfigParser(delimiters=["="])
    cfg.read(root / "settings.ini", encoding="utf-8")
    return cfg["DEFAULT"]


def read_notebook(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as err:
        raise Refused(f"{path}: not a notebook ({err})") from None


def dump_notebook(nb: dict) -> str:
    "The text that nbdev and Jupyter write: one line of a cell is one line of the file."
    return json.dumps(nb, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def write_whole(path: Path, text: str) -> None:
    "Replace a file in one step: whoever reads or interrupts sees the old one or the new one."
    fd, tmp = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(fd, "w", encoding="utf-8", newline="\n") as out:
            out.write(text)
        if path.exists():
            shutil.copymode(path, tmp)
        else:
            os.chmod(tmp, 0o644)
        os.replace(tmp, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(tmp)
        raise


def source(cell: dict) -> str:
    return "".join(cell.get("source", ""))


def give_ids(nb: dict, name: str) -> None:
    """Give every cell an id of its own, the same one each time.

    Ids stand in the exported modules, so a random one would change them.
    """
    seen: set[str] = set()
    for i, cell in enumerate(nb["cells"]):
        ident = cell.get("id")
        while not ident or ident in seen:
            ident = hashlib.sha256(f"{name} {i} {ident} {source(cell)}".encode()).hexdigest()[:8]
        seen.add(ident)
        cell["id"] = ident
    if nb.get("nbformat_minor", 0) < 5:
        nb["nbformat_minor"] = 5


def directives(cell: dict) -> dict[str, str]:
    "The `#| name rest` and `#| name: rest` lines at the head of a code cell."
    found: dict[str, str] = {}
    if cell.get("cell_type") != "code":
        return found
    for line in source(cell).splitlines():
        if not line.strip() or line.lstrip().startswith("%%"):
            continue
        hit = re.match(r"\s*#\s*\|\s*([\w-]+)\s*:?\s*(.*)$", line)
        if not hit:
            break
        found[hit[1]] = hit[2].strip()
    return found


def notebooks(root: Path, folder: str = "nbs") -> list[Path]:
    "Every notebook of the book, by path; names that begin with _ or . are not part of it."
    return sorted(
        path
        for path in (root / folder).rglob("*.ipynb")
        if not any(part[0] in "_." for part in path.relative_to(root / folder).parts)
    )


# -- what should be exported -------------------------------------------------


@dataclass
class Plan:
    "Which notebook makes which module."

    makers: dict[str, list[Path]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


EXPORTING = ("export", "exporti", "exports")


def make_plan(root: Path, cfg) -> Plan:
    plan, main, added = Plan(), {}, []
    for path in notebooks(root, cfg["nbs_path"]):
        name, target, exports = path.relative_to(root).as_posix(), None, False
        version = None
        for cell in read_notebook(path)["cells"]:
            found = directives(cell)
            if "default_exp" in found:
                target = found["default_exp"]
            for word in EXPORTING:
                if word in found:
                    exports = exports or not found[word]
                    if found[word]:
                        added.append((found[word].split()[0], path))
                    stamp = re.search(r'^__version__\s*=\s*["\'](.*?)["\']', source(cell), re.M)
                    version = stamp[1] if stamp else version
        if exports and not target:
            plan.errors.append(f"{name} exports cells but has no `#| default_exp name` cell")
        if not exports or not target:
            continue
        if target in main:
            other = main[target].relative_to(root).as_posix()
            plan.errors.append(
                f"{other} and {name} both say `#| default_exp {target}`: "
                "one would overwrite the other. Give one of them another name."
            )
        main[target] = path
        plan.makers.setdefault(target, []).append(path)
        # nbdev stamps the version on the first line where it finds none, above
        # the docstring, which then is none.
        if target == "__init__" and cfg.getboolean("put_version_in_init", True):
            if version is None:
                plan.errors.append(
                    f'{name} makes __init__.py: let it export a line `__version__ = "{cfg["version"]}"`'
                )
            elif version != cfg["version"]:
                plan.errors.append(
                    f"{name} says version {version}, settings.ini {cfg['version']}: make them agree"
                )
    for target, path in added:
        if target not in main:
            plan.errors.append(
                f"{path.relative_to(root).as_posix()} adds to {target}, which no notebook makes"
            )
        plan.makers.setdefault(target, []).append(path)
    front = root / "index.ipynb"
    if front.exists():
        for cell in read_notebook(front)["cells"]:
            if set(directives(cell)) & {"default_exp", *EXPORTING}:
                plan.errors.append("index.ipynb exports a cell, but only notebooks in nbs/ may")
                break
    return plan


def export_copy(root: Path, cfg, plan: Plan, away: Path) -> dict[str, str]:
    "Let nbdev export a copy of the project in `away`; returns file name -> text."
    lib, nbs = cfg["lib_path"], cfg["nbs_path"]
    shutil.copy(root / "settings.ini", away)
    (away / lib).mkdir()
    (away / nbs).mkdir()
    init = root / lib / "__init__.py"
    if init.exists() and "__init__" not in plan.makers:
        shutil.copy(init, away / lib)
    for path in notebooks(root, nbs):
        copy = away / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        nb = read_notebook(path)
        give_ids(nb, path.relative_to(root).as_posix())
        copy.write_text(dump_notebook(nb), encoding="utf-8")

    # nbdev does nothing inside its own tests, and reads a user's own settings.
    os.environ.pop("IN_TEST", None)
    os.environ["XDG_CONFIG_HOME"] = os.environ["XDG_CONFIG_DIRS"] = str(away / "none")
    back = os.getcwd()
    os.chdir(away)
    try:
        from nbdev.config import get_config
        from nbdev.doclinks import nbdev_export

        get_config.cache_clear()
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            nbdev_export.__wrapped__()
        get_config.cache_clear()
    except ImportError as err:
        raise Refused(f"nbdev cannot be imported ({err}): run `make env`") from None
    except (UserWarning, AssertionError, SyntaxError) as err:
        place = traceback.extract_tb(err.__traceback__)[-1].name
        if place == "relative_import": err = "a cell has `from .module import ...`: write `from lossbook.module import ...`"
        raise Refused(f"nbdev: {err or place}") from None
    finally:
        os.chdir(back)
    return {
        path.relative_to(away / lib).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted((away / lib).rglob("*.py"))
    }


# -- what may be written -----------------------------------------------------


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def read_state(root: Path) -> dict[str, str]:
    try:
        state = json.loads((root / STATE).read_text())
        return state if isinstance(state, dict) else {}
    except (OSError, ValueError):
        return {}


def dotted(file: str) -> str:
    return file[: -len(".py")].replace("/", ".")


def hand_edited(root: Path, cfg, plan: Plan, file: str, state: dict[str, str]) -> bool:
    "A module that differs, that this tool did not write so, and that is newer than its notebooks."
    path = root / cfg["lib_path"] / file
    makers = plan.makers.get(dotted(file), [])
    if not path.exists() or not makers:
        return False  # nothing to lose: _modidx.py, the version line of a hand-written __init__.py
    if state.get(file) == digest(path.read_text(encoding="utf-8")):
        return False
    return path.stat().st_mtime > max(nb.stat().st_mtime for nb in makers)


def show_diff(file: Path, old: str, new: str) -> str:
    lines = difflib.unified_diff(
        old.splitlines(True), new.splitlines(True), f"{file} (as it is)", f"{file} (from the notebooks)", n=2
    )
    return "".join(line if line.endswith("\n") else line + "\n" for line in lines)


def run(root: Path, check: bool = False, force: bool = False) -> int:
    cfg = read_config(root)
    lib = Path(cfg["lib_path"])
    plan = make_plan(root, cfg)
    if plan.errors:
        raise Refused("\n".join(plan.errors))
    with tempfile.TemporaryDirectory() as away:
        fresh = export_copy(root, cfg, plan, Path(away).resolve())

    present = {
        path.relative_to(root / lib).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted((root / lib).rglob("*.py"))
        if "__pycache__" not in path.parts
    }
    orphans = [file for file in present if file not in fresh and Path(file).name != "__init__.py"]
    if orphans:
        raise Refused(
            "\n".join(
                f"{lib / file}: no notebook exports it. Delete it, or write the notebook "
                f"that says `#| default_exp {dotted(file)}`."
                for file in orphans
            )
        )

    changed = [file for file, text in fresh.items() if present.get(file) != text]
    if check:
        for file in changed:
            print(show_diff(lib / file, present.get(file, ""), fresh[file]), end="")
        if changed:
            names = ", ".join(str(lib / file) for file in changed)
            print(f"\nOut of step with the notebooks: {names}. Run `make export`.")
            return 1
        print(f"{lib}/ is in step with {cfg['nbs_path']}/: {len(plan.makers)} modules")
        return 0

    state = read_state(root)
    edited = [file for file in changed if hand_edited(root, cfg, plan, file, state)]
    if edited and not force:
        parts = []
        for file in edited:
            names = ", ".join(nb.relative_to(root).as_posix() for nb in plan.makers[dotted(file)])
            parts.append(
                show_diff(lib / file, present[file], fresh[file])
                + f"{lib / file} differs from {names} and is newer: it was probably edited by hand."
            )
        raise Refused(
            "\n\n".join(parts)
            + "\nNothing was written. To keep the edit, carry it into the notebook with"
            + f" `nbdev_update --fname {lib / edited[0]}` (it lies in .venv/bin);"
            + "\nto drop it, run `python tools/export.py --force`."
        )

    for file in changed:
        path = root / lib / file
        old = present.get(file)
        kept = ""
        if old is not None and file in plan_files(plan) and state.get(file) != digest(old):
            # Not known as our own work: keep a copy, whatever the clock said.
            spare = root / BACKUP / file
            spare.parent.mkdir(parents=True, exist_ok=True)
            spare.write_text(old, encoding="utf-8")
            kept = f"  (the old one: {BACKUP / file})"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, fresh[file])
        print(f"wrote {lib / file}{kept}")
    new_state = {file: digest(text) for file, text in fresh.items()}
    if new_state != state:
        (root / STATE).parent.mkdir(exist_ok=True)
        write_whole(root / STATE, json.dumps(new_state, indent=1, sort_keys=True) + "\n")
    print(f"{lib}/ is in step with {cfg['nbs_path']}/: {len(plan.makers)} modules, {len(changed)} written")
    return 0


def plan_files(plan: Plan) -> set[str]:
    return {name.replace(".", "/") + ".py" for name in plan.makers}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 with a diff if out of step")
    parser.add_argument("--force", action="store_true", help="overwrite modules that look edited by hand")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    try:
        return run(args.root.resolve(), args.check, args.force)
    except Refused as err:
        print(f"export: {err}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
