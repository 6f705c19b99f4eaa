"""Does the audit itself behave? Reports, arguments, and checks that did not run."""
import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from lossbook import bce
from lossbook.audit import CHECKS, Card, Interrupted, Subject, audit, points_for, to_json
from lossbook.catalogue import catalogue, find


def test_report_in_every_form():
    report = audit(F.binary_cross_entropy_with_logits, bce.spec(), checks=["value", "dtype kept", "rounding"])
    assert not report.passed and report.failed() == ["value"]
    assert "promised" in report["value"].detail and report["rounding"].passed is None
    text, html, data = report.text(), report._repr_html_(), json.loads(report.json())
    assert "NO" in text and "not run" in text and "lb-bad" in html and "lb-silent" in html
    assert data["passed"] is False and data["numbers"]["float32"]["value"]["target 0"]["zeros"] > 0
    with pytest.raises(KeyError, match="no check 'beauty'"): report["beauty"]


@pytest.mark.parametrize("call,kind,words", [
    (lambda: audit(42, bce.spec()), TypeError, "target: got int"),
    (lambda: audit(F.softplus), TypeError, "spec: got NoneType"),
    (lambda: audit(F.softplus, bce.spec(), checks=["beauty"]), ValueError, "checks: got beauty"),
    (lambda: audit(F.softplus, bce.spec(), tier="huge"), ValueError, "tier: got 'huge'"),
    (lambda: audit(F.softplus, bce.spec(), dtypes=["float8"]), ValueError, "dtype: got float8"),
    (lambda: audit(F.softplus, bce.spec(), domain="scores"), ValueError, "domain: got 'scores'"),
    (lambda: points_for("float32", tier="all"), ValueError, "tier: got 'all'"),
])
def test_bad_calls(call, kind, words):
    with pytest.raises(kind, match=words): call()


def test_a_loss_that_raises_has_failed():
    def moody(x, y): raise RuntimeError("not today")
    report = audit(moody, bce.spec(), checks=["value", "strides"])
    assert report.failed() == ["strides", "value"] and "not today" in report["value"].detail


def test_progress_names_every_check():
    lines = []
    audit(bce.claims()[0], checks=["value", "vmap"], progress=lines.append)
    assert len(lines) == 2 and "vmap" in lines[1]


def test_points_cover_what_they_say():
    for dtype, count in (("float16", 63_488), ("bfloat16", 65_280)): assert points_for(dtype).numel() == count
    full = points_for("float32", tier="full")
    assert full.numel() == 2 * 255 * 2**13 + 2**22 + 1 and full.isfinite().all()
    probs = points_for("float32", "probs")
    assert (probs > 0).all() and (probs < 1).all() and probs.min() < 1e-40


def test_catalogue_and_cards():
    names = [c.name for c in catalogue()]
    assert len(names) == len(set(names)) and find(names[0]).name == names[0]
    with pytest.raises(KeyError, match="binary_cross_entropy"): find("binary_crossentropy")
    for claim in catalogue():
        card = dict(Card(claim).rows())
        assert {"loss", "derivative", "convex", "proper", "source"} <= set(card) and "|" not in "".join(card.values()).replace("\\|", "")


def test_a_spec_with_parameters_needs_their_values():
    import sympy as sp

    from lossbook.symbolic import Spec, softplus
    x, y, g = sp.symbols("x y gamma", real=True)
    spec = Spec("scaled", g * softplus(x), {x: "logit"}, {y: "target"}, {g: "scale"})
    with pytest.raises(ValueError, match="gamma"): Subject(F.softplus, spec)
    def doubled(z, t): return 2 * F.softplus(z)
    assert audit(doubled, spec, parameters={"gamma": 2.0}, checks=["value"], fail_above=2**25).passed
    assert set(CHECKS) >= {"value", "gradient"}
    assert torch.is_grad_enabled()


def test_a_report_short_and_as_json():
    report = audit(F.binary_cross_entropy_with_logits, bce.spec(), checks=["value"])
    value, gradient = report.errors()
    assert value["zeros"] > 0 and "on [" in value["zeros_on"] and value["where"].startswith("logit ") and 0 < value["mean"] < value["worst"]
    assert json.loads(to_json({"a": [math.inf, math.nan, 1.5, None]}), parse_constant=pytest.fail) == {"a": ["inf", "nan", 1.5, None]}
    report.notes = ["[red]kept as it is[/red]"]
    report.findings[0].detail = "[/no] markup"
    assert "[/no] markup" in report.text() and json.loads(report.json())["notes"] == report.notes


def test_ctrl_c_brings_what_is_known():
    def stop(line):
        if "float16: dtype kept" in line: raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught: audit(bce.claims()[0], dtypes=["float32", "float16"], checks=["grad mode", "dtype kept"], progress=stop)
    found = caught.value.report.findings
    assert [(f.dtype, f.passed) for f in found] == [("float32", True), ("float32", True), ("float16", True), ("float16", None)]
    assert found[-1].detail == "stopped before an answer"


