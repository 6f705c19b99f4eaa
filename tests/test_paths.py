"""Every loss can be computed in more than one way: by its kernel, by its composition, compiled. Each way keeps the promises."""
import contextlib
import inspect
import itertools
import random
import warnings

import pytest
import torch

import lossbook.fused as fused
from conftest import CLAIMS, DTYPES, each_claim, make_inputs, of_rows, of_sets, subject_of
from lossbook.audit import measure
from lossbook.bench import allocations
from lossbook.cross_entropy import cross_entropy
from lossbook.exact import ulp_error
from lossbook.focal import _minus_weight, claim_for, sigmoid_focal_loss, softmax_claim_for, softmax_focal_loss

WITH_KERNEL = {"binary_cross_entropy_with_logits", "sigmoid_focal_loss", "cross_entropy", "softmax_focal_loss",
               "multilabel_cross_entropy", "sparse_multilabel_cross_entropy"}
kernels = each_claim(lambda c: c.name in WITH_KERNEL)


def test_every_fused_loss_is_tested():
    "Each kernel of the package belongs to one of these losses."
    used = {f.kernel.__module__.split(".")[1] for f in fused._known.values()}
    assert used == {"bce", "focal", "cross_entropy", "multilabel"} and len(fused._known) == 7


@pytest.fixture
def calls(monkeypatch):
    "Counts what is really called: kernels, in pieces or as a loop over all rows, and compositions."
    count = {"kernel": 0, "compose": 0}
    for loss in fused._known.values():
        for name, as_ in (("kernel", "kernel"), ("loop", "kernel"), ("compose", "compose")):
            if getattr(loss, name) is None: continue
            def counted(*args, of=getattr(loss, name), as_=as_):
                count[as_] += 1
                return of(*args)
            monkeypatch.setattr(loss, name, counted)
    return count


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@kernels
def test_plain_code_takes_the_kernel(claim, dtype, reduction, calls):
    first, target = make_inputs(claim, 40, dtype=getattr(torch, dtype))
    first.requires_grad_()
    claim.loss(first, target, reduction=reduction, **claim.options).sum().backward()
    assert calls["kernel"] and not calls["compose"]
    calls["kernel"] = 0
    with fused.composition(): claim.loss(first, target, reduction=reduction, **claim.options).sum().backward()
    assert calls["compose"] and not calls["kernel"]


@pytest.mark.parametrize("dtype", DTYPES)
@kernels
def test_composition_keeps_the_promise(claim, dtype):
    "The kernels are measured by test_values; here the way that other devices and transforms take."
    if of_sets(claim) and dtype != "float32": pytest.skip("losses of sets compute in float64 in every dtype: float32 stands for all")
    with fused.composition(): found = measure(subject_of(claim), dtype)
    for what, allowed in zip(("value", "gradient"), claim.promise[dtype]):
        for case, result in found[what].items():
            assert result["worst"] <= allowed, f"{what}, {case}: {result['worst']} ulp, promised {allowed}"
            assert not result["zeros"] and not result["broken"], f"{what}, {case}: {result}"


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 1.5, 2.0, 2.25, 3.0, 5.0, 8.5])
@pytest.mark.parametrize("make", [claim_for, softmax_claim_for])
def test_kernels_at_any_gamma(make, gamma):
    claim = make(gamma)
    found = measure(subject_of(claim), "float32")
    for what, allowed in zip(("value", "gradient"), claim.promise["float32"]):
        assert max(r["worst"] for r in found[what].values()) <= allowed
        assert not any(r["zeros"] or r["broken"] for r in found[what].values())


@kernels
def test_ways_agree_on_infinite_and_far_scores(claim):
    "What a kernel declines, one piece of many, comes from the composition: all pieces give what it gives alone."
    first, target = make_inputs(claim, 64, dtype=torch.float32)
    flat = first.view(-1)
    flat[3], flat[70 % flat.numel()], flat[-2] = float("inf"), -float("inf"), 3e38
    found = []
    for size, context in ((5, None), (1 << 17, None), (1 << 17, fused.composition())):
        leaf = first.clone().requires_grad_()
        before, fused.PIECE = fused.PIECE, size
        try:
            if context: context.__enter__()
            value = claim.loss(leaf, target, reduction="none", **claim.options)
            value[value.isfinite()].sum().backward()
        finally:
            if context: context.__exit__(None, None, None)
            fused.PIECE = before
        found.append((value.detach(), leaf.grad))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=2e-6, atol=1e-37, equal_nan=True)


