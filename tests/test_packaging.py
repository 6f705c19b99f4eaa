"""Is what a user installs complete, small and quick to import?"""
from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest
from filelock import FileLock
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
# What proves, draws or builds the book; a user of a loss never pays for it.
HEAVY = {
    "sympy", "mpmath", "flint", "matplotlib", "nbdev", "fastcore", "execnb", "IPython",
    "pandas", "scipy", "sklearn", "rich", "typer", "hypothesis", "pytest",
}
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".cache", "_site", "_docs", "_artifacts", "build", "dist", "*.egg-info",
    "__pycache__", ".pytest_cache", ".hypothesis", "shared",
)


def config():
    cfg = ConfigParser(delimiters=["="])
    cfg.read(ROOT / "settings.ini", encoding="utf-8")
    return cfg["DEFAULT"]


def python(*args: str, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess:
    "Run this Python with `path` as its only addition, and show what it said if it fails."
    env = {"PATH": "/usr/bin:/bin", "HOME": str(cwd), "SOURCE_DATE_EPOCH": "315532800"}
    if path:
        env["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, *args], cwd=cwd, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{' '.join(args)}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="session")
def built(tmp_path_factory, worker_id):
    "A folder with the sdist and the wheel that was built from it; made once for all workers."
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "packages"
    with FileLock(f"{folder}.lock"):
        if not (folder / "site").exists():
            # In a copy: setuptools leaves build/ and *.egg-info beside setup.py.
            shutil.copytree(ROOT, folder / "source", ignore=LEFT_OUT)
            python("-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), cwd=folder / "source")
            wheel = next((folder / "dist").glob("*.whl"))
            python(
                "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(folder / "unpacked"), str(wheel),
                cwd=folder,
            )
            (folder / "unpacked").rename(folder / "site")
    return folder


@pytest.fixture(scope="session")
def wheel(built):
    return zipfile.ZipFile(next((built / "dist").glob("*.whl")))


def read_metadata(wheel):
    name = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def test_wheel_holds_the_package_and_nothing_else(wheel):
    names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    expected = {f"lossbook/{path.name}" for path in (ROOT / "lossbook").glob("*.py")} | {"lossbook/py.typed"}
    assert set(names) == expected
    assert any(name.endswith("/LICENSE") for name in wheel.namelist())


def test_sdist_holds_the_notebooks_and_the_checks(built):
    archive = next((built / "dist").glob("*.tar.gz"))
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    wanted = {"settings.ini", "constraints.txt", "setup.py", "pyproject.toml", "Makefile", "LICENSE", "README.md"}
    for folder in ("nbs", "tests", "tools"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".ipynb", ".py", ".json"} and not any(part[0] in "._" for part in path.relative_to(ROOT).parts):
                wanted.add(path.relative_to(ROOT).as_posix())
    assert not wanted - names
    assert not [name for name in names if name.startswith((".git/", ".venv", "_site", ".cache"))]


def test_metadata_is_complete(wheel):
    cfg, meta = config(), read_metadata(wheel)
    assert meta["Name"] == "lossbook"
    assert meta["Version"] == cfg["version"]
    assert meta["Summary"] == cfg["description"]
    assert meta["Author"] == cfg["author"]
    assert meta["License-Expression"] == "Apache-2.0"
    assert meta["License-File"] == "LICENSE"
    assert meta["Requires-Python"] == f">={cfg['min_python']}"
    assert meta["Description-Content-Type"] == "text/markdown"
    assert meta.get_payload().strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()
    labels = {url.split(",")[0] for url in meta.get_all("Project-URL")}
    assert {"Source", "Issues", "Changelog"} <= labels
    classifiers = meta.get_all("Classifier")
    assert "Typing :: Typed" in classifiers
    assert f"Programming Language :: Python :: {cfg['min_python']}" in classifiers
    assert len(set(classifiers)) == len(classifiers)


def test_a_user_needs_torch_only(wheel):
    needs = [Requirement(text) for text in read_metadata(wheel).get_all("Requires-Dist")]
    plain = {need.name for need in needs if need.marker is None}
    assert plain <= {"torch", "numpy"} and "torch" in plain
    extras = set(read_metadata(wheel).get_all("Provides-Extra"))
    assert extras == {"verify", "dev", "peers"}
    verify = {need.name for need in needs if need.marker and need.marker.evaluate({"extra": "verify"})}
    assert {"sympy", "python-flint", "numpy", "matplotlib"} <= verify


def test_the_extra_of_the_peers_pins_what_the_page_measured(wheel):
    "Every library of the extra has exactly the version of tools/peers/requirements.txt."
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "tools/peers/requirements.txt").read_text(encoding="utf-8"), re.M))
    needs = [Requirement(text) for text in read_metadata(wheel).get_all("Requires-Dist")]
    asked = {extra: {n.name: n for n in needs if n.marker and n.marker.evaluate({"extra": extra})} for extra in ("peers", "verify")}
    assert asked["peers"].keys() - asked["verify"].keys() == set(config()["peers_requirements"].split()) and asked["verify"].keys() < asked["peers"].keys()
    for need in (asked["peers"][name] for name in asked["peers"].keys() - asked["verify"].keys()): assert str(need.specifier) == f"=={pins[need.name]}"