def test_a_check_that_is_kept_back_says_why():
    claim = replace(bce.claims()[0], traits={"not asked": {"vmap": "it looks at values"}})
    assert audit(claim, checks=["vmap"])["vmap"].passed is None and audit(claim, checks=["vmap"])["vmap"].detail == "it looks at values"


def test_a_claim_says_what_a_callable_is_held_to():
    "Losses of rows and of sets have no other way: they need the exact values of their chapter."
    claim = find("cross_entropy")
    report = audit(F.cross_entropy, claim, checks=["value", "ignore", "bad targets"], options={"label_smoothing": 0.0})
    assert report.name == "cross_entropy" and report["value"].passed is False and "promised 64" in report["value"].detail
    assert "NaN in their place" in report["ignore"].detail and "nothing left" in report["ignore"].detail
    assert audit(lambda z, t: claim.loss(z, t, reduction="none"), claim, checks=["value", "dtype kept"]).passed
    for more, words in (({"spec": claim}, "spec"), ({"options": {}}, "options"), ({"parameters": {}}, "parameters"), ({"domain": "probs"}, "domain")):
        with pytest.raises(ValueError, match=f"{words}: got one with a Claim"): audit(claim, **more)
    with pytest.raises(ValueError, match="parameters: got one with a Claim"): audit(F.cross_entropy, claim, parameters={"n": 3})


def test_a_report_is_a_page_and_shows_its_errors():
    report = audit(F.binary_cross_entropy_with_logits, bce.spec(), checks=["value", "dtype kept"])
    report.notes = ["called as `f(x)` <here>"]
    page, text = report.html(about={"date": "today"}), report.text()
    assert page.startswith("<!DOCTYPE html>") and "FAILED: value" in page and "date: today" in page and "<code>f(x)</code> &lt;here&gt;" in page
    for words in ("measured errors", "mean (ulp)", "false zeros"): assert words in page and words in text
    assert "called as" in text and "measured errors" not in audit(F.softplus, bce.spec(), checks=["dtype kept"]).text()


def test_the_mean_error_leaves_out_what_has_none():
    "A case whose exact results are all 0 has no error in ulp; it must not make the mean infinite."
    value, gradient = audit(find("lsep_loss"), checks=["value"]).errors()
    assert 0 < value["mean"] < 0.5 and 0 < gradient["mean"] < 0.5


def test_examples_that_are_left_out():
    bce_loss = F.binary_cross_entropy_with_logits

    def fine(x, y, mask=None, reduction="mean"):
        loss = bce_loss(x, y, reduction="none") if mask is None else torch.where(mask, bce_loss(torch.where(mask, x, 0.0), y, reduction="none"), 0.0)
        return loss if reduction == "none" else loss.sum() / (max(1, loss.numel() if mask is None else mask.sum()) if reduction == "mean" else 1)

    def drops(x, y, ignore_index=255, reduction="mean"):
        return bce_loss(x[y != ignore_index], y[y != ignore_index], reduction=reduction)

    assert audit(fine, bce.spec(), checks=["ignore"]).passed
    assert audit(drops, bce.spec(), checks=["ignore"])["ignore"].detail == "ignore_index: with nothing left the mean is not finite"
    assert audit(bce_loss, bce.spec(), checks=["ignore"])["ignore"].detail == "the loss has no argument ignore_index or mask"


def test_bad_targets_are_not_asked_for_on_a_device():
    from lossbook.audit import Examination, NotRun, make_subject, taken
    with pytest.raises(NotRun): taken(Examination(make_subject(bce.claims()[0]), "float32", (1, 1), None, "quick", "cuda"), {})


def test_a_clamp_of_probabilities_is_a_dead_gradient_and_a_cap():
    def clamped(p, y): return F.binary_cross_entropy(p.clamp(1e-4, 1 - 1e-4), y, reduction="none")

    report = audit(replace(find("binary_cross_entropy"), loss=clamped), checks=["dead gradient", "cap"])
    assert report.failed() == ["cap", "dead gradient"] and "probability 1e-05: gradient" in report["dead gradient"].detail


@pytest.mark.parametrize("loss,words", [
    (lambda z, t: F.cross_entropy(z, t, reduction="none") + (z.detach().abs().amax(1) > 3), "ulp at scores ("),
    (lambda z, t: F.nll_loss(torch.log(torch.softmax(z, 1)), t, reduction="none"), "first at scores ("),
])
def test_the_row_where_it_happens_is_shown(loss, words):
    "And it can be typed in: the same row gives the same error."
    report = audit(replace(find("cross_entropy"), loss=loss), checks=["value", "false zeros", "finite"])
    assert not report.passed and any(words in f.detail for f in report.findings)
    for f in report.findings: assert f.detail.count("promised") <= 3 and "..." not in f.detail or " in all)" in f.detail
