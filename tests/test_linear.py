"""Is a linear layer with a loss, taken in pieces, the same as one after the other, and is it small?"""
import copy
import inspect
import math
import pickle
import weakref

import pytest
import torch
import torch.nn.functional as F
from conftest import CLAIMS, each_claim, of_rows, of_sets, pointwise
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import lossbook
from lossbook import linear
from lossbook.linear import FAMILIES, LinearLoss, linear_loss
from lossbook.sets import to_indices

N, D, C = 11, 4, 6
EPS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}


def generator(seed=0): return torch.Generator().manual_seed(seed)


def layer(claim, *batch, classes=C, dtype=torch.float64, seed=0):
    "Input, weight, bias; the outputs are probabilities or similarities where the loss wants them."
    g = generator(seed)
    x, W, b = (torch.randn(s, generator=g, dtype=torch.float64) for s in ((*batch, D), (classes, D), (classes,)))
    if claim.domain == "probs": x, W, b = x.abs().clamp(max=3) / 10, W.abs() / 10, b.abs() / 10
    if claim.domain == "similarity": x, W, b = x / 10, W / 2, b / 10
    return x.to(dtype), W.to(dtype), b.to(dtype)


def targets(claim, *batch, classes=C, dtype=torch.float64, seed=1, soft=False):
    g = generator(seed)
    if of_rows(claim):
        if soft: return torch.softmax(torch.randn(*batch, classes, generator=g, dtype=torch.float64) * 2, -1).to(dtype)
        return torch.randint(0, classes, batch, generator=g)
    if soft: return torch.rand(*batch, classes, generator=g, dtype=torch.float64).to(dtype)
    labels = torch.rand(*batch, classes, generator=g) < 0.4
    if claim.traits.get("indices"): return to_indices(labels)
    return labels.to(dtype) if pointwise(claim) else labels


def needed(claim):
    "The options of the claim, and room for all labels where there is a bound."
    return {**claim.options, **({"max_labels": C} if "max_labels" in claim.options else {})}


def options_of(claim, rows=N, classes=C, dtype=torch.float64):
    "What can be said to a loss about rows and classes: name -> options."
    g, accepted = generator(2), inspect.signature(claim.loss).parameters
    per_row, per_class = (torch.rand(n, generator=g, dtype=torch.float64).to(dtype) for n in (rows, classes))
    keep, grid = torch.rand(rows, generator=g) < 0.6, torch.rand(rows, classes, generator=g) < 0.7
    found = {"nothing": {}}
    if of_rows(claim):
        found |= {"mask": {"mask": keep}, "class weight": {"weight": per_class}, "smoothing": {"label_smoothing": 0.2},
                  "ignored": {"ignore_index": 2}, "all": {"mask": keep, "weight": per_class, "label_smoothing": 0.1, "ignore_index": 1}}
        if "alpha" in accepted: found |= {"alphas": {"alpha": per_class, "gamma": 1.5}, "alpha": {"alpha": 0.5}}
    elif of_sets(claim):
        found |= {"mask": {"mask": grid}, "class mask": {"mask": grid[0]}, "row mask": {"mask": keep[:, None]},
                  "row of masks": {"mask": grid[:1]}, "weight": {"weight": per_row}, "one weight": {"weight": per_row[:1]},
                  "all": {"mask": grid, "weight": per_row}}
        if "threshold" in accepted:
            wide = torch.randn(rows, classes, generator=g, dtype=torch.float64).to(dtype)
            found |= {f"threshold {tuple(t.shape)}": {"threshold": t} for t in (wide, wide[0], wide[:, :1], wide[0, 0])}
            found["threshold"] = {"threshold": 0.7}
    else:
        found |= {"mask": {"mask": grid}, "class weight": {"weight": per_class}, "row weight": {"weight": per_row[:, None]},
                  "smoothing": {"label_smoothing": 0.2}, "all": {"mask": grid, "weight": per_row[:, None] * per_class}}
        if "pos_weight" in accepted: found |= {"pos_weight": {"pos_weight": per_class}, "row pos_weight": {"pos_weight": per_row[:, None]}}
        if "gamma" in accepted: found |= {"gamma": {"gamma": 0.5, "alpha": None}}
    return found


CASES = [(c, name, o) for c in CLAIMS for name, o in options_of(c).items()]
each_case = pytest.mark.parametrize("claim,options", [(c, o) for c, _, o in CASES], ids=[f"{c.name}-{n}" for c, n, _ in CASES])


def both(call, plain, tensors):
    "Value and gradients of two functions of the same tensors, with a gradient from above that is not 1."
    out = []
    for f in (call, plain):
        leaves = [t.detach().clone().requires_grad_() for t in tensors]
        value = f(*leaves)
        up = torch.linspace(1, 2, value.numel(), dtype=torch.float64).reshape(value.shape).to(value.dtype)
        grads = torch.autograd.grad(value, leaves, up, allow_unused=True) if value.requires_grad else [None] * len(leaves)
        out.append([value.detach(), *grads])
    return zip(*out)


