#!/usr/bin/env python3
"""Write what README.md takes from the records: the headline and the picture.

    python tools/readme.py           write README.md and assets/error.svg
    python tools/readme.py --check   write nothing; exit 1 if they are not what the records say
"""
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def wanted() -> dict[Path, str]:
    "The two files as they should be."
    import numpy as np

    from lossbook.figures import errors_over_logit
    from lossbook.ledger import headline

    records = ROOT / "nbs/evidence/records"
    line = headline(json.loads((records / "ledger.json").read_text()))
    readme = (ROOT / "README.md").read_text()
    block = f"<!-- headline -->\n{line}\n<!-- /headline -->"
    readme, count = re.subn(r"<!-- headline -->.*?<!-- /headline -->", lambda _: block, readme, flags=re.S)
    if count != 1:
        sys.exit("README.md: expected one pair of <!-- headline --> and <!-- /headline -->")
    drawn = json.loads((records / "bce_curves.json").read_text())["result"]
    errors = {name: drawn[f"{name} gradient"] for name in ("PyTorch", "lossbook")}
    picture = errors_over_logit(np.array(drawn["x"]), errors, title="gradient, $y=1$, float32")
    return {ROOT / "README.md": readme, ROOT / "assets/error.svg": picture.svg}


def main() -> int:
    stale = [path for path, text in wanted().items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not what the records say; run python tools/readme.py")
        return int(bool(stale))
    for path, text in wanted().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
