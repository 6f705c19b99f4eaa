"""Does a visit of every float count what is there, once, whoever does it, and does its reference hold its bound?"""
import functools
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import CLAIMS
from mutants import MUTANTS
from typer.testing import CliRunner

from lossbook import every, exact
from lossbook.audit import Interrupted, compare, make_subject
from lossbook.catalogue import find, variants
from lossbook.cli import make_app
from lossbook.every import Folder, Form, Job, exhaustive, faults, float_of, floats, form_of, visit

ROOT = Path(__file__).resolve().parent.parent
BCE, CE, FOCAL = (find(name) for name in ("binary_cross_entropy_with_logits", "cross_entropy", "sigmoid_focal_loss"))
FOCALS = {float(c.parameters["gamma"]): c for c in (FOCAL, *variants()) if c.name == "sigmoid_focal_loss"}
HELD = [BCE, CE, *FOCALS.values()]
# First patterns: 0 and the smallest numbers, 2^-70, 2^-24, 1/2, 5, 16, 22, 80, 100, 2^20, 2^127, and negative ones.
REGIONS = [0x00000000, 0x1C800000, 0x33800000, 0x3F000000, 0x40A00000, 0x41800000, 0x41B00000, 0x42A00000, 0x42C80000,
           0x49800000, 0x7F000000, 0x80000000, 0xB3800000, 0xBF000000, 0xC0A00000, 0xC1800000, 0xC2AE0000, 0xFF000000]


def pattern(x: float) -> int: return int(torch.tensor(x).view(torch.int32)) % 2**32


def bare(found: dict) -> dict:
    "A record without what differs from run to run."
    return {k: v for k, v in found.items() if k not in ("seconds", "core seconds", "processes", "resumed", "machine", "date")}


@functools.lru_cache(None)
def job_of(claim_index: int, loss=None, size: int = 2**12) -> Job: return Job(HELD[claim_index], loss, size=size)