def same(got, wanted, room=8.0):
    "Equal up to `room` units in the last place of the largest number of the tensor."
    if wanted is None: assert got is None or not got.any(); return
    assert got.dtype == wanted.dtype and got.shape == wanted.shape
    assert torch.equal(got.isnan(), wanted.isnan())
    if not wanted.numel(): return
    largest = wanted.double().abs().nan_to_num(0).max()
    off = (got.double() - wanted.double()).abs().nan_to_num(0).max()
    assert off <= room * EPS[wanted.dtype] * largest, f"off by {off / largest / EPS[wanted.dtype]:.1f} ulp"


def compare(claim, tensors, target, options, chunk, **how):
    options = {**needed(claim), **options, **how}
    def pieces(x, W, b): return linear_loss(claim.loss, x, W, b, target, chunk=chunk, **options)
    def plain(x, W, b): return claim.loss(F.linear(x, W, b), target, **options)
    for got, wanted in both(pieces, plain, tensors): same(got, wanted)


# -- the same numbers


def test_every_loss_of_the_catalogue_has_a_family():
    "All losses have independent rows; a new one must say which options belong to a row, or why it cannot be here."
    assert set(FAMILIES) == {c.loss for c in CLAIMS}


@each_claim()
def test_every_option_is_known_to_belong_to_rows_or_not(claim):
    shared = {"weight", "alpha"} if of_rows(claim) else set()
    numbers = {"gamma", "alpha", "label_smoothing", "ignore_index", "padding_index", "scale", "margin", "detach_weights",
               "max_labels", "reduction", "normalizer"}
    names = {p.name for p in inspect.signature(claim.loss).parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert names - numbers - shared <= set(FAMILIES[claim.loss].tails), "a new option: say in lossbook.linear whose it is"


@each_case
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_equal_to_one_after_the_other(claim, options, reduction):
    for chunk in (1, 4, None):
        compare(claim, layer(claim, N), targets(claim, N), options, chunk, reduction=reduction)


@each_claim()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_narrower_dtypes(claim, dtype, reduction):
    for options in options_of(claim, dtype=dtype).values():
        compare(claim, layer(claim, N, dtype=dtype), targets(claim, N, dtype=dtype), options, 3, reduction=reduction)


@each_claim(lambda c: of_rows(c) or c.traits.get("soft") or pointwise(c))
def test_soft_targets(claim):
    for options in options_of(claim).values():
        if "ignore_index" not in options:
            compare(claim, layer(claim, N), targets(claim, N, soft=True), options, 4)


@each_claim(of_rows)
def test_integer_one_hot_targets(claim):
    hot = F.one_hot(targets(claim, N), C)
    compare(claim, layer(claim, N), hot, {"weight": torch.rand(C, dtype=torch.float64)}, 4)


@each_case
def test_as_many_rows_as_classes(claim, options):
    "N = C = n: what belongs to a row is told by the loss, not by a number."
    for name, again in options_of(claim, rows=C).items():
        if again.keys() == options.keys(): compare(claim, layer(claim, C), targets(claim, C), again, 4)


@each_claim()
def test_normalizer(claim):
    for normalizer in (3.5, torch.tensor(2.5), torch.tensor(2.5, dtype=torch.float64)):
        compare(claim, layer(claim, N), targets(claim, N), {}, 4, normalizer=normalizer)


@each_claim()
def test_rows_of_several_dimensions(claim):
    x, W, b = layer(claim, 3, 4)
    target = targets(claim, 3, 4)
    for name, options in options_of(claim, rows=12).items():
        lead = {k: FAMILIES[claim.loss].tails.get(k) for k in options}
        options = {**needed(claim), **options}
        split = {k: v.reshape(3, 4, *v.shape[1:]) if torch.is_tensor(v) and lead.get(k) is not None and v.dim() > lead[k] and len(v) == 12 else v
                 for k, v in options.items()}
        for reduction in ("none", "mean"):
            got = linear_loss(claim.loss, x, W, b, target, chunk=5, reduction=reduction, **split)
            flat = claim.loss(F.linear(x.flatten(0, 1), W, b), target.flatten(0, 1), reduction=reduction, **options)
            assert got.shape[:2] == ((3, 4) if reduction == "none" else ())
            same(got, flat.reshape(got.shape))


@each_claim(lambda c: not of_rows(c))
def test_an_option_for_the_last_rows_only(claim):
    "Of rows (3, 4), options for the 4: expanded by the loss, never by us."
    x, W, b = layer(claim, 3, 4)
    keep, weight = torch.rand(4, C, generator=generator()) < 0.7, torch.rand(4, generator=generator(), dtype=torch.float64)
    options = {**needed(claim), "weight": weight if of_sets(claim) else weight[:, None]}
    options |= {"mask": keep} if of_sets(claim) else {}
    target = targets(claim, 3, 4)
    for chunk in (1, 5):
        def pieces(x, W, b): return linear_loss(claim.loss, x, W, b, target, chunk=chunk, **options)
        def plain(x, W, b): return claim.loss(F.linear(x, W, b), target, **options)
        for got, wanted in both(pieces, plain, (x, W, b)): same(got, wanted)


@each_claim()
def test_one_row_and_no_row(claim):
    given = {**needed(claim)}
    x, W, b = layer(claim)
    target = targets(claim)
    same(linear_loss(claim.loss, x, W, b, target, **given), claim.loss(F.linear(x, W, b), target, **given))
    x, W, b = (t.requires_grad_() for t in layer(claim, 0))
    value = linear_loss(claim.loss, x, W, b, targets(claim, 0), chunk=2, **given)
    value.backward()
    assert value == 0 and not W.grad.any() and not b.grad.any() and x.grad.shape == (0, D)


@each_claim()
def test_nothing_that_counts_gives_0(claim):
    x, W, b = (t.requires_grad_() for t in layer(claim, N))
    mask = torch.zeros(N, dtype=torch.bool) if of_rows(claim) else torch.zeros(N, C, dtype=torch.bool)
    value = linear_loss(claim.loss, x, W, b, targets(claim, N), chunk=4, mask=mask, **needed(claim))
    value.backward()
    assert value == 0 and not any(t.grad.any() for t in (x, W, b))


def test_ignored_rows_may_hold_nan():
    claim = next(c for c in CLAIMS if c.name == "cross_entropy")
    x, W, b = layer(claim, N)
    target = targets(claim, N)
    target[3], x[3] = -100, math.nan
    got = linear_loss(claim.loss, x, W, b, target, chunk=4)
    assert got.isfinite()
    same(got, claim.loss(F.linear(x, W, b), target))


# -- derivatives


@each_claim()
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradcheck(claim, reduction):
    options = {**needed(claim), "reduction": reduction}
    if claim.domain == "similarity": options |= {"detach_weights": False, "scale": 4.0}
    target = targets(claim, 5)
    def f(x, W, b): return linear_loss(claim.loss, x, W, b, target, chunk=2, **options)
    tensors = [t.requires_grad_() for t in layer(claim, 5)]
    assert torch.autograd.gradcheck(f, tensors) and torch.autograd.gradgradcheck(f, tensors)


def test_second_derivatives_with_a_mask_for_the_last_rows_only():
    claim = next(c for c in CLAIMS if c.name == "multilabel_cross_entropy")
    target, mask = targets(claim, 2, 3), torch.rand(3, C, generator=generator()) < 0.7
    def f(x, W): return linear_loss(claim.loss, x, W, None, target, chunk=4, mask=mask)
    assert torch.autograd.gradgradcheck(f, [t.requires_grad_() for t in layer(claim, 2, 3)[:2]])


def names(*chosen): return lambda claim: claim.name in chosen


@each_claim(of_rows)
def test_gradients_of_soft_targets_and_class_weights(claim):
    "The mean divides by the weights of the targets, so they have a gradient there too."
    tensors = *layer(claim, N), targets(claim, N, soft=True), torch.rand(C, generator=generator(), dtype=torch.float64) + 0.1
    for reduction in ("mean", "sum", "none"):
        def pieces(x, W, b, y, w): return linear_loss(claim.loss, x, W, b, y, chunk=4, weight=w, reduction=reduction)
        def plain(x, W, b, y, w): return claim.loss(F.linear(x, W, b), y, weight=w, reduction=reduction)
        for got, wanted in both(pieces, plain, tensors): same(got, wanted, 32)


@each_claim(names("multilabel_cross_entropy", "sparse_multilabel_cross_entropy"))
@pytest.mark.parametrize("shape", [(), (C,), (N, 1), (1, C), (N, C)], ids=str)
def test_gradients_of_thresholds_and_row_weights(claim, shape):
    threshold = torch.randn(shape, generator=generator(5), dtype=torch.float64)
    target, weight = targets(claim, N), torch.rand(N, generator=generator(6), dtype=torch.float64)
    for reduction in ("mean", "none"):
        def pieces(x, W, b, t, w): return linear_loss(claim.loss, x, W, b, target, chunk=4, threshold=t, weight=w, reduction=reduction)
        def plain(x, W, b, t, w): return claim.loss(F.linear(x, W, b), target, threshold=t, weight=w, reduction=reduction)
        for got, wanted in both(pieces, plain, (*layer(claim, N), threshold, weight)): same(got, wanted, 32)


def test_a_threshold_for_the_last_rows_only_has_a_gradient():
    claim = next(c for c in CLAIMS if c.name == "multilabel_cross_entropy")
    target, threshold = targets(claim, 3, 4), torch.randn(4, C, generator=generator(), dtype=torch.float64)
    def pieces(x, W, b, t): return linear_loss(claim.loss, x, W, b, target, chunk=5, threshold=t)
    def plain(x, W, b, t): return claim.loss(F.linear(x, W, b), target, threshold=t)
    for got, wanted in both(pieces, plain, (*layer(claim, 3, 4), threshold)): same(got, wanted, 32)


@each_claim(lambda c: of_sets(c) and not (c.traits.get("indices") or c.traits.get("soft")))
def test_a_tensor_that_has_no_derivative_is_refused(claim):
    target = targets(claim, N).double().requires_grad_()
    with pytest.raises(ValueError, match="target: got a tensor that requires grad"):
        linear_loss(claim.loss, *layer(claim, N), target, chunk=4, **needed(claim))


@pytest.mark.parametrize("which", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 0, 0)])
def test_gradients_of_some_only(which):
    claim = CLAIMS[0]
    for reduction in ("mean", "none"):
        tensors = [t.requires_grad_(bool(w)) for t, w in zip(layer(claim, N), which)]
        value = linear_loss(claim.loss, *tensors, targets(claim, N), chunk=4, reduction=reduction)
        wanted = claim.loss(F.linear(*tensors), targets(claim, N), reduction=reduction)
        assert value.requires_grad == any(which)
        if not any(which): continue
        asked = [t for t in tensors if t.requires_grad]
        for a, b in zip(torch.autograd.grad(value.sum(), asked), torch.autograd.grad(wanted.sum(), asked)): same(a, b)


