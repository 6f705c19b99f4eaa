"""Broken losses, one per kind of bug found in the field, each with the checks of the audit that must reject it.

They claim to be binary cross-entropy with logits, cross-entropy of rows, or a loss of sets. `python tools/mutants.py`
asks every check of every one of them, for the table on the page of the audit.
"""
from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

import lossbook.rows
import lossbook.sets  # noqa: F401  (both register checks)
from lossbook import bce, binary_cross_entropy_with_logits, cross_entropy, multilabel_cross_entropy
from lossbook.audit import Report, audit
from lossbook.catalogue import find
from lossbook.stable import softplus


@dataclass(frozen=True)
class Mutant:
    "A broken loss, its class of bug, what is broken in words, the checks that must reject it by name, and the dtype to audit."

    loss: Callable
    bug: str
    what: str
    caught_by: tuple[str, ...]
    dtype: str = "float32"
    kind: str = "pointwise"


HELD_TO = {
    "pointwise": "binary_cross_entropy_with_logits", "softmax": "cross_entropy", "sets": "multilabel_cross_entropy",
    "sparse": "sparse_multilabel_cross_entropy", "subsets": "subset_softmax_loss", "pairs": "lsep_loss",
}
BUGS = (
    "clamp", "lost digits", "overflow", "another formula", "derivatives", "labels", "dtype", "averages", "layout",
    "side effects", "transforms",
)
MUTANTS: dict[str, Mutant] = {}


def mutant(bug: str, what: str, *caught_by: str, dtype: str = "float32", kind: str = "pointwise"):
    "Register a broken loss."
    def add(function):
        MUTANTS[function.__name__] = Mutant(function, bug, what, caught_by, dtype, kind)
        return function
    return add


def report_on(name: str, checks=None) -> Report:
    "The audit of a broken loss; all checks by default."
    m = MUTANTS[name]
    try:
        if m.kind == "pointwise":
            return audit(m.loss, bce.spec(), dtypes=[m.dtype], checks=checks, second=1e-5)
        claim = find(HELD_TO[m.kind])
        few = {} if m.kind == "softmax" else {"sizes": {"quick": ((1, 2, 10, 40), 8000, 4)}}  # enough to find these bugs
        return audit(replace(claim, loss=m.loss, options={}, traits={**claim.traits, **few}), dtypes=[m.dtype], checks=checks)
    finally:
        torch.set_grad_enabled(True)  # some leak it


def fingerprint(name: str) -> str:
    "A hash of the source of a broken loss, its decorator included."
    return hashlib.sha256(inspect.getsource(MUTANTS[name].loss).encode()).hexdigest()[:12]


# What is broken below is one thing at a time, so most of them start from a loss that passes every check.
def right(x: Tensor, y: Tensor) -> Tensor: return binary_cross_entropy_with_logits(x, y, reduction="none")
def right_rows(x: Tensor, t: Tensor, **more) -> Tensor: return cross_entropy(x, t, reduction="none", **more)
def right_sets(x: Tensor, y: Tensor) -> Tensor: return multilabel_cross_entropy(x, y, reduction="none")


def plain(x: Tensor, y: Tensor) -> Tensor:
    "The stable formula as it stands: no care for dtypes, infinite logits or odd targets."
    return y * softplus(-x) + (1 - y) * softplus(x)


def from_probability(p: Tensor, y: Tensor) -> Tensor: return -y * torch.log(p) - (1 - y) * torch.log(1 - p)


# -- the value ---------------------------------------------------------------


@mutant("clamp", "the probability is clamped at 1e-4, as in copied focal losses", "dead gradient", "cap", "value")
def clamped_probability(x, y):
    return from_probability(torch.sigmoid(x).clamp(1e-4, 1 - 1e-4), y)


@mutant("clamp", "the probability is clamped at 1e-7, as in Keras", "dead gradient", "cap")
def clipped_at_1e_7(x, y):
    return from_probability(torch.sigmoid(x).clamp(1e-7, 1 - 1e-7), y)


@mutant("overflow", "log of the sigmoid, as in textbooks: 0 times infinity on right answers", "finite")
def log_of_sigmoid(x, y):
    return from_probability(torch.sigmoid(x), y)


