#!/usr/bin/env python3
"""Measure every loss of the catalogue and write the ledger.

    python tools/audit.py            the full tier: nbs/evidence/records/ledger.json, then the pages that show it
    python tools/audit.py --quick    a look: prints the worst errors, writes nothing
"""
import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer inputs, write nothing")
    args = parser.parse_args()
    os.chdir(ROOT)
    from lossbook.ledger import headline, take_ledger
    from lossbook.records import record

    start = time.monotonic()

    def progress(line: str) -> None:
        print(f"{time.monotonic() - start:6.0f} s  {line}", file=sys.stderr, flush=True)

    if args.quick:
        for row in take_ledger("quick", progress)["rows"]:
            worst = ["%s %.3g" % (what, max(s["worst"] for s in row[what].values())) for what in ("value", "gradient")]
            print(row["name"], row["who"], row["dtype"], *worst, "promised", row["promise"])
        return 0
    os.environ["LOSSBOOK_RECORD"] = "ledger"
    print(headline(record("ledger", take_ledger, progress=progress)))
    del os.environ["LOSSBOOK_RECORD"]
    # The pages that show it, and the two sentences outside the notebooks.
    subprocess.run([sys.executable, "tools/readme.py"], check=True)
    return subprocess.run([sys.executable, "tools/refresh.py", "index.ipynb", "nbs/evidence"]).returncode


if __name__ == "__main__":
    sys.exit(main())