def test_without_a_bias_and_without_grad():
    x, W, _ = layer(CLAIMS[1], N)
    claim, W = next(c for c in CLAIMS if of_rows(c)), W.requires_grad_()
    target = targets(claim, N)
    same(linear_loss(claim.loss, x, W, target=target, chunk=4).detach(), claim.loss(F.linear(x, W), target).detach())
    with torch.no_grad(): assert not linear_loss(claim.loss, x, W, target=target, chunk=4).requires_grad


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_backward_twice_and_after_a_change(reduction):
    claim = next(c for c in CLAIMS if of_rows(c))
    x, W, b = (t.requires_grad_() for t in layer(claim, N))
    value = linear_loss(claim.loss, x, W, b, targets(claim, N), chunk=4, reduction=reduction).sum()
    once = torch.autograd.grad(value, (x, W, b), retain_graph=True)
    for _ in range(2):
        for a, c in zip(once, torch.autograd.grad(value, (x, W, b), retain_graph=True)): same(c, a)
    torch.autograd.grad(value, (x, W, b))
    with pytest.raises(RuntimeError, match="second time"): torch.autograd.grad(value, (x, W, b))
    value = linear_loss(claim.loss, x, W, b, targets(claim, N), chunk=4, reduction=reduction).sum()
    with torch.no_grad(): W += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"): value.backward()


