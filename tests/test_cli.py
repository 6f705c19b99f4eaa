"""Does the command hold any loss to its formula, and answer a wrong call with one line and status 2?"""
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import CLAIMS
from typer.testing import CliRunner

import lossbook
from lossbook.audit import audit
from lossbook.catalogue import find
from lossbook.cli import Output, BadCall, make_app, readable
from lossbook.targets import Adapted, BadTarget, Reading, adapt, formulas_for, held_to, load, prepare, take_apart

LOSSES = '''
import torch, torch.nn.functional as F
from torch import nn

def focal_loss(inputs, targets, alpha=0.25, gamma=2.0):  # as it is copied
    p = torch.sigmoid(inputs).clamp(1e-4, 1 - 1e-4)
    return (-alpha * targets * (1 - p) ** gamma * p.log() - (1 - alpha) * (1 - targets) * p ** gamma * (1 - p).log()).mean()

def binary_crossentropy(y_true, y_pred):  # Keras: target first, probabilities, the last axis averaged
    p = y_pred.clamp(1e-7, 1 - 1e-7)
    return -(y_true * p.log() + (1 - y_true) * (1 - p).log()).mean(-1)

def looks_at_values(z, y): return F.softplus(-z).mean() if y.sum().item() > 0.5 else F.softplus(z).mean()
def summed(z, y): return F.softplus(torch.where(y > 0.5, -z, z)).sum()
def one_hot_cross_entropy(p, y): return -(y * torch.log(p)).sum(1)
def signed(z, y): return F.softplus(-z * y)
def third_is_data(weights, labels, logits): return weights * F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
def triple(z, y): return 3 * F.binary_cross_entropy_with_logits(z, y, reduction="none")
def two_things(z, y): return F.softplus(z), y
def alone(z): return z
def leaks(z, y):
    torch.set_grad_enabled(True)
    return F.binary_cross_entropy_with_logits(z, y, reduction="none")
def overwrites(z, y): return F.binary_cross_entropy_with_logits(z, y.mul_(0.9999), reduction="none")

class FocalLoss(nn.Module):
    def __init__(self, gamma, reduction="mean"):
        super().__init__()
        self.gamma, self.reduction = gamma, reduction
    def forward(self, logits, labels):
        log_p = F.log_softmax(logits, 1).gather(1, labels[:, None])[:, 0]
        loss = -((1 - log_p.exp()) ** self.gamma) * log_p
        return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[self.reduction]

def masked_mean(z, y, mask=None):
    loss = F.binary_cross_entropy_with_logits(z, y, reduction="none")
    return loss.mean() if mask is None else (loss * mask).sum() / mask.sum()

def ignores_and_counts(z, t, ignore_index=255): return F.cross_entropy(z, t, ignore_index=ignore_index, reduction="none").mean()

criterion, own_criterion = nn.BCEWithLogitsLoss(), nn.CrossEntropyLoss(ignore_index=7)
number = 3
'''


@pytest.fixture(scope="module")
def losses(tmp_path_factory):
    path = tmp_path_factory.mktemp("mine") / "losses.py"
    path.write_text(LOSSES)
    return str(path)


def run(*words, status=None):
    "The command in this process; asserts the status if one is given."
    done = CliRunner(env={"COLUMNS": "200"}).invoke(make_app(), [str(w) for w in words])
    if done.exception and not isinstance(done.exception, SystemExit): raise done.exception
    if status is not None: assert done.exit_code == status, done.output
    return done


