#!/usr/bin/env python3
"""Run every check, all of them even if one fails, and say what did not run.

    python tools/test.py                    all steps
    python tools/test.py --only tests       some: export, clean, refresh, notebooks, tests
    python tools/test.py -- -k focal        what follows -- goes to pytest

The last line is the count: `N passed, N failed`. It counts the tests of pytest,
every notebook once (it passes if its outputs are unchanged and nbdev's own run
of it passes), and every other step that fails.
"""
from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from export import notebooks, read_config

ROOT = Path(__file__).resolve().parent.parent
TOOLS = Path("tools")
# nbdev_test of this very Python; as a call, since the script may not be on PATH.
NBDEV_TEST = "import sys; from nbdev.test import nbdev_test as t; t(path=sys.argv[1], n_workers=2, do_print=True)"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@dataclass
class Step:
    name: str
    what: str
    code: int = 0
    seconds: float = 0.0
    found: str = ""


@dataclass
class Tally:
    "What is known so far about each thing that can pass or fail."

    pages: dict[str, bool] = field(default_factory=dict)
    passed: int = 0
    failed: int = 0
    skipped: Counter = field(default_factory=Counter)


def stream(command: list[str]) -> tuple[int, list[str]]:
    "Run a command, show its lines as they come, return its exit code and the lines."
    # The package is the checkout's, installed or not; a test measures nothing anew.
    env = {key: value for key, value in os.environ.items() if key != "LOSSBOOK_RECORD"}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH")]))
    env["PYTHONUNBUFFERED"] = "1"
    env.setdefault("OMP_NUM_THREADS", "1")  # two workers on two cores: threads of their own would wait for each other
    lines = []
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
    )
    try:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip("\n"))
        return process.wait(), lines
    except BaseException:
        process.terminate()
        process.wait()
        raise


