"""Does the bench report what it measured? Structure and arithmetic at tiny sizes; no time is tested."""
import json
import statistics
import sys
import time
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from test_cli import run

from lossbook import bench
from lossbook.bench import (
    COMPILED_TOO, LABELS, LEAST, NATIVE, OTHERS, PEERS, STORAGE_GOAL, WORKS, Absent, Contender, allocations, contenders,
    floor, inputs, interleaved, memory, quartiles, run_work, saved_bytes, shape_of, steady_memory, verdicts,
)

WORK = {w.key: w for w in WORKS}
SIZE = 256
ROW = {"label", "who", "compiled", "error", "first", "value", "median", "q1", "q3", "times", "ratio", "to_copy", "faults", "saved", "kept", "peak"}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def measured(key, **how):
    return run_work(WORK[key], SIZE, **{"repeats": 3, "fresh_too": False, **how})


# -- the works ---------------------------------------------------------------


def test_the_works_are_those_of_the_goals():
    "The table of goals, once more and by hand: a slip in either shows."
    wanted = {"bce": (1.3, 0.6), "focal": (1.3, 0.7), "focal-1.5": (2, 1), "cross-entropy": (1.3, 1), "cross-entropy-wide": (0.7, 0.5),
              "softmax-focal": (1.5, 1.1), "multilabel": (1.5, 0.8), "sparse-multilabel": (1.5, 1.1), "subset": (None, None)}
    assert {w.key: w.goals for w in WORKS} == wanted and STORAGE_GOAL == 1
    assert set(OTHERS) == set(wanted) and len(WORK) == len(WORKS)
    for w in WORKS:
        assert w.native in NATIVE and w.labels in LABELS and (w.native_of is None or w.native_of in WORK)
        assert set(OTHERS[w.key]) <= {*PEERS} | {n for n in OTHERS[w.key] if n.startswith("by hand: ")}
    assert set(COMPILED_TOO) <= set(PEERS)


@pytest.mark.parametrize("work", WORKS, ids=lambda w: w.key)
def test_inputs_are_hard_and_the_same_each_time(work):
    for size in (LEAST, 1000):
        (a, t), (b, u) = inputs(work, size), inputs(work, size)
        assert torch.equal(a, b) and torch.equal(t, u) and a.shape == shape_of(work, size) and a.numel() <= size
        if t.is_floating_point(): assert ((t == 0) | (t == 1)).all()
        assert work.ours()(a, t).isfinite() and NATIVE[work.native](*inputs(WORK[work.native_of], size) if work.native_of else (a, t)).isfinite()
    assert shape_of(work) == work.shape
    with pytest.raises(ValueError, match=f"size: got {LEAST - 1}, expected at least {LEAST}"): shape_of(work, LEAST - 1)


@pytest.mark.parametrize("work", WORKS, ids=lambda w: w.key)
def test_what_is_timed_is_the_loss_and_its_gradient(work):
    found, absent = contenders(work, SIZE)
    assert [c.who for c in found if not c.compiled][:2] == ["lossbook", "native"] and found[-1].who == "copy"
    here = {c.label for c in found} | {a["who"] for a in absent}
    assert set(OTHERS[work.key]) <= here, "who is neither measured nor named as absent"
    z, t = inputs(work, SIZE)
    z.requires_grad_()
    value = work.loss(z, t, **dict(work.options))
    value.backward()
    assert torch.equal(found[0].run(), value) and torch.equal(found[0].logits.grad, z.grad)
    found[0].reset()
    assert found[0].logits.grad is None
    assert torch.equal(found[-1].run(), z)


# -- the clock ---------------------------------------------------------------