def process(*words, code="", cwd=None, **more):
    "The command as a process of its own."
    script = f"import sys, signal; signal.signal(signal.SIGINT, signal.default_int_handler); {code}\nfrom lossbook.cli import main; sys.exit(main())"
    root = Path(lossbook.__file__).parent.parent
    env = {**os.environ, "PYTHONPATH": str(root), "COLUMNS": "200"}
    return subprocess.Popen([sys.executable, "-c", script, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd, env=env, **more)


# -- how a target is called --------------------------------------------------


@pytest.mark.parametrize("text,held,takes,labels,result", [
    ("torch.nn.functional.binary_cross_entropy_with_logits", None, "logits", "numbers from 0 to 1", "as it is"),
    ("torch.nn.functional:binary_cross_entropy", None, "probs", "numbers from 0 to 1", "as it is"),
    ("torch.nn.functional.binary_cross_entropy", "BCEWithLogitsLoss", "probs", "numbers from 0 to 1", "as it is"),
    ("torch.nn.BCEWithLogitsLoss", None, "logits", "numbers from 0 to 1", "as it is"),
    ("torch.nn.functional.cross_entropy", None, "logits", "class numbers", "as it is"),
    ("torch.nn.functional.nll_loss", "cross_entropy", "log-probs", "class numbers", "as it is"),
    ("torch.nn.functional.soft_margin_loss", "binary_cross_entropy_with_logits", "logits", "-1 and 1", "as it is"),
    ("{}:focal_loss", None, "logits", "numbers from 0 to 1", "each"),
    ("{}:binary_crossentropy", None, "probs", "numbers from 0 to 1", "column"),
    ("{}:looks_at_values", "binary_cross_entropy_with_logits", "logits", "numbers from 0 to 1", "loop"),
    ("{}:summed", "binary_cross_entropy_with_logits", "logits", "numbers from 0 to 1", "each"),
    ("{}:one_hot_cross_entropy", None, "probs", "one-hot rows", "as it is"),
    ("{}:signed", "binary_cross_entropy_with_logits", "logits", "-1 and 1", "as it is"),
    ("{}:FocalLoss", "softmax_focal_loss", "logits", "class numbers", "as it is"),
    ("{}:criterion", None, "logits", "numbers from 0 to 1", "as it is"),
    ("{}:overwrites", "binary_cross_entropy_with_logits", "logits", "numbers from 0 to 1", "as it is"),
])
def test_what_is_worked_out(losses, text, held, takes, labels, result):
    claim, notes = prepare(text.format(losses), held=held)
    r = claim.loss.reading
    assert (r.takes, r.labels, r.result) == (takes, labels, result)
    assert claim.promise == {} and any(line.startswith("Arguments: ") for line in notes)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.name)
def test_every_loss_of_the_book_is_its_own_target(claim):
    made, notes = prepare(claim.name)
    assert made.promise == claim.promise and "(its own)" in notes[0]
    assert prepare(claim.module.__name__)[0].promise == claim.promise


@pytest.mark.parametrize("result", ["as it is", "each", "loop"])
def test_adapted_loss_of_rows_in_more_dimensions(result):
    target = F.cross_entropy if result != "as it is" else lambda z, t: F.cross_entropy(z, t, reduction="none")
    loss = Adapted({"none": target}, Reading(("input", "target"), "logits", "class numbers", "plain", result), find("cross_entropy"))
    z, t = torch.randn(2, 5, 3, 4), torch.randint(0, 5, (2, 3, 4))
    assert torch.allclose(loss(z, t), F.cross_entropy(z, t, reduction="none"), rtol=1e-5)
    assert torch.allclose(loss(z[0, :, 0, 0], t[0, 0, 0]), F.cross_entropy(z, t, reduction="none")[0, 0, 0], rtol=1e-5)


def test_a_long_loop_is_cut_into_parts_and_has_the_same_gradient(monkeypatch):
    monkeypatch.setattr("lossbook.targets.PART", 8)
    loss = Adapted({"none": F.binary_cross_entropy_with_logits}, Reading(("input", "target"), "logits", "numbers from 0 to 1", "plain", "loop"),
                   find("binary_cross_entropy_with_logits"))
    z, y = torch.randn(30, requires_grad=True), (torch.rand(30) < 0.5).float()
    (got,) = torch.autograd.grad(loss(z, y).sum(), z)
    assert torch.allclose(got, z.sigmoid() - y, atol=1e-6)