def test_gradients_add_up_to_those_that_are_there():
    claim = next(c for c in CLAIMS if of_rows(c))
    x, W, b = (t.requires_grad_() for t in layer(claim, N))
    for _ in range(2): linear_loss(claim.loss, x, W, b, targets(claim, N), chunk=4).backward()
    twice = torch.autograd.grad(2 * claim.loss(F.linear(x, W, b), targets(claim, N)), (x, W, b))
    for t, wanted in zip((x, W, b), twice): same(t.grad, wanted)


# -- dtypes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_gradients_of_narrow_weights_are_rounded_once(dtype):
    "64 pieces of one row: added up in the dtype of the weight, small contributions would be lost."
    claim = next(c for c in CLAIMS if of_rows(c))
    x, W, b = (t.requires_grad_() for t in layer(claim, 64, dtype=dtype))
    target = targets(claim, 64)
    linear_loss(claim.loss, x, W, b, target, chunk=1).backward()
    X, V, c = (t.detach().double().requires_grad_() for t in (x, W, b))
    claim.loss(F.linear(X, V, c).to(dtype).double(), target).backward()
    for got, wanted in ((W.grad, V.grad), (b.grad, c.grad)): same(got, wanted.to(dtype), 1.0)


def test_a_scaled_float16_loss_keeps_small_gradients():
    "What a gradient scaler is for: the gradients are only rounded to float16 when the scale is in."
    claim = next(c for c in CLAIMS if of_rows(c))
    x, W, b = (t.requires_grad_() for t in layer(claim, 400, dtype=torch.float16))
    W.data *= 3
    target = F.linear(x, W, b).argmax(1)
    mask = torch.arange(400) < 399
    for f in (lambda: linear_loss(claim.loss, x, W, b, target, chunk=50, mask=mask), lambda: claim.loss(F.linear(x, W, b), target, mask=mask)):
        value = f().float() * 2.0**12
        grads = torch.autograd.grad(value, (x, W, b))
        assert all(g.isfinite().all() for g in grads) and (grads[0].abs() > 0).any(1).double().mean() > 0.9


def test_autocast():
    claim = next(c for c in CLAIMS if of_rows(c))
    target = targets(claim, N)
    for mixed in (torch.float32, torch.bfloat16):
        x, W, b = layer(claim, N, dtype=torch.float32)
        tensors = [t.requires_grad_() for t in (x.to(mixed), W, b)]
        for reduction in ("mean", "none"):
            results = []
            for f in (lambda x, W, b: linear_loss(claim.loss, x, W, b, target, chunk=4, reduction=reduction),
                      lambda x, W, b: claim.loss(F.linear(x, W, b), target, reduction=reduction)):
                with torch.autocast("cpu", dtype=torch.bfloat16): value = f(*tensors)
                results.append([value.detach(), *torch.autograd.grad(value.sum(), tensors)])
            for i, (got, wanted) in enumerate(zip(*results)):
                assert got.dtype == wanted.dtype == (torch.float32 if i != 1 else mixed)
                torch.testing.assert_close(got.float(), wanted.float(), rtol=0, atol=(2.0**-22 if not i else 2.0**-7) * wanted.abs().max().item())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tensors = [t.requires_grad_() for t in layer(claim, N)]
        assert linear_loss(claim.loss, *tensors, target, chunk=4).dtype == torch.float64