def test_the_wheel_brings_the_command(wheel):
    name = next(n for n in wheel.namelist() if n.endswith(".dist-info/entry_points.txt"))
    scripts = ConfigParser(delimiters=["="])
    scripts.read_string(wheel.read(name).decode())
    assert dict(scripts["console_scripts"]) == {"lossbook": "lossbook.cli:main"}


def test_installed_wheel_imports_away_from_the_repository(built, tmp_path):
    code = (
        "import lossbook, importlib.resources as r; print(lossbook.__file__); print(lossbook.__version__); "
        "print(r.files('lossbook').joinpath('py.typed').is_file())"
    )
    file, version, typed = python("-c", code, cwd=tmp_path, path=built / "site").stdout.split()
    assert Path(file).is_relative_to(built / "site")
    assert version == config()["version"]
    assert typed == "True"


def test_import_prints_nothing(built, tmp_path):
    quiet = python("-W", "default", "-c", "import torch", cwd=tmp_path)
    ours = python("-W", "default", "-c", "import torch, lossbook", cwd=tmp_path, path=built / "site")
    assert ours.stdout == ""
    assert ours.stderr == quiet.stderr


def test_import_loads_nothing_heavy(built, tmp_path):
    code = "import sys, torch; old = set(sys.modules); import lossbook; print(*set(sys.modules) - old)"
    new = python("-c", code, cwd=tmp_path, path=built / "site").stdout.split()
    assert "lossbook" in new
    assert not {name.partition(".")[0] for name in new} & HEAVY


def test_import_is_quick(built, tmp_path):
    "What `import lossbook` adds to `import torch`: at most 50 ms, in the median of five runs."
    times = []
    for _ in range(5):
        done = python("-X", "importtime", "-c", "import torch, lossbook", cwd=tmp_path, path=built / "site")
        # self [us] | cumulative [us] | name; torch comes first, so what both share is paid there.
        hit = re.search(r"^import time:\s+\d+ \|\s+(\d+) \| lossbook$", done.stderr, re.M)
        times.append(int(hit[1]) / 1000)
    assert statistics.median(times) <= 50, f"milliseconds: {times}"


def test_the_version_is_the_same_everywhere():
    version = config()["version"]
    stamp = re.search(r'^__version__ = "(.*)"$', (ROOT / "lossbook/__init__.py").read_text(encoding="utf-8"), re.M)
    cited = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.M)
    assert stamp and stamp[1] == version
    assert cited and cited[1].strip("\"'") == version
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_constraints_pin_all_that_dev_brings():
    "Every package that `.[dev]` pulls in here has an exact version in constraints.txt."
    pinned = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            need = Requirement(line)
            assert re.fullmatch(r"==[^*,]+", str(need.specifier)), line
            pinned[canonicalize_name(need.name)] = need
    cfg = config()
    words = f"{cfg['requirements']} {cfg['verify_requirements']} {cfg['dev_requirements']}".split()
    todo, seen, loose = [(Requirement(word), "") for word in words], set(), set()
    while todo:
        need, extra = todo.pop()
        if need.marker and not need.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(need.name)
        # A CUDA build of torch brings its own libraries, which go with its version.
        if name.startswith("nvidia-") or name in ("triton", "cuda-bindings", "cuda-pathfinder", "cuda-toolkit"):
            continue
        if name not in pinned:
            loose.add(name)
        for one in need.extras or {""}:
            if (name, one) not in seen:
                seen.add((name, one))
                try:
                    todo += [(Requirement(text), one) for text in metadata.requires(name) or []]
                except metadata.PackageNotFoundError:
                    loose.add(f"{name} (not installed)")
    assert not loose