@pytest.mark.parametrize("score", [float("inf"), 200.0, -200.0])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@kernels
def test_an_example_does_not_depend_on_its_neighbours(claim, dtype, score):
    "Beside an example that a kernel leaves to the composition, or does in float64, the others get, bit by bit, what they get without it."
    first, target = make_inputs(claim, 64, dtype=getattr(torch, dtype))
    spoilt = first.clone()
    spoilt[5] = score if claim.kind != "pointwise" else -abs(score)
    results = []
    for values in (first, spoilt):
        leaf = values.clone().requires_grad_()
        value = claim.loss(leaf, target, reduction="none", **claim.options)
        keep = torch.arange(64) != 5
        value[keep].sum().backward()
        results.append((value.detach()[keep], leaf.grad[keep]))
    torch.testing.assert_close(*results, rtol=0, atol=0)


def rows_at(scale: float, C: int) -> tuple:
    "Rows of scores of one size, some with a tie at the top, some with a class that is not there; and a class for each."
    generator = torch.Generator().manual_seed(C)
    x = (torch.rand(2000, C, generator=generator) * 2 - 1) * scale
    x[::7, 0] = x[::7, 1]
    x[::11, -1] = -float("inf")
    return x, torch.randint(0, C - 1, (2000,), generator=generator) if C > 2 else torch.zeros(2000, dtype=torch.int64)


@pytest.mark.parametrize("C", [2, 3, 50, 300, 301])
@pytest.mark.parametrize("scale", [1.0, 60.0, 88.0, 100.0, 600.0, 1e4, 3e38])
def test_kernels_of_rows_at_any_scale(scale, C):
    "In float32, and where that ends; against the composition in float64, whose errors do not count here."
    x, index = rows_at(scale, C)
    promises = [(0.0, claim) for claim in CLAIMS if claim.name == "cross_entropy"] + [(g, softmax_claim_for(g)) for g in (0.5, 2.0)]
    for gamma, claim in promises:
        results = []
        for kind, context in ((torch.float32, contextlib.nullcontext()), (torch.float64, fused.composition())):
            leaf = x.to(kind).requires_grad_()
            with context:
                value = claim.loss(leaf, index, reduction="none", **claim.options)
                results.append((value, torch.autograd.grad(value.sum(), leaf)[0]))
        for got, exact, allowed in zip(*results, claim.promise["float32"]):
            exact = exact.detach().numpy()
            assert ulp_error(got.detach(), exact, "float32").max() <= allowed, (claim.name, gamma)


@pytest.mark.parametrize("scale", [1.0, 100.0, 600.0])
def test_a_soft_row_costs_the_mixture_of_its_classes(scale):
    "Kernel of soft targets against kernel of indices; a one-hot row gives what its index gives, bit by bit."
    x, index = rows_at(scale, 4)
    kept = x > -float("inf")
    soft = torch.where(kept, torch.rand(x.shape, generator=torch.Generator().manual_seed(1)), 0.0)
    soft = soft / soft.sum(1, keepdim=True)
    soft[::5] = torch.nn.functional.one_hot(index[::5], 4).float()
    by_class = torch.stack([cross_entropy(x, torch.full((2000,), c), reduction="none") for c in range(4)], 1)
    found = cross_entropy(x, soft, reduction="none")
    torch.testing.assert_close(found[::5], by_class.gather(1, index[:, None])[::5, 0], rtol=2**-23, atol=0)
    mixture = torch.where(kept & (soft > 0), soft.double() * by_class.double(), 0.0).sum(1)
    torch.testing.assert_close(found.double(), mixture, rtol=1e-6, atol=0)


