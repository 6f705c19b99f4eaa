#!/usr/bin/env python3
"""Ask every check of the audit of every broken loss of tests/mutants.py; the page of the audit shows the answers.

    python tools/mutants.py              measure all: nbs/evidence/records/mutants.json (a few minutes)
    python tools/mutants.py NAME ...     measure these anew and keep the other rows
"""
import argparse
import json
import os
import sys
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from mutants import HELD_TO, MUTANTS, fingerprint, report_on


def row_of(name: str) -> dict:
    "What every check answers to one broken loss."
    m = MUTANTS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = report_on(name).findings
    named = lambda answer: [f.check for f in found if f.passed is answer]
    return {
        "name": name, "bug": m.bug, "what": m.what, "held to": HELD_TO[m.kind], "dtype": m.dtype, "caught by": list(m.caught_by),
        "failed": {f.check: f.detail for f in found if f.passed is False}, "passed": named(True), "not run": named(None),
        "source": fingerprint(name),
    }


def take_mutants(progress=lambda line: None, known: dict | None = None) -> dict:
    "All rows of the table; `known` holds rows that are kept."
    import torch

    from lossbook.audit import CHECKS

    torch.set_num_threads(1)
    rows = []
    for name in MUTANTS:
        if not (known and name in known):
            progress(name)
        rows.append(known[name] if known and name in known else row_of(name))
    return {"checks": [{"check": check, "question": question} for check, (question, _) in CHECKS.items()], "mutants": rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*", help="only these anew")
    args = parser.parse_args()
    if unknown := sorted(set(args.name) - set(MUTANTS)):
        parser.error(f"no mutant {', '.join(unknown)} in tests/mutants.py")
    os.chdir(ROOT)
    from lossbook.records import record

    start, known = time.monotonic(), {}
    path = ROOT / "nbs/evidence/records/mutants.json"
    if args.name:
        known = {row["name"]: row for row in json.loads(path.read_text())["result"]["mutants"] if row["name"] not in args.name}
    os.environ["LOSSBOOK_RECORD"] = "mutants"
    progress = lambda line: print(f"{time.monotonic() - start:6.0f} s  {line}", file=sys.stderr, flush=True)
    made = record("mutants", take_mutants, progress=progress, known=known)
    slipped = [row["name"] for row in made["result"]["mutants"] if not set(row["caught by"]) <= set(row["failed"])]
    print(f"{len(made['result']['mutants'])} broken losses in {made['seconds']:.0f} s; now: python tools/refresh.py nbs/foundations/audit.ipynb")
    if slipped:
        print(f"not caught as they must be: {', '.join(slipped)}", file=sys.stderr)
    return 1 if slipped else 0


if __name__ == "__main__":
    sys.exit(main())
