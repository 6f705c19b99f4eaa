"""Measure the losses of other libraries and write the record that the page "The field" reads.

    pip install -c constraints.txt -e '.[peers]'
    pip install --no-deps -r tools/peers/requirements.txt
    python tools/peers                     measure all that is installed: nbs/evidence/records/peers.json
    python tools/peers kornia MONAI        a look at some: prints, writes nothing
    python tools/peers --names             the conversions of the page "Names that clash": nbs/evidence/records/names.json
    python tools/peers --list              the names, and what is installed
"""
import argparse
import hashlib
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]

from audited import audited
from faults import NOT_RUN, shown
from installed import LONG, PEERS, releases


def source() -> str:
    "A hash of the code that measures, so that a record made by other code is found out."
    texts = [(HERE / f"{name}.py").read_text() for name in ("installed", "losses", "audited", "faults")]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def take_peers(progress=lambda line: None) -> dict:
    "All rows of the page."
    import torch

    torch.set_num_threads(1)
    about = [{"key": peer, "name": LONG.get(peer, peer), "loaded": loaded, "stand-ins": inner} for peer, (_, loaded, inner) in PEERS.items()]
    return {
        "source": source(), "releases": releases(), "peers": about, "faults": shown(progress), "audited": audited(progress),
        "not run": [list(row) for row in NOT_RUN],
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tools/peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", nargs="*", help="only these, without writing")
    parser.add_argument("--list", action="store_true", help="print the names and versions")
    parser.add_argument("--names", action="store_true", help="hold the conversions between libraries to the libraries")
    args = parser.parse_args()
    unknown = sorted(set(args.peer) - set(PEERS) - {"lossbook"})
    if unknown:
        parser.error(f"no peer {', '.join(unknown)}; there are {', '.join(PEERS)}")
    if args.list:
        for peer, found in releases().items():
            print(f"{peer:20} {found or 'not installed'}")
        return 0
    start = time.monotonic()

    def progress(line: str) -> None:
        print(f"{time.monotonic() - start:6.0f} s  {line}", file=sys.stderr, flush=True)

    if args.names:
        os.chdir(ROOT)
        from lossbook.records import record
        from names import take_names

        os.environ["LOSSBOOK_RECORD"] = "names"
        made = record("names", take_names, progress=progress)
        print(f"{len(made['result']['moves'])} conversions in {made['seconds']:.0f} s; now: python tools/refresh.py nbs/evidence/names.ipynb")
        return 0
    missing = [peer for peer in args.peer or PEERS if peer in PEERS and releases()[peer] is None]
    if missing:
        print(f"not installed: {', '.join(missing)}; see --help", file=sys.stderr)
        return 2
    if args.peer:
        for row in shown(progress, args.peer):
            print(f"{row['state']:10} {row['name']}: " + "; ".join(f"{what} {got}, exactly {exact}" for what, got, exact in row["rows"]))
        for row in audited(progress, args.peer):
            print(f"{row['loss']}: value {row['value']['worst']} ulp, gradient {row['gradient']['worst']} ulp; failed: {', '.join(row['failed'])}")
        return 0
    os.chdir(ROOT)
    from lossbook.records import record

    os.environ["LOSSBOOK_RECORD"] = "peers"
    made = record("peers", take_peers, progress=progress)
    print(f"{len(made['result']['faults'])} faults and {len(made['result']['audited'])} losses in {made['seconds']:.0f} s; now: python tools/refresh.py nbs/evidence/peers.ipynb")
    return 0


if __name__ == "__main__":
    sys.exit(main())