@pytest.mark.parametrize("gamma", [0.0, 0.01, 0.5, 2.0])
def test_float64_rows_that_are_far_apart(gamma):
    "From 355 on the square of 1 - p is 0 in float64: derivatives of first and second order are numbers all the same."
    for gap in (300.0, 356.0, 500.0, 700.0, 740.0, 1500.0):
        for sign in (1, -1):
            x = torch.tensor([[sign * gap, 0.0, -1.0]], dtype=torch.float64)
            loss = lambda z: softmax_focal_loss(z, torch.tensor([0]), gamma=gamma, reduction="sum")
            slope, second = torch.func.grad(loss)(x), torch.func.hessian(loss)(x)
            assert slope.isfinite().all() and second.isfinite().all(), gap
            if gap < 700 / (1 + gamma): assert (slope != 0).all() if sign > 0 else slope[0, 0] != 0, gap


@kernels
def test_the_number_of_threads_does_not_matter(claim):
    "More threads make larger pieces; each example gets the same, bit by bit."
    first, target = make_inputs(claim, 70_000, dtype=torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            leaf = first.clone().requires_grad_()
            value = claim.loss(leaf, target, reduction="none", **claim.options)
            value.sum().backward()
            results.append((value.detach(), leaf.grad))
    finally: torch.set_num_threads(before)
    torch.testing.assert_close(*results, rtol=0, atol=0)


@kernels
def test_new_memory_for_the_backward_pass(claim):
    "At most the logits once more: nothing else that does not share memory with an argument."
    first, target = make_inputs(claim, 1000, dtype=torch.float32)
    first.requires_grad_()
    own = {first.untyped_storage().data_ptr(), target.untyped_storage().data_ptr()}
    kept = {}
    def keep(t):
        if t.untyped_storage().data_ptr() not in own: kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t): claim.loss(first, target, **claim.options)
    small = target.numel() * 9 if claim.kind in ("softmax", "sparse") else 64  # class numbers as they are used, and which are none
    assert sum(kept.values()) <= first.numel() * 4 + small


@kernels
def test_compiled_code_without_checks_of_values(claim):
    "The compiled way gives what the eager way gives, for infinite and far scores too."
    call = fused.compiled(claim.loss)
    first, target = make_inputs(claim, 30, dtype=torch.float32)
    far = first.clone()
    far.view(-1)[[3, 77 % far.numel(), -2, 11]] = torch.tensor([torch.inf, -torch.inf, 3e38, -200.0])
    for values in (first, far):
        results = []
        for way in (claim.loss, call):
            leaf = values.clone().requires_grad_()
            value = way(leaf, target, reduction="none", **claim.options)
            value[value.isfinite()].sum().backward()
            results.append((value.detach(), leaf.grad))
        torch.testing.assert_close(*results, rtol=4e-6, atol=1e-37, equal_nan=True)


@kernels
def test_compiled_code_for_other_shapes_and_arguments(claim):
    "The same compiled loss is called with and without a gradient, a mask, a reduction, and with other sizes."
    torch._dynamo.reset()  # of one function no more than eight forms are compiled in a process
    call = fused.compiled(claim.loss, backend="eager")
    for n, (grad, masked, reduction) in enumerate(itertools.product((False, True), (False, True), ("mean", "none"))):
        first, target = make_inputs(claim, 4 + n % 3, dtype=torch.float32, seed=n)
        more = {"mask": torch.arange(target.shape[0]) != 1} if masked else {}
        if of_sets(claim): more = {k: m.unsqueeze(-1).expand(first.shape) for k, m in more.items()}
        elif masked and target.dim() > 1: more["mask"] = more["mask"].unsqueeze(-1).expand(target.shape)
        results = []
        if claim.traits.get("indices") and masked: target[1] = -1  # no label where no class counts
        for way in (claim.loss, call):
            leaf = first.clone().requires_grad_(grad)
            value = way(leaf, target, reduction=reduction, **claim.options, **more)
            if grad: value.sum().backward()
            results.append((value.detach(), leaf.grad))
        torch.testing.assert_close(*results, rtol=4e-6, atol=1e-37)


IN_ONE_PASS = {"cross_entropy", "softmax_focal_loss", "multilabel_cross_entropy"}
once = each_claim(lambda c: c.name in IN_ONE_PASS)


def taken(call, *args, **options):
    "What a call gives, its gradient in the first argument, and the ways that it took."
    leaf = args[0].clone().requires_grad_()
    with fused.ways() as found: value = call(leaf, *args[1:], **options)
    return value.detach(), torch.autograd.grad(value.sum(), leaf)[0], set(found)