def visited(claim, firsts, loss=None, size: int = 2**12) -> dict:
    "The record of the shards that hold these patterns."
    job = job_of(HELD.index(claim), loss, size)
    return every.take_record(job, {first // size: visit(job, first // size) for first in firsts})


# -- the patterns ------------------------------------------------------------


def test_the_shards_hold_every_pattern_once():
    for size in (2**12, 2**23):
        shards = Job(BCE, size=size).shards
        assert shards * size == 2**32
        for n in {0, 1, shards // 2 - 1, shards // 2, shards - 1}:
            bits = floats(n * size, size).view(torch.int32).long() % 2**32
            assert torch.equal(bits, torch.arange(n * size, (n + 1) * size))
    assert float_of(0xBF800000) == -1.0 and pattern(-1.0) == 0xBF800000


def test_the_infinities_and_the_nans_are_in_the_shards_of_the_largest_exponent():
    job, each = Job(BCE, F.binary_cross_entropy_with_logits, size=2**18), 2**23 // 2**18
    special = [n for n in range(job.shards) if n // each % 256 == 255]
    assert len(special) == 2 * each and (job.shards - len(special)) * job.size == 4_278_190_080
    assert 4_278_190_080 + 2 + 2 * (2**23 - 1) == 2**32
    found = [visit(job, n) for n in (special[0], special[1], special[each], special[-1])]
    assert [s["visited"]["infinite"] for s in found] == [1, 0, 1, 0]
    for shard in found:
        assert sum(shard["visited"].values()) == 2**18 and set(shard["nan"].values()) == {0} and len(shard["nan"]) == 4
    assert found[0]["infinite"]["target 0, value, x = inf"] == math.inf and math.isnan(found[0]["infinite"]["target 1, value, x = inf"])


def test_a_nan_that_is_lost_is_found():
    hides = lambda x, y: BCE.loss(torch.nan_to_num(x, nan=0.0), y, reduction="none")
    found = exhaustive(BCE, hides, size=2**12, part=[0xFFC00000 // 2**12], workers=1)
    assert found["nan lost"]["target 0, value"] == 2**12 and any("not NaN for a NaN" in f for f in faults(found))


# -- the reference -----------------------------------------------------------


def test_the_reference_holds_its_proved_bound():
    for row in every.reference_check(2, gammas=(0.0, 0.5, 1.0, 1.5, 2.0, 5.0, 7.5, 0.3, 2.2, 9.0)):
        assert 1 < row["value"] < row["proved"][0] and 1 < row["gradient"] < row["proved"][1] and row["count"] > 700


@pytest.mark.parametrize("name,k", [("EXP", 5), ("LOG", 2), ("LN2_LOW", None)])
def test_a_slip_in_the_reference_is_found(monkeypatch, name, k):
    value = getattr(every, name)
    wrong = value * (1 + 1e-3) if k is None else [c * (1 + 1e-9 * (i == k)) for i, c in enumerate(value)]
    monkeypatch.setattr(every, name, wrong)
    row = every.reference_check(2, gammas=(2.0,))[0]
    assert row["value"] > row["proved"][0] or row["gradient"] > row["proved"][1]


def test_the_bound_is_a_millionth_of_an_ulp():
    for gamma in (0.0, 0.5, 1.0, 2.0, 5.0): assert max(every.bound_in_ulp(gamma, (0.75, 0.25)).values()) < 1e-6
    assert max(every.bound_in_ulp(2.2).values()) < 1e-5


@pytest.mark.parametrize("claim", [c for c in (*CLAIMS, *variants()) if c.name in ("binary_cross_entropy_with_logits", "sigmoid_focal_loss", "cross_entropy", "softmax_focal_loss")], ids=lambda c: f"{c.name}-{float(c.parameters.get('gamma', 0)):g}")
def test_the_form_is_read_from_the_spec(claim):
    gamma = float(claim.parameters.get("gamma", 0))
    assert form_of(claim) == Form(gamma, (0.75, 0.25) if claim.name == "sigmoid_focal_loss" else (1.0, 1.0))


# -- what is counted ---------------------------------------------------------


def rows_of(claim, x, y, loss=None):
    "(what, got, target side) of a loss at logits x."
    subject = make_subject(claim, loss)
    if claim.kind == "softmax":
        value, slope = subject.run(torch.stack([x, torch.zeros_like(x)], 1), torch.full((len(x),), y))
        return {"value": value, "gradient": slope[:, 0], "other gradient": slope[:, 1]}
    return dict(zip(("value", "gradient"), subject.run(x, torch.full_like(x, y))))


def truths(claim, x, y):
    "Exact values by enclosures."
    if claim.kind == "softmax":
        value, slopes = make_subject(claim).enclosures(2)
        columns = (x.double().numpy(), 0.0) if y == 0 else (0.0, x.double().numpy())
        mine, other = slopes if y == 0 else slopes[::-1]
        return dict(zip(("value", "gradient", "other gradient"), (e.values(*columns) for e in (value, mine, other))))
    subject = make_subject(claim)
    return {what: exact.Enclosure(getattr(subject, what), subject.symbols).values(x.double().numpy(), float(y)) for what in ("value", "gradient")}


def same(found: dict, wanted: dict, bound: float):
    "A summary of a visit against `compare`."
    slack = bound * 2 + 1e-12
    fine = wanted["broken"] == 0
    if fine: assert found["worst"] == pytest.approx(wanted["worst"], rel=1e-13, abs=slack)
    if fine and found["count"]: assert found["mean"] == pytest.approx(wanted["mean"], rel=1e-12, abs=slack)
    assert found["subnormal"]["worst"] == pytest.approx(wanted["subnormal"], abs=slack) or not math.isfinite(wanted["subnormal"])
    assert (found["zeros"], found["broken"]) == (wanted["zeros"], wanted["broken"] + (found["broken"] - wanted["broken"]) * (not fine or found["subnormal"]["count"] == 0))
    assert found["count"] + found["subnormal"]["count"] + found["broken"] == wanted["count"]
    if fine and found["count"]: assert found["nearest"] == round(wanted["rounded"] * found["count"])


@pytest.mark.parametrize("claim,loss", [(BCE, None), (BCE, F.binary_cross_entropy_with_logits), (FOCALS[2.0], None), (FOCALS[0.5], None), (CE, None), (CE, F.cross_entropy)],
                         ids=["bce", "bce-torch", "focal-2", "focal-half", "ce", "ce-torch"])
def test_a_visit_agrees_with_exact_enclosures(claim, loss):
    size = 2**10
    bound = max(every.bound_in_ulp(float(claim.parameters.get("gamma", 0))).values())
    for first in REGIONS[::2]:
        found, x = visited(claim, [first], loss, size), floats(first, size)
        for y in (0, 1):
            exactly, got = truths(claim, x, y), rows_of(claim, x, y, loss)
            for what in got:
                same(found["results"][what][f"target {y}"], compare(got[what], exactly[what], x.double(), "float32"), bound)


@pytest.mark.parametrize("loss", [None, F.binary_cross_entropy_with_logits], ids=["lossbook", "torch"])
def test_a_visit_agrees_with_the_audit_on_larger_parts(loss):
    size = 2**16
    subject = make_subject(BCE, loss)
    found = exhaustive(BCE, loss, size=size, part=[first // size for first in REGIONS[3:10]], workers=1)
    x = torch.cat([floats(first, size) for first in REGIONS[3:10]])
    for y in (0, 1):
        for what, got in rows_of(BCE, x, y, loss).items():
            wanted = compare(got, subject.truth(what, x.double(), y, "float32"), x.double(), "float32")
            r = found["results"][what][f"target {y}"]
            same(r, wanted, 1e-6)
            if r["count"]: assert r["at"] == wanted["at"] or r["worst"] == pytest.approx(wanted["worst"], abs=1e-6)


def test_tallies_add_up_in_any_cut():
    "Shards of another size find the same."
    first, span = 0x41850000, 2**16
    one = exhaustive(BCE, F.binary_cross_entropy_with_logits, size=span, part=[first // span], workers=1)
    many = exhaustive(BCE, F.binary_cross_entropy_with_logits, size=2**12, part=range(first // 2**12, (first + span) // 2**12), workers=1)
    for what, cases in one["results"].items():
        for case, r in cases.items():
            other = many["results"][what][case]
            assert r["mean"] == pytest.approx(other["mean"], rel=1e-12)
            assert {k: v for k, v in r.items() if k not in ("mean", "subnormal")} == {k: v for k, v in other.items() if k not in ("mean", "subnormal")}


# -- what is found -----------------------------------------------------------


def test_pytorchs_dead_gradient_begins_where_it_begins():
    size, first = 2**16, pattern(16.5)
    found = exhaustive(BCE, F.binary_cross_entropy_with_logits, size=size, part=range(first // size, first // size + 4), workers=1)
    x = floats(first // size * size, 4 * size).requires_grad_()
    F.binary_cross_entropy_with_logits(x, torch.ones_like(x), reduction="sum").backward()
    dead = x.detach()[x.grad == 0]
    r = found["results"]["gradient"]["target 1"]
    assert r["zeros"] == len(dead) > 100_000 and r["zeros_on"].endswith(f"[{dead.min():.9g}, {dead.max():.9g}]")
    assert found["results"]["gradient"]["target 0"]["zeros"] == 0


@pytest.mark.parametrize("name,at,bad,what,target", [
    ("exp_overflows", 88.7, "broken", "gradient", 0), ("clamped_probability", 12.0, "zeros", "gradient", 0),
    ("clipped_at_1e_7", 17.0, "zeros", "gradient", 0), ("log_of_sigmoid", 17.0, "broken", "value", 1), ("shifted", -20.0, "zeros", "value", 0)])
def test_broken_losses_are_found_where_they_break(name, at, bad, what, target):
    size = 2**12
    found = exhaustive(BCE, MUTANTS[name].loss, size=size, part=range(pattern(at) // size, pattern(at) // size + 3), workers=1)
    r = found["results"][what][f"target {target}"]
    low, high = (float(v) for v in r[f"{bad}_on"].rpartition("[")[2][:-1].split(", "))
    assert r[bad] and low <= high and abs(low - at) < 0.01 * abs(at) and any(f.startswith(f"{what}, target {target}") for f in faults(found))


def test_our_own_have_no_fault_in_the_regions():
    for claim in HELD: assert not faults(visited(claim, REGIONS)), claim.name


def test_an_error_at_one_float_is_found():
    "A loss that is wrong at a single logit."
    bad = 3.1415927410125732

    def loss(x, y): return BCE.loss(x, y, reduction="none") * torch.where(x == bad, 1.0001, 1.0)

    found = exhaustive(BCE, loss, size=2**16, part=[pattern(bad) // 2**16], workers=1)
    assert found["results"]["value"]["target 1"]["at"] == bad and found["results"]["value"]["target 1"]["worst"] > 64


# -- nothing twice -----------------------------------------------------------

SCRIPT = '''
import json, os, sys, time
sys.path[:0] = [{root!r}]
import torch.nn.functional as F
from lossbook.catalogue import find
from lossbook.every import exhaustive
def slow(x, y):
    time.sleep({sleep})
    return F.binary_cross_entropy_with_logits(x, y, reduction="none")
part = range(0x41850000 // 2**14, 0x41850000 // 2**14 + 24)
if __name__ == "__main__":
    found = exhaustive(find("binary_cross_entropy_with_logits"), slow, size=2**14, part=part, workers={workers}, folder={folder})
    if found is not None: print("FOUND " + json.dumps(found))
    sys.stdout.flush()
    if "RANK" in os.environ: os._exit(0)  # now and then gloo's threads abort a process that winds down
'''
PART = range(0x41850000 // 2**14, 0x41850000 // 2**14 + 24)


def script(tmp_path, *, folder="sys.argv[1]", sleep=0.0, workers=2) -> Path:
    path = tmp_path / "run.py"
    path.write_text(SCRIPT.format(root=str(ROOT), sleep=sleep, workers=workers, folder=folder))
    return path


def run(*words):
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, timeout=240, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("FOUND "))[6:])


@pytest.fixture(scope="module")
def alone():
    "The record of the part by one process."
    slow = lambda x, y: F.binary_cross_entropy_with_logits(x, y, reduction="none")
    slow.__name__ = "slow"
    return exhaustive(BCE, slow, size=2**14, part=PART, workers=1)


def running(folder) -> list:
    "The processes that were called with this folder."
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try: found += [line.parent.name] if os.fsencode(folder) in line.read_bytes().split(b"\0") else []
        except OSError: pass  # it has just ended
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="the processes are forked on Linux only")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill", "ctrl-c"])
def test_a_stopped_run_goes_on_and_counts_nothing_twice(tmp_path, alone, how):
    folder = tmp_path / "parts"
    process = subprocess.Popen([sys.executable, str(script(tmp_path, sleep=0.1)), str(folder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)},
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # a shell's background job ignores it
    finished = lambda: sorted(folder.glob("shard-*.json"))
    start = time.monotonic()
    while len(finished()) < 4 and time.monotonic() - start < 60: time.sleep(0.02)
    process.send_signal(how)
    process.wait(60)
    while running(folder) and time.monotonic() - start < 90: time.sleep(0.05)  # the others end after their shard
    before = {p: p.read_bytes() for p in finished()}
    assert not running(folder) and 4 <= len(before) < 24, "somebody goes on after the parent is gone"
    broken = finished()[0]
    broken.write_text(before.pop(broken)[:100].decode())  # as if half written
    (folder / ".shard-000001.json.77").write_text("{")
    again = run(script(tmp_path), folder)
    assert all(p.read_bytes() == text for p, text in before.items()), "a finished shard was made again"
    assert again["resumed"] and bare(again) == json.loads(json.dumps(bare(alone)))
    assert again["visited"]["finite"] == 24 * 2**14 == again["results"]["value"]["target 0"]["count"]


@pytest.mark.parametrize("shared", [True, False], ids=["one folder", "a folder each"])
def test_two_ranks_find_what_one_process_finds(tmp_path, alone, shared):
    folder = "sys.argv[1]" if shared else "sys.argv[1] + os.environ['RANK']"
    path = script(tmp_path, folder=folder, workers=1)
    if not shared:  # both have shard 3 already, the second also the fifth
        slow = lambda x, y: F.binary_cross_entropy_with_logits(x, y, reduction="none")
        slow.__name__ = "slow"
        job = Job(BCE, slow, size=2**14)
        for rank, numbers in ((0, [3]), (1, [3, 5])):
            held = Folder(tmp_path / f"parts{rank}", job.plan())
            for n in numbers: held.put(visit(job, PART[n]))
    found = run("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, path, tmp_path / "parts")
    assert found["processes"] == 2 and bare(found) == json.loads(json.dumps(bare(alone)))


@pytest.mark.skipif(sys.platform != "linux", reason="the processes are forked on Linux only")
def test_two_processes_find_what_one_finds(alone, tmp_path):
    slow = lambda x, y: F.binary_cross_entropy_with_logits(x, y, reduction="none")
    slow.__name__ = "slow"
    seen = []
    two = exhaustive(BCE, slow, size=2**14, part=PART, workers=2, progress=lambda *p: seen.append(p))
    assert bare(two) == bare(alone) and seen[-1] == (24, 24) and seen == sorted(set(seen))


def test_the_number_of_threads_is_left_as_it_was():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        counts = []
        loss = lambda x, y: (counts.append(torch.get_num_threads()), BCE.loss(x, y, reduction="none"))[1]
        exhaustive(BCE, loss, size=2**12, part=[5], workers=1)
        assert set(counts) == {1} and torch.get_num_threads() == 2
    finally: torch.set_num_threads(before)


def test_ctrl_c_says_what_is_known():
    calls = []

    def loss(x, y):
        calls.append(1)
        if len(calls) > 5: raise KeyboardInterrupt
        return BCE.loss(x, y, reduction="none")

    with pytest.raises(Interrupted) as stop: exhaustive(BCE, loss, size=2**14, part=PART, workers=1)
    assert stop.value.report["visited"]["finite"] == 2 * 2**14 and not stop.value.report["complete"]


def test_memory_is_bounded():
    code = """
import resource, sys, torch
from lossbook.catalogue import find
from lossbook.every import exhaustive
torch.set_num_threads(1)
claim = find("sigmoid_focal_loss")
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
exhaustive(claim, size=2**17, part=[900], workers=1)
before = peak()
exhaustive(claim, size=2**17, part=range(8000, 8012), workers=1)
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 16, "MiB more for twelve shards than for one"


# -- bad input ---------------------------------------------------------------


def test_a_loss_of_another_form_is_refused():
    with pytest.raises(ValueError, match="of the form w q.gamma s only"): exhaustive(find("binary_cross_entropy"))
    with pytest.raises(ValueError, match="of the form"): exhaustive(next(c for c in CLAIMS if c.kind == "sets"))
    spec = BCE.spec
    double = replace(BCE, spec=replace(spec, expression=2 * spec.expression))
    with pytest.raises(ValueError, match="cross-entropy is not"): exhaustive(double)
    steeper = replace(FOCAL, parameters={**FOCAL.parameters, "alpha": 2})
    with pytest.raises(ValueError, match="alpha in"): exhaustive(steeper)


@pytest.mark.parametrize("bad,words", [
    ({"dtype": "float16"}, "visited completely by every audit"), ({"dtype": "float64"}, "too many floats"),
    ({"part": range(600)}, "part: got"), ({"part": []}, "part: got"), ({"size": 1000}, "size: got 1000"),
    ({"workers": 0}, "workers: got 0"), ({"workers": 1.5}, "workers: got 1.5")])
def test_bad_arguments(bad, words):
    with pytest.raises(ValueError, match=words): exhaustive(BCE, **bad)


def test_a_folder_of_another_run_is_refused(tmp_path):
    part = [PART[0]]
    exhaustive(BCE, size=2**14, part=part, folder=tmp_path / "a", workers=1)
    with pytest.raises(ValueError, match="holds shards of another run, with"):
        exhaustive(FOCAL, size=2**14, part=part, folder=tmp_path / "a", workers=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="folder: "): exhaustive(BCE, size=2**14, part=part, folder=tmp_path / "file", workers=1)


def test_a_loss_that_fails_or_reduces_says_so():
    with pytest.raises(ValueError, match="losses of shape"): exhaustive(BCE, lambda x, y: BCE.loss(x, y), size=2**14, part=PART, workers=1)

    def fails(x, y): raise ZeroDivisionError("in the loss")

    with pytest.raises(RuntimeError, match="in the loss"): exhaustive(BCE, fails, size=2**14, part=PART, workers=2)


# -- the command -------------------------------------------------------------


def command(*words):
    return CliRunner(env={"COLUMNS": "200"}).invoke(make_app(), [str(w) for w in words])


@pytest.mark.parametrize("words,said", [
    (["--folder", "x"], "--folder goes with --exhaustive"), (["--exhaustive", "--dtype", "float16"], "is visited completely without it"),
    (["--exhaustive", "--dtype", "float64"], "has too many floats"), (["--exhaustive", "--part", "9"], "--part 9: expected A:B"),
    (["--exhaustive", "--part", "5:513"], "--part 5:513"), (["--exhaustive", "--check", "value"], "does not go with --check"),
    (["--exhaustive", "--workers", "0"], "workers: got 0"), (["--exhaustive", "--folder", "/dev/null"], "folder: /dev/null")])
def test_wrong_calls_end_with_2_and_one_line(words, said):
    done = command("audit", "binary_cross_entropy_with_logits", *words)
    assert done.exit_code == 2 and said in done.output and len(done.stderr.strip().splitlines()) == 1


def test_the_command_refuses_what_has_no_such_form():
    assert "of the form" in command("audit", "binary_cross_entropy", "--exhaustive").output


def test_the_command_writes_a_record_and_goes_on(tmp_path):
    words = ["audit", "torch.nn.functional.binary_cross_entropy_with_logits", "--exhaustive", "--folder", tmp_path / "parts", "--part", "132:133"]
    done = command(*words, "--json", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert done.exit_code == 1 and "FAILED" in done.stdout and "false zeros on" in done.stdout
    assert found["visited"]["finite"] == 2**23 and found["target"] == words[1] and not found["complete"]
    start = time.monotonic()
    assert command(*words).exit_code == 1 and time.monotonic() - start < 30


def test_the_command_says_what_is_known_at_ctrl_c(tmp_path):
    (tmp_path / "stops.py").write_text("""
import torch.nn.functional as F
calls = 0
def bce(logits, target):
    global calls
    calls += logits.numel() == 2**17
    if calls > 150: raise KeyboardInterrupt
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")
""")
    words = ["--as", "binary_cross_entropy_with_logits", "--exhaustive", "--part", "60:63", "--workers", "1", "--json", tmp_path / "found.json"]
    done = command("audit", f"{tmp_path}/stops.py:bce", *words)
    assert done.exit_code == 130 and "stopped; this is what is known so far" in done.stdout
    assert f"{2**23:,} finite logits" in done.stdout and not (tmp_path / "found.json").exists()


def test_the_command_under_torchrun(tmp_path):
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "lossbook.cli", "audit"]
    words += ["torch.nn.functional.binary_cross_entropy_with_logits", "--exhaustive", "--part", "100:102", "--json", str(tmp_path / "found.json")]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=240, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0 and done.stdout.count("passed, as far as was visited") == 1, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["processes"] == 2 and found["visited"]["finite"] == 2 * 2**23


# -- the records -------------------------------------------------------------


def test_full_records_hold_what_is_promised():
    claims = {(c.name, float(c.parameters.get("gamma", 0))): c for c in (*CLAIMS, *variants())}
    for r in every.every_records():
        counts = r["visited"]
        assert r["complete"] and (counts["finite"], counts["infinite"], counts["nan"]) == (4_278_190_080, 2, 2 * (2**23 - 1)), r["file"]
        for what, cases in r["results"].items():
            for c in cases.values(): assert c["count"] + c["subnormal"]["count"] + c["broken"] >= 4_278_190_080, r["file"]
        if r["loss"] in {name for name, _ in claims}:
            assert not faults({**r, "limit": claims[r["loss"], r["gamma"]].promise["float32"]}), r["file"]


def test_the_headline_waits_for_all_full_runs():
    from lossbook.ledger import WHOLE, every_sentence

    def made(loss, gamma, worst, path="fused", broken=0):
        cases = {"target 0": {"worst": worst, "broken": broken}, "target 1": {"worst": worst / 2, "broken": 0}}
        return {"loss": loss, "gamma": gamma, "path": path, "device": "cpu", "complete": True, "date": "2026-01-02", "results": {"value": cases, "gradient": cases}}

    runs = [made(loss, gamma, 1 + i) for i, (loss, gamma) in enumerate(WHOLE)]
    assert every_sentence(runs[1:]) == "" == every_sentence([])
    assert f"is {len(WHOLE):.2f} ulp (2026-01-02)" in every_sentence(runs)
    torchs = made("torch.nn.functional.binary_cross_entropy_with_logits", 0.0, 2.0**24 - 1, path="")
    assert "ulp, and of PyTorch's own 16\u202f777\u202f215 ulp" in every_sentence([*runs, torchs])
    assert every_sentence([*runs[1:], {**runs[0], "complete": False}]) == ""
    assert "is inf ulp" in every_sentence([*runs[1:], made(*WHOLE[0], 1.0, broken=1)])