def test_every_repetition_runs_each_once_in_changing_order():
    log = []
    entered = [SimpleNamespace(label=i) for i in range(5)]
    def clock(contender, device):
        log.append(contender.label)
        return float(len(log))
    times, orders = interleaved(entered, 8, clock=clock)
    assert [log[i : i + 5] for i in range(0, 40, 5)] == orders
    assert all(sorted(turn) == [0, 1, 2, 3, 4] for turn in orders) and len({*map(tuple, orders)}) > 4
    for i, mine in enumerate(times):
        assert mine == [5 * r + turn.index(i) + 1.0 for r, turn in enumerate(orders)]
    assert interleaved(entered, 8, clock=clock)[1] == orders, "the order is drawn from a seed"


def test_a_contender_whose_threads_stay_awake_is_followed_by_a_rest(monkeypatch):
    rests = []
    monkeypatch.setattr(bench.time, "sleep", rests.append)
    interleaved([SimpleNamespace(), SimpleNamespace(after=0.05)], 4, clock=lambda c, d: 1.0)
    assert sorted(rests) == [0.0] * 4 + [0.05] * 4 and bench.Jax.after > 0 == bench.Contender.after


def test_short_works_are_repeated_for_a_while():
    now = iter(range(100))
    assert len(interleaved([0], 3, clock=lambda c, d: time.sleep(0.02) or 1.0, seconds=0.1)[1]) >= 4
    assert len(interleaved([0], 3, clock=lambda c, d: next(now), seconds=0.0)[1]) == 3


def test_quartiles():
    assert quartiles([5.0, 1.0, 3.0, 2.0, 4.0]) == {"median": 3, "q1": 2, "q3": 4}


def test_garbage_is_collected_again_after_a_fault():
    import gc

    def clock(contender, device):
        assert not gc.isenabled()
        raise RuntimeError
    with pytest.raises(RuntimeError): interleaved([0], 1, clock=clock)
    assert gc.isenabled()


# -- memory ------------------------------------------------------------------


def composed(z, y):
    p = torch.sigmoid(z)
    p_t = p * y + (1 - p) * (1 - y)
    loss = F.binary_cross_entropy_with_logits(z, y, reduction="none") * (1 - p_t) ** 2
    return ((0.25 * y + 0.75 * (1 - y)) * loss).mean()