@mutant("clamp", "sigmoid, then F.binary_cross_entropy, whose log ends at -100", "dead gradient", "false zeros")
def two_steps(x, y):
    return F.binary_cross_entropy(torch.sigmoid(x), y, reduction="none")


@mutant("lost digits", "F.binary_cross_entropy_with_logits: a difference of large numbers", "false zeros", "value")
def shifted(x, y):
    return F.binary_cross_entropy_with_logits(x, y, reduction="none")


@mutant("overflow", "log(1 + exp(-x)) as it stands, as in balanced-loss", "finite")
def exp_overflows(x, y):
    return y * torch.log(1 + torch.exp(-x)) + (1 - y) * torch.log(1 + torch.exp(x))


@mutant("clamp", "log(p + 1e-8)", "value", "cap")
def epsilon_in_the_log(x, y):
    p = torch.sigmoid(x)
    return -y * torch.log(p + 1e-8) - (1 - y) * torch.log(1 - p + 1e-8)


@mutant("overflow", "nan_to_num over a loss that overflows: the damage stays", "value", "gradient")
def nan_to_num(x, y):
    return torch.nan_to_num(from_probability(torch.sigmoid(x), y))


@mutant("another formula", "F.softplus, which is the identity above 20", "value", dtype="float64")
def softplus_with_a_threshold(x, y):
    return F.softplus(torch.where(y > 0.5, -x, x))


@mutant("another formula", "the two labels are swapped", "value", "gradient")
def labels_swapped(x, y): return right(-x, y)


@mutant("another formula", "every loss is 1.00001 times what it should be", "value", "gradient")
def wrong_by_one_part_in_a_million(x, y): return right(x, y) * 1.00001


@mutant("another formula", "a branch that nobody tries is wrong by 1 %", "value")
def wrong_only_beyond_1e10(x, y):
    return torch.where(x.abs() > 1e10, right(x, y) * 1.01, right(x, y))


@mutant("overflow", "a product that is infinity minus infinity at an infinite logit", "infinite logits")
def infinite_logit_is_nan(x, y): return (1 - y) * x + softplus(-x)


@mutant("overflow", "log-sum-exp without a shift", "finite")
def needs_a_gap(x, y):
    return torch.log(torch.exp(x) + 1) - y * x


# -- the gradient ------------------------------------------------------------


class _CancellingGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return right(x, y)

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * (torch.sigmoid(x) - y), None


@mutant("lost digits", "a gradient of p - y, as the paper prints it", "gradient", "false zeros", "jvp")
def sigmoid_minus_target(x, y):
    return _CancellingGradient.apply(x, y)


class _BackwardOnly(torch.autograd.Function):
    "A loss whose gradient is right, and a function of its own."

    @staticmethod
    def forward(ctx, loss, x, y):
        ctx.save_for_backward(x, y)
        ctx.loss = loss
        return loss(x, y)

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return None, torch.autograd.functional.vjp(lambda z: ctx.loss(z, y), x, g, create_graph=True)[1], None


class _OnceOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return right(x, y)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return torch.autograd.functional.vjp(lambda z: right(z, y), x, g)[1], None


@mutant("derivatives", "a gradient that cannot be differentiated, as in most fused kernels", "gradgradcheck", "vmap")
def no_second_derivative(x, y):
    return _OnceOnly.apply(x, y)


@mutant("derivatives", "a part of the loss is detached", "gradient", "gradcheck")
def half_the_gradient(x, y): return 0.5 * right(x, y) + 0.5 * right(x, y).detach()


@mutant("derivatives", "max(x, 0) + log(1 + exp(-|x|)): both derivatives are 0 at 0, where the loss has one half", "gradcheck", "gradient")
def abs_and_relu(x, y):
    return y * _zero_at_zero(-x) + (1 - y) * _zero_at_zero(x)


def _zero_at_zero(x): return torch.relu(x) + torch.log1p(torch.exp(-x.abs()))


@mutant("derivatives", "F.logsigmoid: right to first order only", "second derivative")
def second_derivative_from_sigmoid(x, y):
    return y * -F.logsigmoid(x) + (1 - y) * -F.logsigmoid(-x)