def test_a_set_of_the_catalogue_that_is_not_there_yet():
    "Other kinds need nothing new: a claim of kind sets, made here."
    import sympy as sp

    from lossbook.audit import Claim
    from lossbook.symbolic import Spec

    s, y = sp.IndexedBase("s", real=True), sp.IndexedBase("y", real=True)
    i, n = sp.symbols("i n", integer=True, positive=True)
    spec = Spec("sum of scores", sp.Sum(s[i] ** 2 * (1 + y[i]), (i, 1, n)), {s: "scores"}, {y: "labels"}, {n: "classes"})

    def reference(z, t): return (z**2 * (1 + t.double())).sum(-1), 2 * z * (1 + t.double())

    claim = Claim("squares", spec, reference, kind="sets", reference=reference, traits={"soft": True})

    def mine(labels, scores): return (scores**2 * (1.5 + labels / 2)).sum(-1).mean()  # labels -1 and 1

    made, notes = adapt(take_apart("mine", mine), claim)
    assert (made.loss.reading.labels, made.loss.reading.result) == ("-1 and 1", "each") and "gives the mean" in notes[1]
    assert audit(made, checks=["dtype kept", "gradcheck", "vmap"]).passed


def test_options_and_parameters(losses):
    claim, notes = prepare(f"{losses}:focal_loss", options={"gamma": 0.7})
    assert float(claim.parameters["gamma"]) == float(torch.tensor(0.7)) and "gamma=0.69999998" in notes[-1]
    assert prepare("sigmoid_focal_loss", options={"gamma": 2})[0].promise and not prepare("sigmoid_focal_loss", options={"gamma": 5})[0].promise
    row = held_to(find("softmax_focal_loss"), {"gamma": 1})
    z, t = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    assert torch.allclose(row.reference(z, t)[0], lossbook.softmax_focal_loss(z, t, gamma=1.0, reduction="none"))
    assert prepare(f"{losses}:FocalLoss", options={"gamma": 3})[0].loss.calls.keys() == {"none", "mean", "sum"}


@pytest.mark.parametrize("name,options,parameters", [
    ("lsep_loss", {"scale": 2}, {"gamma": 2, "m": 0}),
    ("lsep_loss", {"gamma": 2, "m": -0.5}, {"gamma": 2, "m": -0.5}),
    ("circle_loss", {"scale": 32, "margin": 0.5}, {"gamma": 32, "m": 0.5}),
    ("circle_loss", {"detach_weights": False}, {"gamma": 256, "m": 0.25}),
    ("bounded_subset_softmax_loss", {"max_labels": 2}, {"K": 2, "theta": 0.5}),
    ("bounded_subset_softmax_loss", {"K": 1, "theta": -1}, {"K": 1, "theta": -1}),
    ("multilabel_cross_entropy", {"threshold": 1}, {"theta": 1}),
    ("sparse_multilabel_cross_entropy", {"theta": 1}, {"theta": 1}),
    ("sigmoid_focal_loss", {"gamma": 0.5, "alpha": 0.5}, {"gamma": 0.5, "alpha": 0.5}),
])
def test_the_exact_values_follow_the_parameters(name, options, parameters):
    "By the name that the loss has for them, or by that of the formula; the loss is then called with them too."
    made, notes = prepare(name, options=options)
    assert {k: float(v) for k, v in made.parameters.items()} == parameters and not made.promise and any(note.startswith("Formula: ") for note in notes)
    few = {"sizes": {"quick": ((1, 2, 5), 300, min(3, parameters.get("K", 3)))}} if made.kind != "pointwise" else {}
    made = replace(made, traits={**made.traits, **few})
    asked = ["value", "gradient", "infinite logits", "soft targets", "dead gradient", "ignore"]
    assert audit(made, checks=asked, dtypes=["float32", "float64"]).passed