@once
def test_compiled_serves_losses_of_rows_in_one_pass(claim):
    "Functions and modules, every reduction, other sizes; what it cannot serve is compiled as a graph and takes no kernel."
    module = claim.module(**claim.options)
    for n, reduction in enumerate(("mean", "sum", "none")):
        first, target = make_inputs(claim, 20 + n, dtype=torch.float32, seed=n)
        options = {**claim.options, "reduction": reduction}
        wanted = taken(claim.loss, first, target, **options)
        got = taken(fused.compiled(claim.loss), first, target, **options)
        assert got[2] == {"one pass"} and wanted[2] == {"kernel"}
        torch.testing.assert_close(got[:2], wanted[:2], rtol=4e-6, atol=1e-37)
    assert taken(fused.compiled(module), first, target)[2] == {"one pass"}
    for kind in (torch.float64, torch.bfloat16):
        call = fused.compiled(claim.loss, backend="eager")
        for _ in range(2): assert "one pass" not in taken(call, first.to(kind), target, **claim.options)[2]


@pytest.mark.parametrize("claim", [c for c in CLAIMS if c.name in WITH_KERNEL] + [claim_for(g) for g in (0.0, 0.5, 1.0, 5.0)],
                         ids=lambda c: f"{c.name} {c.options}")
def test_compiled_losses_keep_the_promise(claim):
    "In one pass or as a graph; a sigmoid focal loss has a closed form of its own there."
    found = measure(subject_of(claim), "float32", loss=fused.compiled(claim.loss))
    for what, allowed in zip(("value", "gradient"), claim.promise["float32"]):
        for case, result in found[what].items():
            assert result["worst"] <= allowed and not result["zeros"] and not result["broken"], (what, case, result)


@once
def test_one_pass_leaves_what_is_out_of_range_to_the_kernel(claim):
    "Far and infinite scores beside others, in rows and in an image; the others get, bit by bit, what they get without them."
    call, options = fused.compiled(claim.loss), {**claim.options, "reduction": "none"}
    first, target = make_inputs(claim, 64, dtype=torch.float32)
    spoilt = first.clone()
    for row, score in ((5, 200.0), (9, float("inf")), (17, -float("inf")), (23, 3e38), (40, -100.0)): spoilt[row] = score
    spoilt[31] -= 300
    keep = torch.ones(64, dtype=torch.bool)
    keep[[5, 9, 17, 23, 31, 40]] = False
    clean, found, wanted = (taken(f, x, target, **options) for f, x in ((call, first), (call, spoilt), (claim.loss, spoilt)))
    torch.testing.assert_close([t[keep] for t in found[:2]], [t[keep] for t in clean[:2]], rtol=0, atol=0)
    torch.testing.assert_close(found[:2], wanted[:2], rtol=4e-6, atol=1e-37, equal_nan=True)
    spoilt[[9, 17, 23]] = first[[9, 17, 23]]
    means = [taken(f, spoilt, target, **claim.options)[:2] for f in (call, claim.loss)]
    torch.testing.assert_close(*means, rtol=4e-6, atol=1e-37)
    if of_sets(claim): return
    images = [spoilt.view(4, 16, -1).movedim(-1, 1).contiguous(), target.view(4, 16)]
    found, wanted = (taken(f, *images, **options) for f in (call, claim.loss))
    assert found[2] == {"one pass"}
    torch.testing.assert_close(found[:2], wanted[:2], rtol=4e-6, atol=1e-37, equal_nan=True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["cross_entropy", "softmax_focal_loss"])