# -- labels, dtypes, manners -------------------------------------------------


@mutant("labels", "soft labels are cut to integers by target.long()", "soft targets")
def truncated_labels(x, y):
    return right(x, y.long().to(x.dtype))


@mutant("labels", "soft labels are rounded", "soft targets")
def largest_label_wins(x, y): return right(x, (y > 0.5).to(x.dtype))


@mutant("dtype", "16-bit inputs are computed in 16 bits", "rounding", dtype="bfloat16")
def computed_in_16_bits(x, y):
    return plain(x, y)


@mutant("dtype", ".float() and no way back, as in MONAI, fvcore and timm", "dtype kept", dtype="bfloat16")
def result_in_float32(x, y):
    return right(x.float(), y.float())


@mutant("dtype", "float64 inputs are computed in float32", "dtype kept", "value", dtype="float64")
def silently_float32(x, y): return right(x.float(), y.float())


@mutant("dtype", "autocast is not heard", "autocast")
def computed_in_the_input_dtype(x, y): return plain(x, y)


@mutant("layout", "view, which a transposed input does not have", "strides")
def needs_contiguous(x, y):
    return right(x.view(-1), y.view(-1)).view(x.shape)


@mutant("layout", "the memory is read in another order than the tensor says", "strides")
def forgets_the_layout(x, y):
    return right(torch.as_strided(x, x.shape, torch.empty(x.shape).stride()), y)


@mutant("side effects", "the target of the caller is scaled in place", "inputs unchanged")
def overwrites_its_input(x, y):
    with torch.no_grad(): y.mul_(0.9)
    return right(x, y)


@mutant("side effects", "gradients are switched on and stay on, as in ASL", "grad mode")
def leaves_gradients_on(x, y):
    torch.set_grad_enabled(True)
    return right(x, y)


@mutant("transforms", "a value is read: a hidden synchronisation", "vmap", "compile")
def reads_a_value(x, y):
    if (x.abs().max() if x.numel() else x.sum()).item() > 1e30: return right(x.clamp(-1e30, 1e30), y)
    return right(x, y)


@mutant("averages", "the mean divides by N - 1", "reductions")
def mean_over_the_wrong_number(x, y, reduction="mean"):
    loss = right(x, y)
    return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.sum() / (loss.numel() - 1)


@mutant("averages", "the mean over an empty batch is 0 / 0", "empty batch")
def mean_of_nothing_is_nan(x, y, reduction="mean"):
    loss = right(x, y)
    return loss if reduction == "none" else getattr(loss, reduction)()


@mutant("averages", 'reduction="sum" divides by N', "reductions")
def sum_is_a_mean(x, y, reduction="mean"):
    loss = right(x, y)
    return loss if reduction == "none" else loss.sum() / max(loss.numel(), 1)


@mutant("transforms", "a graph break", "compile")
def prints_while_it_runs(x, y):
    torch._dynamo.graph_break()
    return right(x, y)


@mutant("transforms", "NumPy inside", "export")
def depends_on_numpy(x, y): return right(x, y) + float(x.detach().numpy().sum() * 0) if x.numel() else right(x, y)


@mutant("transforms", "a gradient of its own without a forward mode", "forward over reverse", "jvp")
def no_forward_mode(x, y): return _BackwardOnly.apply(right, x, y)


@mutant("averages", "the mask multiplies the loss: a NaN in the padding stays NaN", "ignore")
def times_the_mask(x, y, mask=None, reduction="mean"):
    loss = right(x, y) if mask is None else right(x, y) * mask
    number = max(loss.numel(), 1) if mask is None else mask.sum().clamp(min=1)
    return loss if reduction == "none" else loss.sum() / (number if reduction == "mean" else 1)


@mutant("averages", "what is masked is 0, and is counted", "ignore")
def masked_and_counted(x, y, mask=None, reduction="mean"):
    loss = right(x, y) if mask is None else torch.where(mask, right(torch.where(mask, x, 0.0), y), 0.0)
    return loss if reduction == "none" else loss.sum() / (max(loss.numel(), 1) if reduction == "mean" else 1)


@mutant("labels", "a target of 2 is taken for 1", "bad targets")
def any_target(x, y): return right(x, y.clamp(0, 1))