def test_a_loss_that_ignores_a_parameter_is_found_out(tmp_path):
    (tmp_path / "mine.py").write_text("import lossbook\ndef lsep(scores, labels, scale=1.0): return lossbook.lsep_loss(scores, labels, reduction='none')\n")
    assert prepare(f"{tmp_path}/mine.py:lsep", held="lsep_loss")[0].parameters["gamma"] == 1
    with pytest.raises(BadTarget, match="where the formula gives"): prepare(f"{tmp_path}/mine.py:lsep", held="lsep_loss", options={"scale": 3})


@pytest.mark.parametrize("target,held,found", [
    ("cross_entropy", None, ""),
    ("torch.nn.functional.cross_entropy", None, "gradient nan; ignore_index: with nothing left"),
    ("torch.nn.functional.nll_loss", "cross_entropy", "ignore_index: with nothing left the mean is not finite"),
    ("torch.nn.BCEWithLogitsLoss", None, None),
    ("{}:masked_mean", "BCEWithLogitsLoss", "mask, NaN in their place: the result changes from"),
    ("{}:ignores_and_counts", "cross_entropy", "ignore_index: the result changes from"),
    ("{}:own_criterion", "cross_entropy", "gradient nan; ignore_index: with nothing left"),
])
def test_what_is_left_out_is_asked_of_any_target(losses, target, held, found):
    made, _ = prepare(target.format(losses), held=held)
    finding = audit(made, checks=["ignore"])["ignore"]
    assert finding.passed is (None if found is None else not found) and (found or "") in finding.detail


def test_forced_readings(losses):
    target = "torch.nn.functional.binary_cross_entropy_with_logits"
    assert prepare(target, reduction="each")[0].loss.reading.result == "each"
    assert prepare(target, first="input", target="target", domain="logits", reduction="none")[0].loss.reading.ask == "reduction"
    with pytest.raises(BadTarget, match=r"tried \(y_true, y_pred\) as"): prepare(f"{losses}:binary_crossentropy", held="BCELoss", first="y_true")


def test_names_lead_to_formulas():
    assert [c.name for c in formulas_for("cross_entropy", F.cross_entropy)] == ["cross_entropy"]
    assert formulas_for("CrossEntropyLoss")[0].name == "cross_entropy" and formulas_for("dice") == []
    assert load("lossbook.bce:binary_cross_entropy") is lossbook.binary_cross_entropy


# -- the command -------------------------------------------------------------


def test_list_and_show():
    listed = run("list", status=0).stdout
    for claim in CLAIMS:
        assert claim.name in listed
        card = run("show", claim.name, status=0).stdout
        assert claim.spec.citation[:20] in card and "promised error" in card and "\\" not in card.replace("\\ ", "")
        for text in claim.properties.values(): assert not set("\\${}`") & set(readable(text)), text
    assert run("--version", status=0).stdout.strip() == lossbook.__version__


def test_show_reads_the_ledger_where_there_is_one(tmp_path, monkeypatch):
    assert "ledger of 20" in run("show", "cross_entropy").stdout
    monkeypatch.setattr("lossbook.cli.__file__", str(tmp_path / "cli.py"))
    monkeypatch.chdir(tmp_path)
    assert "not at hand" in run("show", "cross_entropy").stdout


class Balanced(HTMLParser):
    "Fails on a tag that is closed without having been opened, or left open."

    def __init__(self): super().__init__(); self.open, self.text = [], ""
    def handle_starttag(self, tag, attrs): self.open += [tag] * (tag not in ("meta",))
    def handle_endtag(self, tag): assert self.open.pop() == tag
    def handle_data(self, data): self.text += data