def test_rows_out_of_range_lie_in_several_pieces(name, dtype, monkeypatch):
    "In pieces of a few rows, in rows and in an image: what the composition gives, and the others bit by bit what they get without them."
    claim = next(c for c in CLAIMS if c.name == name)
    monkeypatch.setattr(fused, "PIECE", 60)
    first, target = make_inputs(claim, 64, dtype=torch.float32)
    first, spoilt = first.to(getattr(torch, dtype)), first.to(getattr(torch, dtype))
    bad = [5, 9, 17, 40, 41, 42, 43, 63]
    for row, score in zip(bad[:3], (200.0, float("inf"), -float("inf"))): spoilt[row, 0] = score
    spoilt[bad[3:]] -= 300
    weights = torch.linspace(-2, 3, 64)

    def slopes(x, target, weights):
        leaf = x.detach().requires_grad_()
        value = claim.loss(leaf, target, reduction="none", **claim.options)
        of = torch.autograd.grad((value * weights).sum(), leaf)[0]
        return value.detach(), of.movedim(1, -1).reshape(64, -1)

    with fused.ways() as seen: clean, found = slopes(first, target, weights), slopes(spoilt, target, weights)
    assert seen == {"kernel"}
    keep = torch.ones(64, dtype=torch.bool)
    keep[bad] = False
    torch.testing.assert_close([t[keep] for t in found], [t[keep] for t in clean], rtol=0, atol=0)
    with fused.composition(): wanted = slopes(spoilt, target, weights)
    near = {"rtol": 4e-6 if dtype == "float32" else 8e-3, "atol": 1e-37, "equal_nan": True}
    torch.testing.assert_close(found, wanted, **near)
    value, of = slopes(spoilt.view(4, 16, -1).movedim(-1, 1), target.view(4, 16), weights.view(4, 16))
    torch.testing.assert_close((value.view(64), of), found, **near)


@each_claim(lambda c: not of_rows(c) and not c.traits.get("indices"))
def test_minus_zero_is_the_label_zero(claim):
    "Labels are searched by their bits, and -0 has one."
    first, target = make_inputs(claim, 64, dtype=torch.float32)
    first, target, found = first.requires_grad_(), target.float(), []
    for labels in (target, torch.where(target == 0, -0.0, target)):
        loss = claim.loss(first, labels, reduction="none", **claim.options)
        found.append((loss, *torch.autograd.grad(loss.sum(), first)))
    assert labels.signbit().any()
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_weights_of_labels_lose_no_digit():
    "Most pairs take one pass, some cannot; both give the two numbers to the last bit."
    y, ways, draw = torch.tensor([0.0, 1.0]), set(), random.Random(0)
    for _ in range(5000):
        for_1, for_0 = (draw.choice((0.0, 1.0, draw.random(), 10 ** draw.uniform(-6, 4))) for _ in range(2))
        start, end = -torch.tensor([for_0, for_1])
        ways.add(bool(start + (end - start) == end))
        assert torch.equal(_minus_weight(y, for_1, for_0, torch.empty(2)), -torch.tensor([for_0, for_1]))
    assert ways == {True, False}


def wide_rows(claim, classes=5000):
    "64 rows of scores, and a target."
    x = torch.randn(64, classes, generator=torch.Generator().manual_seed(0)).requires_grad_()
    return x, (x.detach() > 2).float() if of_sets(claim) else x.argmin(1)


def most_of(call):
    "The most memory that a call holds at one time, in bytes."
    held = most = 0
    for change in allocations(call): most = max(most, held := held + change)
    return most


@once
def test_a_gradient_per_row_makes_no_wide_table(claim):
    "Losses of rows are float64; their gradient is multiplied piece by piece, and a second time if the graph is kept."
    x, target = (torch.cat([t] * 64) for t in wide_rows(claim))
    from_above = torch.linspace(0, 1, len(x))
    def losses(): return claim.loss(x, target, reduction="none", **claim.options)
    def backward(each, keep=False): return torch.autograd.grad(each, x, from_above, retain_graph=keep)[0]
    backward(losses())
    assert x.nbytes <= most_of(lambda: backward(losses())) < 1.5 * x.nbytes
    each = losses()
    first, second = backward(each, keep=True), backward(each)
    with fused.composition(): wanted = backward(losses())
    assert torch.equal(first, second)
    torch.testing.assert_close(first, wanted, rtol=4e-6, atol=1e-37)


@pytest.mark.parametrize("classes", (2000, 5000))
@once
def test_one_pass_is_one_loop_over_rows(claim, classes):
    "The gradient is all it makes of the size of the scores: exponentials stay with their row, in strips or not."
    x, target = wide_rows(claim, classes)
    call = fused.compiled(claim.loss)
    def run(): return torch.autograd.grad(call(x, target, **claim.options), x)
    run()
    assert x.nbytes <= most_of(run) < 1.2 * x.nbytes