# -- rows: a softmax over classes --------------------------------------------


def rows(*words: str, dtype: str = "float32"): return mutant(*words, dtype=dtype, kind="softmax")
def pick(table: Tensor, label: Tensor) -> Tensor: return table.gather(1, label.unsqueeze(1)).squeeze(1)
def dense(x: Tensor, label: Tensor) -> Tensor: return torch.zeros_like(x).scatter(1, label.unsqueeze(1), 1.0)


@rows("overflow", "log of the softmax", "finite", "infinite logits")
def log_of_softmax(x, t): return -torch.log(pick(torch.softmax(x, 1), t))


@rows("overflow", "one-hot labels times the log: 0 times infinity on right answers", "finite")
def one_hot_times_log(x, t):
    return -(dense(x, t) * torch.log(torch.softmax(x, 1))).sum(1)


@rows("overflow", "exp of the scores as they are", "finite", "offsets")
def softmax_without_a_shift(x, t): return torch.log(torch.exp(x).sum(1)) - pick(x, t)


@rows("overflow", "one over the odds: its derivative squares a sum that is e^-355", "finite", dtype="float64")
def one_over_the_odds(x, t):
    here, m = dense(x, t).bool(), x.detach().amax(1, keepdim=True)
    others = torch.where(here, 0.0, torch.exp(x - m)).sum(1)
    good = (pick(x - m, t) == 0) & (others > 0)
    over = torch.exp(pick(x - m, t)) / torch.where(good, others, 1.0)
    return torch.where(good, torch.log1p(1 / torch.where(good, over, 1.0)), right_rows(x, t))


@rows("clamp", "the softmax is clamped at 1e-4", "dead gradient", "cap")
def clamped_softmax(x, t):
    return -torch.log(pick(torch.softmax(x, 1).clamp(1e-4, 1.0), t))


@rows("lost digits", "F.cross_entropy: log-sum-exp minus a score", "false zeros", "value", "gradients sum to 0")
def log_softmax(x, t):
    return F.cross_entropy(x, t, reduction="none")


@rows("labels", "one-hot labels with 1e-6 in place of 0, as in kornia", "infinite logits")
def nearly_one_hot(x, t):
    y = t if t.is_floating_point() else dense(x, t)
    return -((y + 1e-6) * F.log_softmax(x, 1)).sum(1)


@rows("labels", "soft labels are replaced by their largest class", "soft targets")
def soft_rows_by_their_largest_class(x, t):
    return right_rows(x, t.argmax(1) if t.dim() == x.dim() else t)


@rows("labels", "a soft target is read as class numbers", "soft targets")
def indices_only(x, t): return right_rows(x, t.long())


@rows("layout", "classes are taken to be in the last dimension", "strides")
def rows_of_a_matrix_only(x, t): return right_rows(x.view(-1, x.shape[-1]), t.view(-1)).view(t.shape)


@rows("another formula", "the softmax runs over the batch", "value", "gradient")
def normalised_over_the_batch(x, t): return -pick(F.log_softmax(x, 0), t)


@rows("another formula", "every loss is 1e-5 too large", "value")
def half_a_bit_off(x, t): return right_rows(x, t) + 1e-5


@rows("dtype", "16-bit scores are summed in 16 bits", "rounding", dtype="bfloat16")
def rows_in_16_bits(x, t):
    m = x.amax(1, keepdim=True)
    return torch.log(torch.exp(x - m).sum(1)) - pick(x - m, t)


class _CancellingRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, t):
        ctx.save_for_backward(x, t)
        return right_rows(x, t)

    @staticmethod
    def backward(ctx, g):
        x, t = ctx.saved_tensors
        return g.unsqueeze(1) * (torch.softmax(x, 1) - dense(x, t)), None


@rows("lost digits", "a gradient of p - y, as the paper prints it", "gradient", "vmap", "jvp", "forward over reverse")
def softmax_minus_one_hot(x, t):
    return _CancellingRows.apply(x, t)


@rows("overflow", "a shift by the mean does not bound the exponent", "offsets")
def shifted_by_the_mean(x, t):
    d = x - x.mean(1, keepdim=True).to(torch.bfloat16).to(x.dtype)
    return torch.log(torch.exp(d).sum(1)) - pick(d, t)