def step_refresh(step: Step, tally: Tally, pages: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        step.code, _ = stream(
            [sys.executable, str(TOOLS / "refresh.py"), "--check", "--no-cache", "--report", str(report)]
        )
        problems = json.loads(report.read_text()) if report.exists() else {page: ["?"] for page in pages}
    for page in pages:
        tally.pages[page] = tally.pages.get(page, True) and not problems.get(page)
    bad = sum(bool(problems.get(page)) for page in pages)
    step.found = f"{len(pages) - bad} of {len(pages)} pages unchanged"


def step_notebooks(step: Step, tally: Tally, pages: list[str], nbs: str) -> None:
    ran: set[str] = set()
    bad: set[str] = set()
    for path in [nbs, *(page for page in pages if not page.startswith(nbs + "/"))]:
        code, lines = stream([sys.executable, "-c", NBDEV_TEST, path])
        step.code = step.code or code
        for i, line in enumerate(lines):
            # nbdev says "Completed" of a failed notebook too; its traceback begins with the path.
            if hit := re.match(r"(Starting|\w+ in) (.+\.ipynb):?$", line):
                place = Path(hit[2]).resolve()
                if place.is_relative_to(ROOT):
                    (ran if hit[1] == "Starting" else bad).add(place.relative_to(ROOT).as_posix())
            if line.startswith("nbdev Tests Failed On"):  # then a rule and the bare names
                names = {name.strip() for name in lines[i + 2 :]} - {Path(page).name for page in bad}
                bad |= {page for page in pages if Path(page).name in names}
    good = (ran & set(pages)) - bad
    for page in pages:
        tally.pages[page] = tally.pages.get(page, True) and page in good
    step.code = step.code or int(len(good) < len(pages))
    step.found = f"{len(good)} of {len(pages)} notebooks run through"


def step_tests(step: Step, tally: Tally, extra: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        command = [sys.executable, "-m", "pytest", "-n", "2", "--durations=10", f"--junitxml={report}", *extra]
        step.code, _ = stream(command)
        suites = ElementTree.parse(report).getroot().iter("testsuite") if report.exists() else ()
        total = failed = skipped = 0
        for suite in suites:
            total += int(suite.get("tests", 0))
            failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            skipped += int(suite.get("skipped", 0))
            for case in suite.iter("skipped"):
                reason = re.sub(r"^Skipped: ", "", case.get("message") or "no reason given")
                kind = "expected to fail: " if case.get("type") == "pytest.xfail" else ""
                tally.skipped[kind + reason] += 1
    passed = max(0, total - failed - skipped)
    if step.code and not failed:
        failed = 1  # pytest itself broke, or found no test
    tally.passed += passed
    tally.failed += failed
    step.found = f"{passed} passed, {failed} failed, {skipped} skipped"


def absent() -> list[str]:
    "What this machine lacks that some check may want."
    missing = []
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    if subprocess.run([sys.executable, "-c", code], capture_output=True, stdin=subprocess.DEVNULL).returncode:
        missing.append("no CUDA GPU: everything above ran on the CPU")
    if not any(map(shutil.which, BROWSERS)):
        missing.append("no Chromium on PATH: no page was looked at in a browser")
    if not shutil.which("quarto"):
        missing.append("no Quarto on PATH: pages are those of the embedded renderer")
    return missing


STEPS = {
    "export": "lossbook/ is what the notebooks export",
    "clean": "the notebooks are clean",
    "refresh": "the committed outputs are what the cells give",
    "notebooks": "nbdev_test",
    "tests": "pytest",
}


def main(argv: list[str] | None = None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    extra = argv[argv.index("--") + 1 :] if "--" in argv else []
    argv = argv[: argv.index("--")] if "--" in argv else argv
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=STEPS, default=list(STEPS), metavar="STEP")
    args = parser.parse_args(argv)

    cfg = read_config(ROOT)
    front = ["index.ipynb"] if (ROOT / "index.ipynb").exists() else []
    pages = front + [path.relative_to(ROOT).as_posix() for path in notebooks(ROOT, cfg["nbs_path"])]
    tally, steps = Tally(), []
    for name, what in STEPS.items():
        if name not in args.only:
            continue
        step = Step(name, what)
        steps.append(step)
        print(f"\n== {name}: {what}", flush=True)
        start = time.monotonic()
        if name == "export":
            step.code, _ = stream([sys.executable, str(TOOLS / "export.py"), "--check"])
        elif name == "clean":
            step.code, _ = stream([sys.executable, str(TOOLS / "refresh.py"), "--clean", "--check"])
        elif name == "refresh":
            step_refresh(step, tally, pages)
        elif name == "notebooks":
            step_notebooks(step, tally, pages, cfg["nbs_path"])
        else:
            step_tests(step, tally, extra)
        step.seconds = time.monotonic() - start
        if step.code and name in ("export", "clean"):
            tally.failed += 1

    print("\n== summary")
    for step in steps:
        word = "FAILED" if step.code else "ok"
        print(f"{word:<7} {step.name:<10} {step.seconds:7.1f} s  {step.found or step.what}")
    sheet = ROOT / "_artifacts/screens/index.html"
    if "tests" in args.only and sheet.is_file():
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(sheet.stat().st_mtime))
        print(f"\nEvery page as the browser showed it, {when}: {sheet.as_uri()}")
    idle = [f"step {name} ({what}): not asked for" for name, what in STEPS.items() if name not in args.only]
    idle += [f"{count} test{'s' if count > 1 else ''}: {reason}" for reason, count in sorted(tally.skipped.items())]
    idle += absent()
    if idle:
        print("\nNot run here:")
        for line in idle:
            print(f"  {line}")

    bad_pages = sum(not good for good in tally.pages.values())
    passed = tally.passed + len(tally.pages) - bad_pages
    failed = tally.failed + bad_pages
    if any(step.code for step in steps) and not failed:
        failed = 1  # never a clean count over a failed step
    skipped = sum(tally.skipped.values())
    print(f"\n{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)