ROWS = ("cross_entropy", "softmax_focal_loss")


@each_claim(lambda c: c.name in ROWS)
def test_one_pass_of_very_many_classes(claim):
    "Labels in every strip and in what is left; other numbers of rows and of classes; rows out of range."
    call, options = fused.compiled(claim.loss), {**claim.options, "reduction": "none"}
    for rows, classes in ((40, 4096), (40, 5003), (7, 5003), (1, 4100)):
        first = 3 * torch.randn(rows, classes, generator=torch.Generator().manual_seed(rows))
        target = torch.linspace(0, classes - 1, rows).long()
        if rows > 3: first[1], first[2, 0], first[3] = 200.0, -float("inf"), first[3] - 150
        ways = [taken(f, first, target, **options) for f in (call, claim.loss)]
        assert ways[0][2] == {"one pass"}
        torch.testing.assert_close(*(w[:2] for w in ways), rtol=4e-6, atol=1e-37)
        with torch.no_grad(): torch.testing.assert_close(call(first, target, **options), ways[1][0], rtol=4e-6, atol=1e-37)


@each_claim(lambda c: c.name in ROWS)
def test_sums_of_very_many_classes_keep_the_promise(claim):
    "Equal scores are the worst to add: every rounding goes the same way."
    first = torch.linspace(-3, 3, 64).unsqueeze(1).expand(64, 50_000).contiguous()
    target = torch.arange(64)
    with fused.composition(): wanted = taken(claim.loss, first.double(), target, reduction="none", **claim.options)
    for call in (fused.compiled(claim.loss), claim.loss):
        got = taken(call, first, target, reduction="none", **claim.options)
        assert got[2] != {"composition"}
        for found, exact, allowed in zip(got, wanted, claim.promise["float32"]):
            ulp = torch.finfo(torch.float32).eps * 2.0 ** torch.frexp(exact)[1] / 2
            assert ((found - exact) / ulp).abs().max() <= allowed


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
@each_claim(lambda c: c.name in ROWS)
def test_pieces_of_many_classes(claim, dtype, monkeypatch):
    "Each piece has other labels, the last one is smaller; rows next to each other in memory or not."
    monkeypatch.setattr(fused, "PIECE", 1000)
    first = 3 * torch.randn(50, 300, generator=torch.Generator().manual_seed(0)).to(dtype)
    target = torch.linspace(0, 299, 50).long()
    assert len(list(fused._pieces(first, 1, 4))) > 3
    for x in (first, first.mT.contiguous().mT):
        got = taken(claim.loss, x, target, reduction="none", **claim.options)
        with fused.composition(): wanted = taken(claim.loss, x, target, reduction="none", **claim.options)
        assert got[2] == {"kernel"}
        torch.testing.assert_close(got[:2], wanted[:2], rtol=4e-6 if dtype == torch.float32 else 0.008, atol=1e-37)


def test_one_pass_of_sets_beyond_its_range():
    "Scores around 700, whose sums float64 holds and whose reciprocals it does not, times a small weight."
    claim = next(c for c in CLAIMS if c.name == "multilabel_cross_entropy")
    first, target = make_inputs(claim, 32, dtype=torch.float32)
    first = 700 + first.clamp(-5, 5)
    got, wanted = (taken(f, first, target, normalizer=1e20)[:2] for f in (fused.compiled(claim.loss), claim.loss))
    torch.testing.assert_close(got, wanted, rtol=4e-6, atol=0)
    assert (wanted[1] != 0).any(1).all()


@pytest.mark.parametrize("more", [{"mask": True}, {"threshold": torch.tensor(0.5)}])
def test_what_no_kernel_computes_is_compiled_as_a_graph(more):
    graphs, x = [], torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward
    claim = next(c for c in CLAIMS if c.name == "multilabel_cross_entropy")
    more = {"mask": x > -5} if "mask" in more else more
    call = fused.compiled(claim.loss, backend=backend)
    for _ in range(2): torch.testing.assert_close(call(x, x > 0, **more), claim.loss(x, x > 0, **more))
    assert len(graphs) == 1