@rows("averages", "the mean divides by all rows, the ignored ones too", "ignore")
def ignored_rows_are_counted(x, t, ignore_index=-100, reduction="mean"):
    loss = right_rows(x, t, ignore_index=ignore_index)
    return loss if reduction == "none" else loss.sum() / (max(t.numel(), 1) if reduction == "mean" else 1)


@rows("averages", "ignored rows are read as class 0", "ignore")
def ignored_rows_are_the_first_class(x, t, ignore_index=-100):
    return right_rows(x, torch.where(t == ignore_index, 0, t))


@rows("labels", "a class number of -1 is read from the end", "bad targets")
def counts_from_the_end(x, t): return right_rows(x, t if t.is_floating_point() else torch.where(t < 0, t + x.shape[1], t))


# -- sets: any number of labels in a row --------------------------------------


def sets(*words: str, dtype: str = "float32", kind: str = "sets"): return mutant(*words, dtype=dtype, kind=kind)
def with_zero(u: Tensor) -> Tensor: return torch.cat([u, torch.zeros_like(u[..., :1])], -1)


def plain_sets(x, y):
    "Right over the real numbers, and a good start in floats."
    y = y.bool()
    return torch.logsumexp(with_zero(x.masked_fill(y, -torch.inf)), -1) + torch.logsumexp(with_zero((-x).masked_fill(~y, -torch.inf)), -1)


@sets("lost digits", "classes are taken out by subtracting 1e12, as in bert4keras and bert4torch", "false zeros", "value", "soft targets")
def masked_by_1e12(x, y):
    y = y.to(x.dtype)
    x = (1 - 2 * y) * x
    return torch.logsumexp(with_zero(x - (1 - y) * 1e12), -1) + torch.logsumexp(with_zero(x - y * 1e12), -1)


@sets("lost digits", "two log-sum-exps with a zero in each", "false zeros", "gradient", "infinite logits")
def masked_by_infinity(x, y): return plain_sets(x, y)


@sets("overflow", "exp of the scores as they are", "finite")
def exponentials_of_scores(x, y):
    y = y.to(x.dtype)
    return torch.log(1 + ((1 - y) * torch.exp(x)).sum(-1)) + torch.log(1 + (y * torch.exp(-x)).sum(-1))


@sets("clamp", "the scores are clamped at 30", "dead gradient", "cap")
def clamped_scores(x, y): return right_sets(x.clamp(-30, 30), y)


@sets("labels", "soft labels are rounded", "soft targets")
def labels_above_one_half(x, y): return right_sets(x, y > 0.5)


@sets("labels", "a soft label is read as a mixture of the two hard ones, which is another loss", "soft targets")
def soft_labels_as_a_mixture(x, y):
    y = y.to(x.dtype)
    return (y * -F.logsigmoid(x) + (1 - y) * -F.logsigmoid(-x)).sum(-1) if y.frac().any() else right_sets(x, y)


@sets("layout", "all that comes after the first dimension is taken for classes", "strides")
def sets_of_a_matrix_only(x, y): return right_sets(x.reshape(len(x), -1), y.reshape(len(y), -1))


@sets("layout", "classes are looked for in dimension 1", "strides", "vmap")
def classes_in_dimension_1(x, y):
    e = torch.where(y.bool(), -x, x)
    return torch.logsumexp(with_zero(torch.where(y.bool(), -torch.inf, e)), 1) + torch.logsumexp(with_zero(torch.where(y.bool(), e, -torch.inf)), 1)


@sets("another formula", "a sum of binary cross-entropies", "value", "gradient")
def a_sum_of_binary_losses(x, y): return F.binary_cross_entropy_with_logits(x, y.to(x.dtype), reduction="none").sum(-1)


@sets("another formula", "labels are compared with the others only, not with a threshold", "value")
def no_threshold_class(x, y):
    y = y.bool()
    return F.softplus(torch.logsumexp(x.masked_fill(y, -1e4), -1) + torch.logsumexp((-x).masked_fill(~y, -1e4), -1))