def test_a_copied_focal_loss_fails_and_the_files_say_why(losses, tmp_path):
    data, page = tmp_path / "report.json", tmp_path / "report.html"
    done = run("audit", f"{losses}:focal_loss", "--set", "gamma=2", "--check", "dead-gradient", "--check", "value", "--check", "strides", "--json", data, "--html", page, status=1)
    assert "FAILED: dead gradient, value" in done.stdout and "logit -10: gradient 0, exactly -0.25" in done.stdout
    assert "only reduces" in done.stdout and "not run" in done.stdout
    assert "1 of 3" in done.stderr and "3 of 3" in done.stderr
    report = json.loads(data.read_text(), parse_constant=pytest.fail)
    assert report["passed"] is False and report["target"].endswith(":focal_loss") and report["date"] and report["machine"]["versions"]["torch"]
    assert {f["check"]: f["passed"] for f in report["findings"]} == {"dead gradient": False, "value": False, "strides": None}
    assert report["errors"][0]["where"].startswith("logit ") and report["errors"][0]["mean"] > 0
    parser = Balanced()
    parser.feed(page.read_text())
    assert parser.open == [] and "dead gradient" in parser.text and "http" not in page.read_text() and "<script" not in page.read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_status_zero_and_promises():
    done = run("audit", "binary_cross_entropy_with_logits", "--check", "false-zeros", "--check", "dtype-kept", "--check", "value", status=0)
    assert done.stdout.strip().endswith("passed") and "3 / 4 ulp" in done.stdout and "as promised" in done.stdout


def test_limit_and_dtypes():
    target = "torch.nn.functional.cross_entropy"
    run("audit", target, "--check", "dtype-kept", "--dtype", "float64", "--dtype", "bfloat16", status=0)
    assert "3 ulp" in run("audit", target, "--check", "soft-targets", "--fail-above", 3, status=0).stdout


@pytest.mark.parametrize("check,target,words", [
    ("grad-mode", "leaks", "gradients are enabled"),
    ("inputs-unchanged", "overwrites", "an argument was overwritten"),
])
def test_faults_that_are_not_numbers(losses, check, target, words):
    before = torch.is_grad_enabled()
    assert words in run("audit", f"{losses}:{target}", "--as", "binary_cross_entropy_with_logits", "--check", check, status=1).stdout
    assert torch.is_grad_enabled() == before


def one_summary(worst):
    row = {"worst": worst, "at": 0.0, "mean": 0.1, "rounded": 1.0, "subnormal": 0.0, "zeros": 0, "zeros_on": "", "broken": 0, "broken_on": "", "count": 1}
    return {"value": {"case": row}, "gradient": {"case": row}}


def test_ledger_measures_whom_it_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr("lossbook.ledger.second_error", lambda subject: None)
    monkeypatch.setattr("lossbook.ledger.measure", lambda subject, dtype, tier: one_summary(0.5))
    data = tmp_path / "ledger.json"
    run("ledger", "--json", data, status=0)
    assert {r["who"] for r in json.loads(data.read_text())["rows"]} == {"lossbook"}
    done = run("ledger", "--compare", "torch", "--json", data, status=0)
    assert {r["who"] for r in json.loads(data.read_text())["rows"]} == {"lossbook", "PyTorch"}
    last = done.stderr.splitlines()[-1].split()
    assert last[0] == last[2]
    monkeypatch.setattr("lossbook.ledger.measure", lambda subject, dtype, tier: one_summary(float("inf")))
    run("ledger", "--json", data, status=1)
    assert json.loads(data.read_text(), parse_constant=pytest.fail)["rows"][0]["value"]["case"]["worst"] == "inf"


def test_ledger_stopped_prints_the_rows_it_has(monkeypatch):
    def measure(subject, dtype, tier):
        if dtype == "float16": raise KeyboardInterrupt
        return one_summary(0.5)

    monkeypatch.setattr("lossbook.ledger.second_error", lambda subject: None)
    monkeypatch.setattr("lossbook.ledger.measure", measure)
    done = run("ledger", status=130)
    assert "float32" in done.stdout and "float16" not in done.stdout and "stopped" in done.stdout


# -- wrong calls -------------------------------------------------------------