# -- memory


class Watch(TorchDispatchMode):
    "Counts bytes: the largest tensor that was made, and the most that existed at one time."

    def __init__(self):
        super().__init__()
        self.largest = self.now = self.most = 0
        self.alive = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        old = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if torch.is_tensor(t)}
        for t in tree_leaves(out):
            if not torch.is_tensor(t): continue
            storage = t.untyped_storage()
            if storage._cdata in old or storage._cdata in self.alive: continue
            size = self.alive[storage._cdata] = storage.nbytes()
            self.now += size
            self.largest, self.most = max(self.largest, size), max(self.most, self.now)
            weakref.finalize(storage, self.gone, storage._cdata)
        return out

    def gone(self, key): self.now -= self.alive.pop(key)


ROWS, WIDE = 48, 300  # 4 features: a table of scores is much larger than the weight


def watched(f, tensors):
    for t in tensors: t.grad = None
    with Watch() as watch: f(*tensors).backward()
    return watch


@each_claim(lambda c: c.name not in ("subset_softmax_loss", "bounded_subset_softmax_loss"))
def test_the_table_never_exists(claim):
    "Memory beside the gradients is proportional to chunk * C, and independent of the rows."
    most = {}
    for rows, chunk in ((ROWS, 8), (ROWS, 16), (2 * ROWS, 8)):
        tensors = [t.requires_grad_() for t in layer(claim, rows, classes=WIDE, dtype=torch.float32)]
        target = targets(claim, rows, classes=WIDE, dtype=torch.float32)
        own = sum(t.numel() * 4 for t in tensors)
        def pieces(x, W, b): return linear_loss(claim.loss, x, W, b, target, chunk=chunk, **claim.options)
        watch = watched(pieces, tensors)
        assert watch.largest <= chunk * (WIDE + 1) * 8, "a tensor larger than a piece in float64"
        most[rows, chunk] = watch.most - own
    assert abs(most[ROWS, 16] / most[ROWS, 8] - 2) < 0.1
    assert abs(most[2 * ROWS, 8] / most[ROWS, 8] - 1) < 0.1
    def plain(x, W, b): return claim.loss(F.linear(x, W, b), target, **claim.options)
    watch = watched(plain, tensors)
    assert watch.largest >= 2 * ROWS * WIDE * 4, "the check would not see the whole table"
    assert most[ROWS, 8] / 8 <= 1.3 * watch.most / (2 * ROWS), "a row of a piece costs more than a row of the whole"


@each_claim(names("subset_softmax_loss", "bounded_subset_softmax_loss"))
def test_the_table_of_subsets_never_exists(claim):
    tensors = [t.requires_grad_() for t in layer(claim, 48, classes=60, dtype=torch.float32)]
    target = torch.zeros(48, 60, dtype=torch.bool).scatter(1, torch.arange(48)[:, None], True)
    def pieces(x, W, b): return linear_loss(claim.loss, x, W, b, target, chunk=2, max_labels=3)
    def plain(x, W, b): return claim.loss(F.linear(x, W, b), target, max_labels=3)
    small, large = (watched(f, tensors) for f in (pieces, plain))
    assert small.largest * 16 <= large.largest and small.most * 10 <= large.most


def test_losses_of_rows_do_not_keep_the_table_either():
    claim = next(c for c in CLAIMS if of_rows(c))
    tensors = [t.requires_grad_() for t in layer(claim, ROWS, classes=WIDE, dtype=torch.float32)]
    target = targets(claim, ROWS, classes=WIDE)
    watch = watched(lambda x, W, b: linear_loss(claim.loss, x, W, b, target, chunk=8, reduction="none").mean(), tensors)
    assert watch.largest <= 8 * WIDE * 8


def test_masks_for_the_last_rows_only_are_not_expanded():
    claim = next(c for c in CLAIMS if c.name == "multilabel_cross_entropy")
    x, W, b = (t.requires_grad_() for t in layer(claim, 20, 12, classes=WIDE, dtype=torch.float32))
    target, mask = targets(claim, 20, 12, classes=WIDE), torch.rand(12, WIDE, generator=generator()) < 0.5
    watch = watched(lambda x, W, b: linear_loss(claim.loss, x, W, b, target, chunk=8, mask=mask), (x, W, b))
    assert watch.largest <= 8 * WIDE * 8


def test_the_default_piece():
    def rows(features, classes): return linear.check_chunk(None, torch.empty(classes, features, device="meta"))
    assert rows(768, 50257) == 96 and rows(4096, 128256) == 512 and rows(16, 1000) == 4194 and rows(4, 2**23) == 1


# -- broken variants are seen


def by_size(value, batch, tail):
    "What belongs to a row, guessed from the first size."
    return value, int(value.dim() > 0 and value.shape[0] == math.prod(batch))