def hides(z, y):
    "Keeps a tensor where no hook looks."
    class Hidden(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            ctx.hidden = torch.sigmoid(z)
            return ctx.hidden.mean()

        @staticmethod
        def backward(ctx, slope): return slope * ctx.hidden

    return Hidden.apply(z)


def dropped(z, y):
    "Part of its graph is gone when it returns."
    torch.exp(z) * torch.sigmoid(z)
    return (z * y).sum()


@pytest.mark.parametrize("call,saved,kept", [
    (F.binary_cross_entropy_with_logits, 0, 0), (lambda z, y: (z * y).sum(), 0, 0), (lambda z, y: z.exp().sum(), 1, 1),
    (lambda z, y: (z.view(-1, 2) * z.view(-1, 2)).sum(), 0, 0), (composed, 6, 6), (dropped, 0, 0), (hides, 0, 1),
])
def test_what_is_saved(call, saved, kept):
    c = Contender("", call, *inputs(WORK["bce"], 2**14), who="")
    assert saved_bytes(c) == saved * c.logits.nbytes
    found = memory(c)
    assert found["saved"] == saved and abs(found["kept"] - kept) < 1e-3 and c.logits.grad is None
    assert found["peak"] >= max(1, kept)


def test_the_gradient_is_right_while_it_is_counted():
    c = Contender("", composed, *inputs(WORK["bce"], SIZE), who="")
    saved_bytes(c)
    counted = c.logits.grad
    c.reset()
    c.run()
    assert torch.equal(counted, c.logits.grad)


def test_allocations_are_those_of_the_call(capfd):
    x = torch.zeros(1000)
    changes = allocations(lambda: x + x)
    assert sum(c for c in changes if c > 0) == 4000 and capfd.readouterr().err == ""


def test_memory_is_kept_and_given_back():
    with steady_memory() as kept: assert kept in (True, False)
    with pytest.raises(KeyError), steady_memory(): raise KeyError


# -- a result ----------------------------------------------------------------


@pytest.mark.parametrize("key", WORK)
def test_a_result_follows_from_its_times(key):
    result = measured(key)
    json.dumps(result)
    assert result["shape"] == list(shape_of(WORK[key], SIZE)) and result["own size"] is False and len(result["order"]) == 3
    rows = {r["label"]: r for r in result["contenders"]}
    native, copy = (next(r for r in rows.values() if r["who"] == who) for who in ("native", "copy"))
    for r in rows.values():
        assert ROW <= set(r) and r["error"] is None and len(r["times"]) == 3 and min(r["times"]) > 0
        assert r["median"] == pytest.approx(statistics.median(r["times"]), abs=1e-8) and r["q1"] <= r["median"] <= r["q3"]
        for name, base in (("ratio", native), ("to_copy", copy)):
            each = sorted(a / b for a, b in zip(r["times"], base["times"]))
            assert r[name]["median"] == pytest.approx(each[1], rel=0.05) and r[name]["q1"] <= r[name]["median"] <= r[name]["q3"]
    assert native["ratio"] == {"median": 1, "q1": 1, "q3": 1} == copy["to_copy"]
    if WORK[key].moved:
        assert result["floor"]["bytes"] == pytest.approx(WORK[key].moved / 8 * copy["median"])
        assert result["floor"]["seconds"] == max(result["floor"]["bytes"], result["floor"]["functions"])
    else: assert result["floor"] is None


def test_the_passes_of_a_loss_of_rows_are_a_softmax_of_the_others():
    "Each piece in its place, and accurate: nothing is left out that the bound should count."
    logits = torch.randn(50, 30_000, generator=torch.Generator().manual_seed(0))
    target = torch.arange(50)
    wanted = torch.softmax(logits.double().scatter(1, target.unsqueeze(1), -float("inf")), 1).float()
    torch.testing.assert_close(bench.Passes(logits, target).run(), wanted, rtol=3e-7, atol=0)


def test_what_does_not_compile_is_not_taken_for_a_missing_compiler(monkeypatch):
    def fails(x): raise RuntimeError("no such kernel")
    monkeypatch.setattr(bench, "_in_registers", lambda function: fails)
    with pytest.raises(RuntimeError, match="no such kernel"): bench.unit_costs(repeats=8, compile=True)
    def refuses(x): raise RuntimeError("torch.compile needs a C++ compiler, such as g++, on this machine")
    monkeypatch.setattr(bench, "_in_registers", lambda function: refuses)
    assert set(bench.unit_costs(repeats=8, compile=True)) == {"exp", "log1p"}


def test_absent_libraries_are_named(monkeypatch):
    real = bench.release
    monkeypatch.setattr(bench, "release", lambda p: None if p in PEERS else real(p))
    absent = measured("focal", memory_too=False)["absent"]
    assert absent == [{"who": p, "why": "not installed"} for p in OTHERS["focal"]]


def test_a_library_that_does_not_import_is_named_with_its_reason(monkeypatch):
    def broken(): raise ImportError("no module\nnamed x")
    monkeypatch.setattr(bench, "release", lambda p: "1.0")
    monkeypatch.setitem(PEERS, "torchvision", broken)
    with pytest.raises(Absent, match="does not import: ImportError: no module named x"): bench.peer("torchvision")


def test_one_file_of_an_installed_package(monkeypatch, tmp_path):
    "As torchvision is read: a relative import is answered by the stand-in."
    (tmp_path / "pack/ops").mkdir(parents=True)
    (tmp_path / "pack/ops/loss.py").write_text("from ..utils import log\ndef f(): return log(1)\n")
    monkeypatch.setattr(bench, "distribution", lambda name: SimpleNamespace(locate_file=lambda inside: tmp_path / inside))
    assert bench._one_file("pack", "pack/ops/loss.py", log=lambda x: x + 1).f() == 2
    for name in [n for n in sys.modules if n.startswith("_bench_pack")]: del sys.modules[name]


def test_a_contender_that_fails_is_named_and_the_others_go_on(monkeypatch):
    def refuse(*a, **kw): raise RuntimeError("no\ncompiler")
    monkeypatch.setattr(bench, "compiled", lambda function: refuse)
    result = measured("bce", compile=True, memory_too=False)
    rows = {r["label"]: r for r in result["contenders"]}
    assert rows["lossbook, compiled"]["error"] == "RuntimeError: no compiler" and rows["lossbook"]["error"] is None
    goals = verdicts({"works": [{**result, "own size": True}]})
    assert [g["reached"] for g in goals if g["compiled"]] == [False, False]


def test_another_number_is_seen(monkeypatch):
    monkeypatch.setitem(OTHERS, "softmax-focal", {"by hand: gathered": lambda m: lambda z, t: 1.01 * bench.by_hand_gathered(z, t)})
    assert [r["agrees"] for r in measured("softmax-focal")["contenders"] if r["who"] == "by hand"] == [False]
    monkeypatch.undo()
    assert [r["agrees"] for r in measured("multilabel")["contenders"] if r["label"] == "by hand: 1e12"] == [True]


def test_compiled_forms_take_part():
    result = measured("bce", compile=True)
    torch._dynamo.reset()
    rows = {r["label"]: r for r in result["contenders"]}
    if rows["lossbook, compiled"]["error"]:  # a machine without a C++ compiler: then that is what is said
        assert "Error" in rows["lossbook, compiled"]["error"] or "Exception" in rows["lossbook, compiled"]["error"]
    else: assert rows["lossbook, compiled"]["agrees"] and rows["lossbook, compiled"]["saved"] is not None
    left_out = measured("subset", compile=True, memory_too=False)
    assert {"who": "lossbook, compiled", "why": "the compiler takes minutes for it"} in left_out["absent"]


def test_a_fresh_process():
    found = bench.fresh(WORK["bce"], SIZE, "torch binary_cross_entropy_with_logits")
    assert {"first", "median", "q1", "q3", "times", "faults"} == set(found) and len(found["times"]) == bench.FRESH_CALLS
    assert found["median"] == statistics.median(found["times"])
    assert bench.fresh(WORK["bce"], SIZE, "nobody")["error"].startswith("StopIteration")


def made_up(ratio, saved, kept, own=True):
    row = {"label": "lossbook", "who": "lossbook", "compiled": False, "error": None, "ratio": {"median": ratio}, "saved": saved, "kept": kept}
    return {"works": [{"key": "bce", "title": "", "goals": [1.3, 0.6], "own size": own, "contenders": [row]}]}


@pytest.mark.parametrize("ratio,saved,kept,reached", [
    (1.3, 1.0, 1.0001, [True, True]), (1.31, 0.0, 0.0, [False, True]), (0.5, 1.25, 1.25, [True, False]),
    (0.5, 0.0, 2.0, [True, False]),  # kept where no hook looks
])
def test_goals(ratio, saved, kept, reached):
    found = verdicts(made_up(ratio, saved, kept))
    assert [g["what"] for g in found] == ["time", "saved"] and [g["reached"] for g in found] == reached
    assert found[0]["got"] == ratio and found[1]["got"] == max(saved, kept)
    assert verdicts(made_up(ratio, saved, kept, own=False)) == []


def test_the_floor_is_of_the_fastest_functions_seen(monkeypatch):
    "They are measured beside each work; all floors use the least of all."
    costs = iter([{"exp": 3.0, "log1p": 4.0}, {"exp": 5.0, "log1p": 2.0}, {"exp": 6.0, "log1p": 7.0}])
    monkeypatch.setattr(bench, "unit_costs", lambda device, compile: next(costs))
    report = bench.bench([WORK["bce"], WORK["cross-entropy"]], sizes=(SIZE,), repeats=2, fresh_too=False, memory_too=False, only=("lossbook", "native", "copy"))
    assert report["units"] == {"exp": 3.0, "log1p": 2.0}
    assert [w["floor"]["functions"] for w in report["works"]] == [SIZE * 5.0, SIZE * 3.0]


def test_floor():
    assert floor(WORK["cross-entropy"], 4, 8.0, {"exp": 10.0, "log1p": 1.0}) == {"bytes": 12, "functions": 40, "seconds": 40}
    assert floor(WORK["bce"], 4, 8.0, {}) == {"bytes": 20, "functions": None, "seconds": 20}
    assert floor(WORK["subset"], 4, 8.0, {}) is None


# -- the command -------------------------------------------------------------

SMALL = ("--size", SIZE, "--repeats", 2, "--threads", 1, "--steady-only")


def test_command(tmp_path):
    done = run("bench", "softmax_focal_loss", *SMALL, "--size", 300, "--json", tmp_path / "b.json", status=0)
    out = done.stdout
    for text in ("softmax focal, γ = 2, 1 × 256", "1 × 300", "torch cross_entropy", "by hand: gathered", "floor: ", "another number: by hand: one-hot"):
        assert text in out, out
    report = json.loads((tmp_path / "b.json").read_text())
    assert {"lossbook", "date", "machine", "works", "units", "device", "threads", "dtype", "releases", "goals"} <= set(report)
    assert [w["shape"] for w in report["works"]] == [[1, 256], [1, 300]] and report["threads"] == 1 and report["goals"] == []
    for w in report["works"]:
        for who in OTHERS["softmax-focal"]:
            assert who in {r["label"] for r in w["contenders"]} | {a["who"] for a in w["absent"]}
            assert who in out
    assert "goals" not in out, "a goal holds at the work's own shape"


def test_all_works_in_one_call():
    out = run("bench", *SMALL, status=0).stdout
    assert all(f"({w.key})" in out for w in WORKS)


@pytest.mark.parametrize("ratio,gate,status", [(9.0, True, 1), (9.0, False, 0), (0.5, True, 0)])
def test_status(monkeypatch, ratio, gate, status):
    result = measured("bce")
    result["own size"] = True
    result["contenders"][0] |= {"ratio": {"median": ratio, "q1": ratio, "q3": ratio}, "saved": 0.0, "kept": 0.0}
    def told(works, *, done, **how):
        done.append(result)
        return {"works": done}
    monkeypatch.setattr(bench, "bench", told)
    out = run("bench", "bce", "--steady-only", *(["--gate"] if gate else []), status=status).stdout
    assert ("not reached" in out) == (ratio > 1.3)


@pytest.mark.parametrize("words,said", [
    (("focall",), "no work and no timed loss has this name; near it: focal"), (("zzz",), "expected one of bce, focal"),
    (("bce", "--size", "63"), "--size 63: expected at least 64"), (("bce", "--repeats", "1"), "--repeats 1: expected at least 2"),
    (("bce", "--threads", "0"), "--threads 0: expected at least 1"), (("bce", "--device", "tpu"), "--device tpu: "),
    (("bce", "--json", "/no/such/folder/x.json"), "there is no folder"),
])
def test_wrong_calls(words, said):
    done = run("bench", *words, status=2)
    assert said in done.stderr and len(done.stderr.strip().splitlines()) == 1 and not done.stdout


def test_stopped_it_says_what_is_known(monkeypatch):
    result = measured("bce")
    def stopped(works, *, done, **how):
        done.append(result)
        raise KeyboardInterrupt
    monkeypatch.setattr(bench, "bench", stopped)
    out = run("bench", "bce", "--steady-only", status=130).stdout
    assert "torch binary_cross_entropy_with_logits" in out and "stopped; this is what is known so far" in out