@once
def test_one_pass_in_every_mode(claim):
    "Second derivatives, transforms, a weight from above, no gradient at all."
    first, target = make_inputs(claim, 6, dtype=torch.float32)
    call = fused.compiled(claim.loss, backend="eager")
    x = first.clone().requires_grad_()
    for outer in (lambda v: v, lambda v: 3 * v**2):
        results = []
        for way in (call, claim.loss):
            slope = torch.autograd.grad(outer(way(x, target, **claim.options)), x, create_graph=True)[0]
            results.append((slope.detach(), torch.autograd.grad(slope.square().sum(), x)[0]))
        torch.testing.assert_close(*results, rtol=2e-5, atol=1e-9)
    torch.testing.assert_close(torch.func.grad(lambda z: call(z, target, **claim.options))(first),
                               torch.func.grad(lambda z: claim.loss(z, target, **claim.options))(first), rtol=4e-6, atol=1e-37)
    with torch.no_grad(): torch.testing.assert_close(call(x, target, **claim.options), claim.loss(x, target, **claim.options), rtol=4e-6, atol=0)
    with torch.inference_mode(): assert call(first, target, **claim.options).isfinite()


def test_one_pass_refuses_what_plain_code_refuses():
    x, call = torch.zeros(3, 4), fused.compiled(cross_entropy)
    with pytest.raises(ValueError, match="target: got the value 4"): call(x, torch.tensor([0, 4, 1]))
    sets = fused.compiled(next(c for c in CLAIMS if c.name == "multilabel_cross_entropy").loss)
    for bad in (torch.full((3, 4), 2.0), torch.full((3, 4), 2)):
        with pytest.raises(ValueError, match="target: got the value 2"): sets(x, bad)


@torch._dynamo.config.patch(recompile_limit=2)  # one size, then any size
def test_one_pass_of_many_kinds():
    "Dtypes of labels, sizes, images, with and without a gradient: more than the eight times that PyTorch compiles one function."
    fused._compiled.clear()  # what other tests have compiled counts too
    call = fused.compiled(next(c for c in CLAIMS if c.name == "multilabel_cross_entropy").loss, backend="eager")
    for n, kind in itertools.product((1, 2, 3), (torch.bool, torch.int64, torch.float32, torch.float64)):
        for shape in ((n, 4), (n, 1), (2, n, 4)):
            x, y = torch.zeros(shape), torch.ones(shape, dtype=kind)
            for scores in (x, x.clone().requires_grad_(), x.mT.contiguous().mT):
                with fused.ways() as found: call(scores, y)
                assert found == {"one pass"}


def test_one_pass_of_many_gammas():
    "Each has compiled code of its own: PyTorch's limit of eight forms of one function is not met."
    first, target = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1])
    call = fused.compiled(softmax_focal_loss, backend="eager")
    for gamma in torch.linspace(0, 5, 11).tolist():
        torch.testing.assert_close(call(first, target, gamma=gamma), softmax_focal_loss(first, target, gamma=gamma), rtol=4e-6, atol=0)


@pytest.mark.parametrize("claim, option", [(c, o) for c in CLAIMS for o in ("gamma", "scale", "label_smoothing", "normalizer")
                                           if o in inspect.signature(c.loss).parameters and (o != "normalizer" or c.kind == "pointwise")],
                         ids=lambda v: getattr(v, "name", v))
def test_compiled_with_an_option_that_moves(claim, option):
    "A schedule of more values than PyTorch compiles one function for; and a module whose attribute moves."
    fused._compiled.clear()
    first, target = make_inputs(claim, 5, dtype=torch.float32)
    module = claim.module(**claim.options)
    call, criterion = (fused.compiled(f, backend="eager") for f in (claim.loss, module))
    for value in torch.linspace(0.1, 0.5, 10).tolist():
        options = {**claim.options, option: value}
        wanted = claim.loss(first, target, **options)
        torch.testing.assert_close(call(first, target, **options), wanted, rtol=4e-6, atol=0)
        if option == "normalizer": continue  # of a call, not of the module
        setattr(module, option, value)
        torch.testing.assert_close(criterion(first, target), wanted, rtol=4e-6, atol=0)