WRONG = [
    (["audit", "sigmoid_focal_los"], "no loss of this book has this name; near it: sigmoid_focal_loss"),
    (["audit", "no_such_package.losses:focal"], "there is no module no_such_package.losses"),
    (["audit", "nowhere.py:focal"], "there is no file nowhere.py"),
    (["audit", "{}"], "say which callable of the file"),
    (["audit", "{}:focal_los"], "losses has no focal_los; near it: focal_loss"),
    (["audit", "{}:number"], "found an object of type int, which cannot be called"),
    (["audit", "{}:summed"], "no loss of the catalogue has a name like summed; name the formula: --as NAME"),
    (["audit", "{}:summed", "--as", "binary_crossentropy"], "--as binary_crossentropy: no loss of the catalogue has this name; near it: binary_cross_entropy"),
    (["audit", "{}:alone", "--as", "cross_entropy"], "a loss needs two arguments, scores and targets; it has z"),
    (["audit", "{}:triple", "--as", "BCEWithLogitsLoss"], "(z, y) as (logits, labels): it gives 3 times the formula"),
    (["audit", "{}:two_things", "--as", "BCEWithLogitsLoss"], "tried every order and domain: it returns tuple, not a tensor"),
    (["audit", "{}:third_is_data", "--as", "BCEWithLogitsLoss"], "it needs a value for weights: --set weights=..."),
    (["audit", "{}:FocalLoss", "--as", "cross_entropy"], "it needs a value for gamma: --set gamma=..."),
    (["audit", "{}:summed", "--as", "BCEWithLogitsLoss", "--first", "x"], "--first x: the callable has no such argument; it has z, y"),
    (["audit", "{}:summed", "--as", "BCELoss", "--domain", "logits"], "--domain logits: binary_cross_entropy can be compared with a loss of probs"),
    (["audit", "cross_entropy", "--set", "gamma=2"], "--set gamma: cross_entropy has no such option and the formula cross-entropy no such parameter; accepted: weight"),
    (["audit", "sigmoid_focal_loss", "--set", "gamma=many"], "gamma is a parameter of the formula and needs a finite number"),
    (["audit", "sigmoid_focal_loss", "--set", "gamma=-1"], "gamma: got -1, expected a number in [0, inf)"),
    (["audit", "bounded_subset_softmax_loss", "--set", "max_labels=2.5"], "--set max_labels=2.5: expected an integer of at least 1"),
    (["audit", "circle_loss", "--set", "detach_weights=1"], "--set detach_weights=1: expected True or False"),
    (["audit", "lsep_loss", "--set", "scale=2", "--set", "gamma=3"], "--set gamma=3.0: scale was given another value"),
    (["audit", "torch:"], "torch:: say which callable of the module: torch:NAME"),
    (["audit", "{}:"], "say which callable of the module"),
    (["audit", "torch.nn.functional"], "found an object of type module, which cannot be called"),
    (["audit", "torch.nn.functional.cross_entropy", "--as", "lsep_loss"], "where the formula gives"),
    (["audit", "cross_entropy", "--json", ""], "--json: expected the name of a file"),
    (["audit", "cross_entropy", "--html", "{}/x.html"], "there is no folder"),
    (["ledger", "--json", "/no/such/folder/x.json"], "there is no folder /no/such/folder"),
    (["ledger", "--tier", "tiny"], "--tier tiny: there is no such tier"),
    (["audit", "sigmoid_focal_loss", "--set", "gamma"], "--set gamma: expected key=value"),
    (["audit", "sigmoid_focal_loss", "--set", "gamma=1", "--set", "gamma=2"], "--set gamma: given twice"),
    (["audit", "cross_entropy", "--set", "reduction=sum"], "--set reduction: the audit needs one loss per example"),
    (["audit", "cross_entropy", "--reduction", "mean"], "--reduction mean: expected one of none, as-is, each"),
    (["audit", "cross_entropy", "--check", "falsezeros"], "--check falsezeros: there is no such check; near it: false-zeros"),
    (["audit", "cross_entropy", "--dtype", "float8"], "--dtype float8: there is no such dtype; near it: float"),
    (["audit", "cross_entropy", "--tier", "huge"], "--tier huge: there is no such tier; expected one of quick, full"),
    (["audit", "cross_entropy", "--device", "abacus"], "--device abacus: "),
    (["audit", "cross_entropy", "--fail-above", "nan"], "--fail-above nan: expected a number of ulp"),
    (["audit", "cross_entropy", "--json", "/no/such/folder/x.json"], "--json /no/such/folder/x.json: there is no folder /no/such/folder"),
    (["audit", "cross_entropy", "--json", "same.txt", "--html", "same.txt"], "--json and --html name the same file"),
    (["ledger", "--compare", "jax"], "--compare jax: there is no such compare; expected one of torch"),
    (["show", "focal"], "show focal: no loss of the catalogue has this name; near it: sigmoid_focal_loss"),
]