@sets("dtype", "16-bit scores are summed in 16 bits", "rounding", dtype="float16")
def sets_in_16_bits(x, y): return plain_sets(x, y)


@sets("averages", "the mean divides by the number of scores", "reductions")
def mean_over_the_classes(x, y, reduction="mean"):
    loss = right_sets(x, y)
    return loss if reduction == "none" else loss.sum() / (1 if reduction == "sum" else x.numel())


@sets("transforms", "a gradient of its own without a forward mode", "forward over reverse", "jvp", "vmap")
def sets_without_forward_mode(x, y): return _BackwardOnly.apply(right_sets, x, y)


@sets("lost digits", "everything minus the labels, clamped, as in bert4keras and bert4torch", "value", "gradient", kind="sparse")
def sparse_by_subtraction(x, indices):
    there, safe = indices >= 0, indices.clamp(min=0)
    own = x.gather(-1, safe).masked_fill(~there, -torch.inf)
    everything = torch.logsumexp(with_zero(x), -1)
    rest = (1 - torch.exp(torch.logsumexp(own, -1) - everything)).clamp(1e-7, 1)
    return everything + torch.log(rest) + torch.logsumexp(with_zero((-own).masked_fill(~there, -torch.inf)), -1)


@sets("labels", "padding is read as class 0", "value", "gradient", kind="sparse")
def padding_is_the_first_class(x, indices): return right_sets(x, torch.zeros_like(x).scatter(-1, indices.clamp(min=0), 1.0))


@sets("lost digits", "the log of the normaliser minus the score of the set", "false zeros", "value", kind="subsets")
def normaliser_minus_score(x, y):
    log_z = x.new_full((*x.shape[:-1], x.shape[-1] + 1), -1e30)
    log_z[..., 0] = 0.0
    for i in range(x.shape[-1]):
        log_z = torch.cat([log_z[..., :1], torch.logaddexp(log_z[..., 1:], log_z[..., :-1] + x[..., i : i + 1])], -1)
    y = y.bool()
    return log_z.gather(-1, y.sum(-1, keepdim=True)).squeeze(-1) - torch.where(y, x, 0.0).sum(-1)


@sets("lost digits", "power sums with alternating signs", "finite", "value", kind="subsets")
def newtons_identities(x, y):
    y, w = y.bool(), torch.exp(x)
    z = [torch.ones_like(x[..., 0])]
    for q in range(1, x.shape[-1] + 1): z.append(sum((-1) ** (j - 1) * z[q - j] * (w**j).sum(-1) for j in range(1, q + 1)) / q)
    return torch.log(torch.stack(z, -1).gather(-1, y.sum(-1, keepdim=True)).squeeze(-1)) - torch.where(y, x, 0.0).sum(-1)


@sets("another formula", "each label against all classes, the other labels included", "value", "gradient", kind="subsets")
def k_times_cross_entropy(x, y):
    return -(F.log_softmax(x, -1) * y.to(x.dtype)).sum(-1)


@sets("overflow", "exp of every difference", "finite", kind="pairs")
def every_pair_by_hand(x, y):
    pairs = torch.exp(x.unsqueeze(-1) - x.unsqueeze(-2)) * ((~y.bool()).unsqueeze(-1) & y.bool().unsqueeze(-2))
    return torch.log(1 + pairs.sum((-1, -2)))


@sets("another formula", "the hardest pair alone", "value", kind="pairs")
def hardest_pair_only(x, y):
    y = y.bool()
    return F.softplus(torch.where(y, -1e4, x).amax(-1) - torch.where(y, x, 1e4).amin(-1))


@sets("averages", "a masked class gets the score 0, which is not nothing", "ignore")
def masked_classes_at_0(x, y, mask=None, reduction="none"):
    keep = torch.ones_like(y, dtype=torch.bool) if mask is None else mask
    loss = torch.where(keep.any(-1), right_sets(torch.where(keep, x, 0.0), y), 0.0)
    return loss if reduction == "none" else loss.sum() / (keep.any(-1).sum().clamp(min=1) if reduction == "mean" else 1)


@sets("labels", "a target of 2 is read as a label", "bad targets")
def every_number_is_a_label(x, y): return right_sets(x, y if y.dtype == torch.bool else y.clamp(0, 1))