def test_rows_told_by_their_number_are_rejected(monkeypatch):
    claim = next(c for c in CLAIMS if c.name == "cross_entropy")
    options = {"weight": torch.rand(C, generator=generator(), dtype=torch.float64)}
    compare(claim, layer(claim, C), targets(claim, C), options, 4)
    monkeypatch.setattr(linear, "by_row", by_size)
    with pytest.raises((AssertionError, ValueError)): compare(claim, layer(claim, C), targets(claim, C), options, 4)


@each_claim(names("cross_entropy", "binary_cross_entropy_with_logits", "multilabel_cross_entropy"))
def test_the_mean_of_the_means_is_rejected(claim):
    "It is right for pieces of one size in which all counts, and wrong as soon as something is masked."
    target, keep = targets(claim, 12), torch.ones(12, C, dtype=torch.bool)
    def means(x, W, b):
        return sum(claim.loss(F.linear(p, W, b), t, mask=k) for p, t, k in zip(x.split(4), target.split(4), mask.split(4))) / 3
    for wrong in (False, True):
        keep[:3] = not wrong
        mask = keep[:, 0] if of_rows(claim) else keep
        def pieces(x, W, b): return linear_loss(claim.loss, x, W, b, target, chunk=4, mask=mask)
        results = list(both(means, pieces, layer(claim, 12)))
        if not wrong:
            for got, wanted in results: same(got, wanted)
        for got, wanted in results if wrong else ():
            with pytest.raises(AssertionError): same(got, wanted)


def test_adding_up_in_the_narrow_dtype_is_rejected(monkeypatch):
    real = linear.add_outer
    def rounding(slope, g, x):
        real(slope, g, x)
        slope.copy_(slope.to(g.dtype))
    monkeypatch.setattr(linear, "add_outer", rounding)
    with pytest.raises(AssertionError): test_gradients_of_narrow_weights_are_rounded_once(torch.bfloat16)


def test_a_lost_last_piece_is_rejected(monkeypatch):
    real = linear.Pieces.cut
    claim = next(c for c in CLAIMS if c.name == "cross_entropy")
    monkeypatch.setattr(linear.Pieces, "cut", lambda self, *tensors: list(real(self, *tensors))[:-1])
    with pytest.raises(AssertionError): compare(claim, layer(claim, N), targets(claim, N), {}, 4, reduction="sum")


def test_a_table_that_exists_is_rejected(monkeypatch):
    monkeypatch.setattr(linear, "check_chunk", lambda chunk, weight: 10**6)
    with pytest.raises(AssertionError, match="larger than a piece"): test_the_table_never_exists(CLAIMS[0])


# -- transforms


SOME = names("cross_entropy", "softmax_focal_loss", "binary_cross_entropy_with_logits", "multilabel_cross_entropy", "sparse_multilabel_cross_entropy")


@each_claim(SOME)
def test_transforms_of_torch_func(claim):
    x, W, b = layer(claim, N)
    target = targets(claim, N)
    def pieces(x, W, b): return linear_loss(claim.loss, x, W, b, target, chunk=4, **claim.options)
    def plain(x, W, b): return claim.loss(F.linear(x, W, b), target, **claim.options)
    for a, c in zip(torch.func.grad(pieces, (0, 1, 2))(x, W, b), torch.func.grad(plain, (0, 1, 2))(x, W, b)): same(a, c)
    tangents = tuple(torch.ones_like(t) for t in (x, W, b))
    for a, c in zip(torch.func.jvp(pieces, (x, W, b), tangents), torch.func.jvp(plain, (x, W, b), tangents)): same(a, c)
    same(torch.func.hessian(pieces, 2)(x, W, b), torch.func.hessian(plain, 2)(x, W, b), 64)
    def one(x, t): return linear_loss(claim.loss, x, W, b, t, chunk=1, **claim.options)
    each = torch.vmap(torch.func.grad(one))(x, target)
    wanted = torch.stack([torch.func.grad(one)(v, t) for v, t in zip(x, target)])
    same(each, wanted)


def test_forward_mode():
    from torch.autograd import forward_ad
    claim = next(c for c in CLAIMS if of_rows(c))
    x, W, b = layer(claim, N)
    target = targets(claim, N)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        got, wanted = (forward_ad.unpack_dual(f).tangent for f in (
            linear_loss(claim.loss, dual, W, b, target, chunk=4), claim.loss(F.linear(dual, W, b), target)))
    same(got, wanted)


def test_meta_and_fake_tensors():
    from torch._subclasses.fake_tensor import FakeTensorMode
    claim = next(c for c in CLAIMS if of_rows(c))
    tensors = *layer(claim, N), targets(claim, N)
    assert linear_loss(claim.loss, *(t.to("meta") for t in tensors), chunk=4).is_meta
    with FakeTensorMode() as mode:
        assert linear_loss(claim.loss, *(mode.from_tensor(t) for t in tensors), chunk=4).shape == ()


