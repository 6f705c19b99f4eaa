"""The site in a browser, for every test that opens a page: the build, the server, one Chromium cut off from the network."""
import functools
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
    sources = [ROOT / "_quarto.yml", ROOT / "styles.css", ROOT / "tools/finish_site.py", *(ROOT / "assets").glob("*.js"), *(ROOT / nb for nb in NOTEBOOKS)]
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
