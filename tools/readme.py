#!/usr/bin/env python3
"""Write what README.md takes from elsewhere: the headline of the ledger and the picture of the front page.

    python tools/readme.py                write README.md and assets/error.svg
    python tools/readme.py --check        write nothing; exit 1 if they are not what the records say
    python tools/readme.py --screenshot   write assets/site.png from the built site; needs Chromium
"""
import json
import os
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHOWN = "nbs/sets/index.html"  # the page of the screenshot
sys.path.insert(0, str(ROOT))


def picture() -> str:
    "The front page's figure, as the notebook holds it."
    for cell in json.loads((ROOT / "index.ipynb").read_text())["cells"]:
        if "#| label: fig-front\n" in cell["source"]:
            return "".join(cell["outputs"][0]["data"]["image/svg+xml"])
    sys.exit("index.ipynb: no figure fig-front")


def wanted() -> dict[Path, str]:
    "The two files as they should be."
    from lossbook.ledger import headline

    line = headline(json.loads((ROOT / "nbs/evidence/records/ledger.json").read_text()))
    readme = (ROOT / "README.md").read_text()
    block = f"<!-- headline -->\n{line}\n<!-- /headline -->"
    readme, count = re.subn(r"<!-- headline -->.*?<!-- /headline -->", lambda _: block, readme, flags=re.S)
    if count != 1:
        sys.exit("README.md: expected one pair of <!-- headline --> and <!-- /headline -->")
    return {ROOT / "README.md": readme, ROOT / "assets/error.svg": picture()}


def screenshot() -> None:
    "A page of the built site as it looks on a laptop."
    from playwright.sync_api import sync_playwright

    page = ROOT / "_site" / SHOWN
    if not page.is_file():
        sys.exit(f"{page.relative_to(ROOT)} is not there: run make book first")
    names = "chromium", "chromium-browser", "google-chrome"
    path = os.environ.get("LOSSBOOK_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not path:
        sys.exit("no Chromium found; install it or set LOSSBOOK_CHROMIUM")
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=path, args=["--headless", "--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 960}, color_scheme="light", reduced_motion="reduce")
        tab.goto(page.as_uri(), wait_until="load")
        tab.evaluate("async () => { await document.fonts.ready; await window.MathJax?.startup?.promise; }")
        tab.wait_for_timeout(300)
        tab.screenshot(path=ROOT / "assets/site.png")
        browser.close()


def main() -> int:
    if "--screenshot" in sys.argv[1:]:
        screenshot()
        return 0
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
