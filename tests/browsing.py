"""The site in a browser, for every test that opens a page: the build, the server, one Chromium cut off from the network."""
import functools
import html
import http.server
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_site"
SCREENS = ROOT / "_artifacts/screens"
NOTEBOOKS = [p.relative_to(ROOT) for p in [ROOT / "index.ipynb", *sorted((ROOT / "nbs").rglob("*.ipynb"))]
             if p.is_file() and not any(part.startswith((".", "_")) for part in p.relative_to(ROOT).parts)]
PAGES = [nb.with_suffix(".html").as_posix() for nb in NOTEBOOKS]
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
PHONE, DESKTOP = dict(width=390, height=844), dict(width=1280, height=900)


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stale():
    wanted = [SITE / page for page in PAGES]
    if not all(page.is_file() for page in wanted): return True
    sources = [ROOT / "_quarto.yml", ROOT / "styles.css", ROOT / "tools/finish_site.py", *(ROOT / "assets").glob("*.js"), *(ROOT / "lossbook").glob("*.py"), *(ROOT / nb for nb in NOTEBOOKS)]
    return max(s.stat().st_mtime for s in sources) > min(page.stat().st_mtime for page in wanted)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    "The folder of the built site, built first if it is absent or older than a notebook; one worker builds, the others wait."
    if not PAGES: pytest.skip("no notebooks: there is no site to check")
    lock = (tmp_path_factory.getbasetemp().parent if os.environ.get("PYTEST_XDIST_WORKER") else tmp_path_factory.getbasetemp()) / "site.lock"
    with open(lock, "w") as handle:
        if os.name == "posix":
            import fcntl
            fcntl.flock(handle, fcntl.LOCK_EX)
        if stale():
            built = subprocess.run([sys.executable, ROOT / "tools/book.py"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            assert built.returncode == 0, built.stdout
    return SITE


def chromium():
    names = "chromium", "chromium-browser", "google-chrome"
    return os.environ.get("LOSSBOOK_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="session")
def browser():
    "One browser for all pages."
    path = chromium()
    if not path:
        words = "no Chromium found: the browser check of the site did not run"
        if os.environ.get("CI", "").lower() in ("1", "true"): pytest.fail(f"{words}; install chromium or set LOSSBOOK_CHROMIUM")
        pytest.skip(words)
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        app = p.chromium.launch(executable_path=path, args=FLAGS)
        yield app
        app.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args): pass


@pytest.fixture(scope="session")
def server(site):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http_server.server_port}"
        http_server.shutdown()


@pytest.fixture
def tab(browser, request):
    "A page with no network but the site itself; whatever goes wrong in it is told at the end."
    context = browser.new_context(viewport=DESKTOP, color_scheme="light", reduced_motion="reduce")
    page, wrong = context.new_page(), []
    local = re.compile(r"(file|data|blob):|http://127\.0\.0\.1:")

    def gate(route):
        if local.match(route.request.url): return route.continue_()
        wrong.append(f"external request: {route.request.url}")
        route.abort()

    context.route("**/*", gate)
    page.on("console", lambda m: wrong.append(f"console: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda e: wrong.append(f"page error: {e}"))
    yield page
    context.close()
    assert not wrong, "\n".join(wrong)


SETTLED = """async () => {
  if (document.readyState !== "complete") await new Promise(done => addEventListener("load", done));
  await document.fonts.ready;
  if (window.MathJax?.startup?.promise) await MathJax.startup.promise;
  else if (document.querySelector("script[src*='tex-svg-full']")) return false;
  await new Promise(done => setTimeout(done, 150));   // the step that marks what scrolls
  return true;
}"""

def opened(tab, url):
    tab.goto(url, wait_until="load")
    assert tab.evaluate(SETTLED), "MathJax did not start"
    return tab


@functools.lru_cache(None)
def axe_core():
    "The script of axe-core, from the package that carries it; nothing is fetched."
    return (Path(importlib.util.find_spec("axe_playwright_python").origin).parent / "axe.min.js").read_text(encoding="utf-8")


AXE = """async () => (await axe.run(document, {resultTypes: ["violations"], iframes: false})).violations.filter(v => ["serious", "critical"].includes(v.impact))
  .map(v => `${v.id} (${v.impact}), ${v.nodes.length} times: ` + v.nodes.slice(0, 3).map(n => `${n.target.join(" ")}: ${n.html.slice(0, 120)}`).join("; "))"""


def violations(tab):
    "What axe-core calls serious or critical on the page as it stands."
    tab.evaluate(axe_core())
    return tab.evaluate(AXE)


# What a reviewer opens after the walk

VIEWS = ["desktop-light", "desktop-dark", "phone-light", "phone-dark"]
SHEET = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Every page, as the browser showed it</title>
<style>body {{ margin: 1rem; font: 1rem/1.4 system-ui, sans-serif; }} th {{ text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; }} td {{ padding: .25rem; }}
img {{ display: block; height: 11rem; border: 1px solid #888; }}</style></head>
<body><h1>Every page, as the browser showed it</h1><p>{count} pictures, the last of {when}. A small picture leads to the whole page.</p>
<table><thead><tr><th>page</th>{heads}</tr></thead><tbody>
{rows}
</tbody></table></body></html>
"""


def contact_sheet(folder):
    "Write index.html beside the screenshots: a row for each page, a column for each view; or None if there are none."
    import datetime

    found = {}
    for file in sorted(folder.glob("*.jpg")):
        if m := re.fullmatch(rf"(.+)-({'|'.join(VIEWS)})", file.stem): found.setdefault(m[1], {})[m[2]] = file
    if not found: return None

    def cell(name, view):
        file = found[name].get(view)
        if not file: return "<td>none</td>"
        small = file.with_suffix(".small.jpg")
        return f'<td><a href="{html.escape(file.name)}"><img loading="lazy" src="{html.escape((small if small.is_file() else file).name)}" alt="{html.escape(name)}, {view}"></a></td>'

    rows = "\n".join(f'<tr><th scope="row">{html.escape(name)}</th>{"".join(cell(name, view) for view in VIEWS)}</tr>' for name in sorted(found))
    files = [file for views in found.values() for file in views.values()]
    when = datetime.datetime.fromtimestamp(max(file.stat().st_mtime for file in files)).strftime("%Y-%m-%d %H:%M")
    sheet = folder / "index.html"
    sheet.write_text(SHEET.format(count=len(files), when=when, heads="".join(f"<th>{view.replace('-', ', ')}</th>" for view in VIEWS), rows=rows), encoding="utf-8")
    return sheet


def pytest_terminal_summary(terminalreporter):
    "After all workers are done: what the tests of the site measured, and where the pictures lie."
    told = [value for report in terminalreporter.getreports("passed") for name, value in report.user_properties if name == "site"]
    walked = any("test_page_in_the_browser" in report.nodeid for report in [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")])
    sheet = contact_sheet(SCREENS) if walked else None
    if sheet: told.append(f"screenshots of all pages: {sheet.relative_to(ROOT)}")
    if told: terminalreporter.section("the site")
    for line in told: terminalreporter.line(line)
