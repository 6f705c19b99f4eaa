"""The audit of the book over the losses of the peers: one row of plain data per entry."""
import time
import warnings

import torch

from installed import place, release
from losses import JAX, Entry, entries
from lossbook.audit import audit, compare, make_subject, points_for
from lossbook.exact import format_of
from lossbook.rows import row_cases

QUICK = ("value", "gradient", "false zeros", "finite", "dead gradient", "cap")


def number(x) -> str:
    "A float as text that JSON can hold and float() reads: six digits, or nan, inf."
    return f"{float(x):.6g}"


def _cases(subject):
    "(case, whether it is a line of one logit, points, values, gradients, exact values, exact gradients) in float32."
    if subject.kind == "pointwise":
        points = points_for("float32")
        for y in (0.0, 1.0):
            exact = (subject.truth(what, points.double(), y, "float32") for what in ("value", "gradient"))
            yield f"y = {y:g}", True, points, *subject.run(points, torch.full_like(points, y)), *exact
        return
    for case, logits, index in row_cases("float32", "quick"):
        got = subject.run(logits, index)
        exact = [e.flatten().numpy() for e in subject.reference(logits.double(), index)]
        line = "(x, 0)" in case
        yield case.replace("scores (x, 0), ", ""), line, logits[:, 0], *got, *exact


def intervals(points, bad) -> list:
    "Where bad points lie, as [first, last] of each stretch; up to 500 good points in between do not end a stretch."
    order = points.argsort()
    where = bad[order].nonzero().flatten()
    if not len(where):
        return []
    cut = (where.diff() > 500).nonzero().flatten()
    starts, ends = torch.cat([where[:1], where[cut + 1]]), torch.cat([where[cut], where[-1:]])
    return [[number(points[order[i]]), number(points[order[j]])] for i, j in zip(starts, ends)]


def errors(subject) -> dict:
    """Value and gradient in float32: the worst error where the result is finite, the worst for logits up to 8, and
    on lines of one logit where the result is 0, or NaN or inf, although the truth is a normal number."""
    out = {what: {"worst": 0.0, "at": "", "near": 0.0, "zeros": 0, "zeros_on": {}, "broken": 0, "broken_on": {}, "count": 0}
           for what in ("value", "gradient")}
    float32 = format_of("float32")
    for case, line, logit, value, gradient, exact_value, exact_gradient in _cases(subject):
        for row, got, exact in ((out["value"], value, exact_value), (out["gradient"], gradient, exact_gradient)):
            got, exact = got.flatten(), torch.from_numpy(exact.copy())
            points, finite = logit.double().repeat_interleave(got.numel() // len(logit)), got.isfinite()
            normal = (exact.abs() >= float32.smallest_normal) & (exact.abs() <= float32.largest)
            worst = compare(got[finite], exact[finite].numpy(), points[finite], "float32")
            if worst["worst"] >= row["worst"]:
                row["worst"], row["at"] = worst["worst"], f"{worst['at']:.6g}, {case}" if line else case
            near = finite & (points.abs() <= 8) if line else finite & False
            if near.any():
                row["near"] = max(row["near"], compare(got[near], exact[near].numpy(), points[near], "float32")["worst"])
            row["count"] += len(points)
            for key, bad in (("zeros", normal & (got == 0)), ("broken", normal & ~finite)):
                row[key] += int(bad.sum())
                if line and bad.any():
                    row[f"{key}_on"][case] = intervals(points, bad)
    return {what: {**row, "worst": number(row["worst"]), "near": number(row["near"])} for what, row in out.items()}


def sixteen(subject, dtype: str) -> dict:
    "Every finite number of a 16-bit dtype against the float64 form of the formula. A result of a wider dtype is rounded first."
    points, out = points_for(dtype), {}
    for y in (0.0, 1.0):
        for what, got in zip(("value", "gradient"), subject.run(points, torch.full_like(points, y))):
            truth, got = subject.truth(what, points.double(), y, "float32"), got.to(getattr(torch, dtype))
            whole, finite = compare(got, truth, points.double(), dtype), got.isfinite()
            worst = compare(got[finite], truth[finite.numpy()], points.double()[finite], dtype)["worst"]
            row = out.setdefault(what, {"worst": 0.0, "zeros": 0, "broken": 0, "count": 0})
            row["worst"] = max(row["worst"], worst)
            for key in ("zeros", "broken", "count"):
                row[key] += whole[key]
    return {what: {**row, "worst": number(row["worst"])} for what, row in out.items()}


def dtypes_of(subject) -> dict:
    "The dtype of the result for each dtype of logits, or the error."
    found = {}
    generator = torch.Generator().manual_seed(0)
    for dtype in ("float64", "float32", "bfloat16", "float16"):
        z = torch.randn((4, 3) if subject.kind == "softmax" else 4, generator=generator).to(getattr(torch, dtype))
        t = torch.zeros(4, dtype=torch.int64) if subject.kind == "softmax" else torch.ones(4, dtype=z.dtype)
        try:
            found[dtype] = str(subject(z, t).dtype).removeprefix("torch.")
        except Exception as error:
            found[dtype] = type(error).__name__
    return found


def row_of(entry: Entry) -> dict:
    "One row of the audit's table."
    start = time.perf_counter()
    claim = entry.claim()
    subject = make_subject(claim)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = dtypes_of(subject)
        findings = audit(claim, dtypes=("float32",), checks=entry.asked()).findings
        asked = entry.transforms() if kept["float64"] == "float64" else ()
        if asked:
            findings = findings + audit(claim, dtypes=("float64",), checks=asked).findings
        half = {} if claim.kind != "pointwise" else {d: sixteen(subject, d) for d in ("bfloat16", "float16")}
        found = errors(subject)
    return {
        "peer": entry.peer, "version": release(entry.peer), "loss": entry.loss, "place": place(entry.find()), "formula": entry.formula,
        "gamma": entry.gamma, "alpha": entry.alpha, "dtypes": kept, "jax": entry.checks is JAX,
        "asked": [f.check for f in findings if f.passed is not None],
        "failed": {f.check: f.detail for f in findings if f.passed is False}, **found, "sixteen": half,
        "seconds": round(time.perf_counter() - start, 1),
    }


def quick_of(entry: Entry) -> list:
    "The names of the failed checks among those of numbers, for a look at one row."
    return audit(entry.claim(), dtypes=("float32",), checks=QUICK).failed()


def audited(progress=lambda line: None, wanted=()) -> list:
    "The rows of all entries whose peer is installed."
    rows = []
    for entry in entries():
        if release(entry.peer) is None or (wanted and entry.peer not in wanted):
            continue
        progress(f"{entry.peer}: {entry.loss}" + (f", gamma {entry.gamma:g}" if entry.gamma is not None else ""))
        rows.append(row_of(entry))
    return rows