@each_claim(names("cross_entropy", "multilabel_cross_entropy"))
def test_compile(claim):
    "Pieces break the graph and stay pieces; one piece is the composition and compiles whole."
    x, W, b = layer(claim, N, dtype=torch.float32)
    target = targets(claim, N)
    def model(x, W, b, chunk): return linear_loss(claim.loss, x.sin(), W, b, target, chunk=chunk) * 3
    for chunk, whole in ((4, False), (N, True)):
        torch._dynamo.reset()
        compiled = torch.compile(model, backend="aot_eager", fullgraph=whole)
        for got, wanted in both(lambda *t: compiled(*t, chunk), lambda *t: model(*t, chunk), (x, W, b)): same(got, wanted)
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported): torch.compile(model, backend="aot_eager", fullgraph=True)(x, W, b, 4)
    torch._dynamo.reset()


def test_compile_keeps_the_pieces(monkeypatch):
    claim, seen, real = next(c for c in CLAIMS if of_rows(c)), [], linear.Pieces.scores
    monkeypatch.setattr(linear.Pieces, "scores", lambda self, x, w, b: (seen.append(len(x)), real(self, x, w, b))[1])
    x, W, b = layer(claim, N, dtype=torch.float32)
    target = targets(claim, N)
    torch._dynamo.reset()
    torch.compile(lambda x: linear_loss(claim.loss, x, W, b, target, chunk=4), backend="aot_eager")(x)
    torch._dynamo.reset()
    assert seen == [4, 4, 3]


def test_export():
    claim = next(c for c in CLAIMS if of_rows(c))
    class Model(torch.nn.Module):
        def forward(self, x, W, target): return linear_loss(lossbook.cross_entropy, x, W, None, target, chunk=4)
    x, W, _ = layer(claim, N, dtype=torch.float32)
    target = targets(claim, N)
    program = torch.export.export(Model(), (x, W, target))
    same(program.module()(x, W, target), linear_loss(lossbook.cross_entropy, x, W, None, target))


# -- torch's own, arguments, module


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_same_as_pytorch_where_it_has_one(reduction):
    claim = next(c for c in CLAIMS if c.name == "cross_entropy")
    target, weight = targets(claim, N), torch.rand(C, generator=generator(), dtype=torch.float64)
    target[2] = -100
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=4, chunking_method=None)
    def ours(x, W): return linear_loss(lossbook.cross_entropy, x, W, None, target, chunk=4, weight=weight, reduction=reduction)
    def torchs(x, W): return F.linear_cross_entropy(x, W, target, weight=weight, reduction=reduction, options=options)
    for got, wanted in both(ours, torchs, layer(claim, N)[:2]): same(got, wanted, 16)