@pytest.mark.parametrize("words,message", WRONG, ids=[" ".join(w) for w, _ in WRONG])
def test_a_wrong_call_is_one_line_and_status_2(losses, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    done = run(*(w.format(losses) for w in words), status=2)
    assert message in done.stderr and done.stderr.startswith("lossbook: ") and done.stderr.count("\n") == 1 and not done.stdout
    assert list(tmp_path.iterdir()) == []


def test_cuda_that_is_not_there():
    if torch.cuda.is_available(): pytest.skip("this machine has CUDA")
    assert "finds no CUDA device" in run("audit", "cross_entropy", "--device", "cuda", status=2).stderr


@pytest.mark.parametrize("text,words", [
    ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package' (broken.py, line 1)"),
    ("def f(:", "SyntaxError"),
    ("x = 1\nraise RuntimeError('not today')", "RuntimeError: not today (broken.py, line 2)"),
    ("import sys; sys.exit(3)", "SystemExit: 3"),
])
def test_a_target_that_does_not_import(tmp_path, monkeypatch, text, words):
    (tmp_path / "broken.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("broken", None)
    for target in (f"{tmp_path}/broken.py:f", "broken:f"):
        done = run("audit", target, status=2)
        assert "does not import" in done.stderr and words in done.stderr


def test_a_report_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    path.write_text("old")
    output = Output("--json", str(path))

    def broken(*a): raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError): output.write("new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(BadCall, match="it is a folder"): Output("--html", str(tmp_path))
    Output("--json", os.devnull).write("gone")
    assert not Path(os.devnull).is_file()


# -- as a process ------------------------------------------------------------


def test_without_the_extra_it_says_what_to_install():
    done = process("list", code="sys.modules.update(dict.fromkeys(['typer', 'rich', 'flint']))")
    out, err = done.communicate(timeout=120)
    assert (done.returncode, out) == (2, "") and err == "lossbook: the command needs typer, rich, python-flint: pip install 'lossbook[verify]'\n"


def test_usage_errors_are_one_line():
    for words, message in ((["audti"], "No such command 'audti'"), (["audit"], "Missing argument"), (["audit", "x", "--fail-above", "much"], "--fail-above")):
        done = process(*words)
        out, err = done.communicate(timeout=120)
        assert done.returncode == 2 and message in err and err.count("\n") == 1 and not out


def test_ctrl_c_prints_what_is_known(tmp_path):
    "In a project's own folder, with a module that is not installed."
    (tmp_path / "slow.py").write_text(
        "import time, torch.nn.functional as F\n"
        "def loss(z, y):\n    time.sleep(0.1)\n    return F.binary_cross_entropy_with_logits(z, y, reduction='none')\n")
    checks = [w for c in ("dtype-kept", "grad-mode", "inputs-unchanged", "soft-targets", "strides", "gradcheck") for w in ("--check", c)]
    done = process("audit", "slow:loss", "--as", "BCEWithLogitsLoss", *checks, "--json", "report.json", cwd=tmp_path)
    for line in done.stderr:
        if line.startswith("3 of 6"): break
    done.send_signal(signal.SIGINT)
    out, err = done.communicate(timeout=120)
    assert done.returncode == 130, err
    assert "stopped; this is what is known so far" in out and "stopped before an answer" in out
    assert [line for line in out.splitlines() if "dtype kept" in line][0].split("│")[1].strip() == "yes"
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".json"] == []
