#!/usr/bin/env python3
"""Measure every loss of the catalogue and write the ledger.

    python tools/audit.py                  the full tier: nbs/evidence/records/ledger.json, then the pages that show it
    python tools/audit.py --quick          a look, under 3 minutes: prints the worst errors, writes nothing; status 1 if
                                           a promise is broken
    python tools/audit.py --device cuda    the full tier on a GPU: nbs/evidence/records/ledger_cuda.json, then the pages
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
    parser.add_argument("--device", default="cpu", help="where the losses run")
    args = parser.parse_args()
    os.chdir(ROOT)
    from lossbook.cli import BadCall, main as command, present_device

    try:
        present_device(args.device)
    except BadCall as error:
        print(f"audit: {error}", file=sys.stderr)
        return 2
    if args.quick:
        if args.device != "cpu":
            parser.error("--quick: the look is taken on the CPU")
        sys.argv = ["lossbook", "ledger"]
        return command()
    from lossbook.ledger import headline, take_ledger, take_ledger_on
    from lossbook.records import record

    start = time.monotonic()

    def progress(line: str) -> None:
        print(f"{time.monotonic() - start:6.0f} s  {line}", file=sys.stderr, flush=True)

    name = "ledger" if args.device == "cpu" else f"ledger_{args.device.partition(':')[0]}"
    os.environ["LOSSBOOK_RECORD"] = name
    if args.device == "cpu":
        print(headline(record(name, take_ledger, progress=progress)))
    else:
        print(headline(record(name, take_ledger_on, progress=progress, device=args.device)))
    del os.environ["LOSSBOOK_RECORD"]
    # The pages that show it, and the two sentences outside the notebooks.
    subprocess.run([sys.executable, "tools/readme.py"], check=True)
    return subprocess.run([sys.executable, "tools/refresh.py", "index.ipynb", "nbs/evidence"]).returncode


if __name__ == "__main__":
    sys.exit(main())