X, V, T = torch.zeros(7, 3), torch.zeros(5, 3), torch.zeros(7, dtype=torch.int64)
ML, BCE = lossbook.multilabel_cross_entropy, lossbook.binary_cross_entropy_with_logits
REFUSED = {
    "another loss": ((F.cross_entropy, X, V), {"target": T}, ValueError, "loss: got cross_entropy, expected one of binary_cross_entropy,"),
    "no loss": ((3, X, V), {"target": T}, ValueError, "loss: got int"),
    "a list": ((ML, [0.0], V), {"target": T}, TypeError, "input: got list"),
    "integers": ((ML, X.long(), V), {"target": T}, TypeError, "input: got dtype torch.int64"),
    "no features": ((ML, X[0, 0], V), {"target": T}, ValueError, "input: got shape ()"),
    "a weight of other features": ((ML, X, V[:, :2]), {"target": T}, ValueError, "weight: got shape (5, 2), expected (C, 3)"),
    "a weight on its side": ((ML, X, V.t()), {"target": T}, ValueError, "weight: got shape (3, 5), expected (C, 3)"),
    "a weight of another dtype": ((ML, X, V.double()), {"target": T}, TypeError, "weight: got dtype torch.float64, expected torch.float32"),
    "a weight elsewhere": ((ML, X, V.to("meta")), {"target": T}, ValueError, "weight: got a tensor on meta"),
    "a bias of another shape": ((ML, X, V, V[0]), {"target": T}, ValueError, "bias: got shape (3,), expected (5,)"),
    "no target": ((ML, X, V), {}, TypeError, "target: got NoneType, expected a tensor"),
    "fewer targets": ((lossbook.cross_entropy, X, V), {"target": T[:6]}, ValueError, "target: got shape (6,), expected (7,) (class indices) or (7, 5)"),
    "one target for all": ((lossbook.cross_entropy, X, V), {"target": T[:1]}, ValueError, "target: got shape (1,)"),
    "labels of one row": ((ML, X, V), {"target": torch.zeros(1, 5)}, ValueError, "target: got shape (1, 5), expected (7, 5)"),
    "indices of one row": ((lossbook.sparse_multilabel_cross_entropy, X, V), {"target": torch.zeros(1, 2).long()}, ValueError, "target: got shape (1, 2), expected (7, m)"),
    "a class too much": ((lossbook.cross_entropy, X, V), {"target": T + 5}, ValueError, "target: got the value 5, expected values in [0, 4]"),
    "a mask for one row": ((lossbook.cross_entropy, X, V), {"target": T, "mask": T[:1] == 0}, ValueError, "mask: got shape (1,), expected (7,)"),
    "a mask of a row": ((BCE, X, V), {"target": torch.zeros(7, 5), "mask": torch.zeros(1, 5) == 0}, ValueError, "mask: got shape (1, 5), expected (7, 5)"),
    "a float mask": ((BCE, X, V), {"target": torch.zeros(7, 5), "mask": torch.zeros(7, 5)}, TypeError, "mask: got dtype torch.float32"),
    "row weights for a softmax": ((lossbook.cross_entropy, X, V), {"target": T, "weight": torch.ones(7)}, ValueError, "weight: got shape (7,), expected (5,)"),
    "class weights for sets": ((ML, X, V), {"target": torch.zeros(7, 5), "weight": torch.ones(5)}, ValueError, "weight: got shape (5,), expected one that broadcasts to (7,)"),
    "six thresholds": ((ML, X, V), {"target": torch.zeros(7, 5), "threshold": torch.ones(6)}, ValueError, "threshold: got shape (6,)"),
    "no rows in a piece": ((ML, X, V), {"target": torch.zeros(7, 5), "chunk": 0}, ValueError, "chunk: got 0"),
    "half a row": ((ML, X, V), {"target": torch.zeros(7, 5), "chunk": 1.5}, TypeError, "chunk: got float"),
    "an unknown option": ((ML, X, V), {"target": torch.zeros(7, 5), "gamma": 2}, TypeError, "gamma"),
    "an unknown reduction": ((ML, X, V), {"target": torch.zeros(7, 5), "reduction": "average"}, ValueError, "reduction: got 'average'"),
    "a normaliser with a sum": ((ML, X, V), {"target": torch.zeros(7, 5), "reduction": "sum", "normalizer": 2.0}, ValueError, "normalizer: got one"),
    "a trainable normaliser": ((ML, X, V), {"target": torch.zeros(7, 5), "normalizer": torch.ones((), requires_grad=True)}, ValueError, "normalizer: got a tensor that requires grad"),
    "the weight by name": ((ML, X), {"weight": V, "target": T}, TypeError, "weight"),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("chunk", [2, 100])
def test_refused(what, chunk):
    given, options, kind, words = REFUSED[what]
    with pytest.raises(kind) as error: linear_loss(*given, **{"chunk": chunk, **options})
    assert words in str(error.value)


def test_inputs_are_not_changed():
    claim = next(c for c in CLAIMS if c.name == "multilabel_cross_entropy")
    tensors = *layer(claim, N), targets(claim, N)
    before = [t.clone() for t in tensors]
    for t in tensors[:3]: t.requires_grad_()
    linear_loss(claim.loss, *tensors, chunk=4, mask=tensors[3] | True).backward()
    assert all(torch.equal(a, b) for a, b in zip(before, tensors))


@each_claim()
def test_module(claim):
    loss = claim.module(**needed(claim), reduction="sum")
    head = LinearLoss(loss, D, C, bias=True, chunk=4, dtype=torch.float64)
    x, W, b = layer(claim, N)
    head.linear.load_state_dict({"weight": W, "bias": b})
    target = targets(claim, N)
    wanted = claim.loss(F.linear(x, W, b), target, reduction="sum", **needed(claim))
    for one in (head, copy.deepcopy(head), pickle.loads(pickle.dumps(head))): same(one(x, target).detach(), wanted)
    same(linear_loss(loss, x, W, b, target, chunk=4), wanted)
    assert {"linear.weight", "linear.bias"} <= set(head.state_dict()) and "chunk=4" in repr(head)
    head(x, target).backward()
    assert head.linear.weight.grad is not None and head.linear.bias.grad is not None


def test_module_options_and_calls():
    weight, mask = torch.rand(C), torch.arange(N) < 8
    head = LinearLoss(lossbook.CrossEntropyLoss(weight=weight), D, C, chunk=4)
    x, target = torch.randn(N, D, generator=generator()), torch.arange(N) % C
    wanted = lossbook.cross_entropy(head.linear(x), target, weight=weight, mask=mask, normalizer=3.0)
    same(head(x, target, mask=mask, normalizer=3.0).detach(), wanted.detach())
    assert head.linear.bias is None and head.to(torch.float64).loss.weight.dtype == torch.float64
    table = torch.nn.Embedding(C, D)
    head = LinearLoss(lossbook.CrossEntropyLoss(), D, C, chunk=4)
    head.linear.weight = table.weight
    head(x, target).backward()
    assert table.weight.grad.abs().sum() > 0


def test_a_module_with_a_learned_threshold():
    loss = lossbook.MultilabelCrossEntropyLoss(threshold=torch.nn.Parameter(torch.zeros(C)))
    head = LinearLoss(loss, D, C, chunk=4)
    head(torch.randn(N, D), torch.rand(N, C) < 0.4).backward()
    assert len(list(head.parameters())) == 2 and loss.threshold.grad.abs().min() > 0


def test_module_refuses():
    with pytest.raises(TypeError, match="loss: got cross_entropy, expected a loss module"): LinearLoss(lossbook.cross_entropy, D, C)
    with pytest.raises(ValueError, match="chunk: got 0"): LinearLoss(lossbook.CrossEntropyLoss(), D, C, chunk=0)