@each_claim(lambda c: True)
def test_compiled_where_only_one_size_is_known_to_vary(claim):
    "The compiler takes the number of rows of the scores for one that may vary, and that of the labels for 5."
    torch._dynamo.reset()
    first, target = make_inputs(claim, 5, dtype=torch.float32)
    torch._dynamo.maybe_mark_dynamic(first, 0)
    call = torch.compile(claim.loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(call(first, target, **claim.options), claim.loss(first, target, **claim.options), rtol=4e-6, atol=0)


def test_numbers_of_other_code_may_vary():
    "A counter is not a new kind of call each time: PyTorch takes it for a number that varies."
    graphs, x = [], torch.zeros(3)
    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward
    call = fused.compiled(lambda x, n: x + n, backend=backend)
    for n in range(2, 14): assert torch.equal(call(x, n), x + n)
    assert 0 < len(graphs) <= 4


def test_too_many_kinds_are_not_compiled(monkeypatch):
    "They are computed all the same, with a warning, and what is compiled stays so."
    fused._compiled.clear()
    monkeypatch.setattr(fused, "KINDS", 3)
    logits, target = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])
    for loss, y in ((softmax_focal_loss, target), (sigmoid_focal_loss, (logits > 0).float())):
        call = fused.compiled(loss, backend="eager")
        for gamma in (0.5, 1.5, 2.5): call(logits, y, gamma=gamma)
        with pytest.warns(UserWarning, match="3 kinds of calls are compiled already"):
            assert torch.equal(call(logits, y, gamma=3.5), loss(logits, y, gamma=3.5))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            call(logits, y, gamma=2.5)


def test_only_losses_of_rows_are_called_as_plain_code():
    "A model that holds a loss is compiled whole."
    class Model(torch.nn.Module):
        loss = staticmethod(cross_entropy)
        def forward(self, x, y):
            seen.append(torch.compiler.is_compiling())
            return self.loss(2 * x, y)
    seen, x, y = [], torch.zeros(2, 3), torch.tensor([0, 1])
    fused.compiled(Model(), backend="eager")(x, y)
    assert seen and all(seen)


@once
def test_compiled_inside_a_compiled_function(claim):
    "It is a part of that graph, without a break."
    first, target = make_inputs(claim, 6, dtype=torch.float32)
    call = fused.compiled(claim.loss)
    whole = torch.compile(lambda z: 2 * call(2 * z, target, **claim.options), fullgraph=True, backend="aot_eager")
    wanted, got = (taken(f, first)[:2] for f in (lambda z: 2 * claim.loss(2 * z, target, **claim.options), whole))
    torch.testing.assert_close(got, wanted, rtol=4e-6, atol=1e-37)


@pytest.mark.parametrize("name", ["whole", "loop"])
def test_a_wrong_way_through_all_rows_is_seen(monkeypatch, name):
    claim = next(c for c in CLAIMS if c.name == "cross_entropy")
    loss = fused._known["lossbook.cross_entropy.row_kernel(_parts)"]
    def wrong(*args, of=getattr(loss, name)):
        value, slope = of(*args)
        return value, None if slope is None else slope * (1 + 2e-6)
    monkeypatch.setattr(loss, name, wrong)
    fused._compiled.clear()
    found = measure(subject_of(claim), "float32", loss=fused.compiled(claim.loss, backend="eager") if name == "whole" else claim.loss)
    fused._compiled.clear()
    assert max(r["worst"] for r in found["gradient"].values()) > claim.promise["float32"][1]


def test_a_wrong_kernel_is_seen(monkeypatch):
    "These tests bite: a kernel with the gradient of another label does not keep the promise."
    claim = next(c for c in CLAIMS if c.name == "binary_cross_entropy_with_logits")
    loss = next(f for f in fused._known.values() if f.kernel.__module__ == "lossbook.bce")
    def wrong(*args, of=loss.kernel):
        got = of(*args)
        return (got[0], got[1].mul_(1 + 2e-6)) if isinstance(got, tuple) else got
    monkeypatch.setattr(loss, "kernel", wrong)
    found = measure(subject_of(claim), "float32")
    assert max(r["worst"] for r in found["gradient"].values()) > claim.promise["float32"][1]
