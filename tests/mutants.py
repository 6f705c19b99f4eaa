"""Broken losses, one per kind of bug found in the field, each with the check of the audit that must reject it.

They claim to be binary cross-entropy with logits, cross-entropy of rows, or a loss of sets. The comment says where the bug lives, or lived.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lossbook.stable import softplus


@dataclass(frozen=True)
class Mutant:
    "A broken loss, the dtype to audit, and the checks that must reject it by name."

    loss: Callable
    caught_by: tuple[str, ...]
    dtype: str = "float32"
    kind: str = "pointwise"


MUTANTS: dict[str, Mutant] = {}


def mutant(*caught_by: str, dtype: str = "float32", kind: str = "pointwise"):
    "Register a broken loss."
    def add(function):
        MUTANTS[function.__name__] = Mutant(function, caught_by, dtype, kind)
        return function
    return add


def right(x: Tensor, y: Tensor) -> Tensor:
    "A correct loss to break."
    return y * softplus(-x) + (1 - y) * softplus(x)


def from_probability(p: Tensor, y: Tensor) -> Tensor: return -y * torch.log(p) - (1 - y) * torch.log(1 - p)


# -- the value ---------------------------------------------------------------


@mutant("dead gradient", "cap", "value")
def clamped_probability(x, y):  # copied focal losses: clamp(min=1e-4, max=1)
    return from_probability(torch.sigmoid(x).clamp(1e-4, 1 - 1e-4), y)


@mutant("dead gradient", "cap")
def clipped_at_1e_7(x, y):  # Keras on probabilities
    return from_probability(torch.sigmoid(x).clamp(1e-7, 1 - 1e-7), y)


@mutant("finite")
def log_of_sigmoid(x, y):  # the textbook: 0 * -inf on right answers
    return from_probability(torch.sigmoid(x), y)


@mutant("dead gradient", "false zeros")
def two_steps(x, y):  # sigmoid, then F.binary_cross_entropy with its clamp at -100
    return F.binary_cross_entropy(torch.sigmoid(x), y, reduction="none")


@mutant("false zeros", "value")
def shifted(x, y):  # F.binary_cross_entropy_with_logits
    return F.binary_cross_entropy_with_logits(x, y, reduction="none")


@mutant("finite")
def exp_overflows(x, y):  # balanced-loss: log(1 + exp(-x))
    return y * torch.log(1 + torch.exp(-x)) + (1 - y) * torch.log(1 + torch.exp(x))


@mutant("value", "cap")
def epsilon_in_the_log(x, y):  # log(p + 1e-8)
    p = torch.sigmoid(x)
    return -y * torch.log(p + 1e-8) - (1 - y) * torch.log(1 - p + 1e-8)


@mutant("value", "gradient")
def nan_to_num(x, y):  # hides the overflow, keeps the damage
    return torch.nan_to_num(from_probability(torch.sigmoid(x), y))


@mutant("value", dtype="float64")
def softplus_with_a_threshold(x, y):  # F.softplus is the identity above 20
    return F.softplus(torch.where(y > 0.5, -x, x))


@mutant("value", "gradient")
def labels_swapped(x, y): return right(-x, y)


@mutant("value", "gradient")
def wrong_by_one_part_in_a_million(x, y): return right(x, y) * 1.00001


@mutant("value")
def wrong_only_beyond_1e10(x, y):  # a branch nobody tries: only a search over all magnitudes finds it
    return torch.where(x.abs() > 1e10, right(x, y) * 1.01, right(x, y))


@mutant("infinite logits")
def infinite_logit_is_nan(x, y): return (1 - y) * x + softplus(-x)


@mutant("finite")
def needs_a_gap(x, y):  # log-sum-exp without a shift
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


@mutant("gradient", "false zeros", "jvp")
def sigmoid_minus_target(x, y):  # the closed form as the paper prints it
    return _CancellingGradient.apply(x, y)


class _OnceOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return right(x, y)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * (torch.sigmoid(x) - y), None


@mutant("gradgradcheck", "vmap")
def no_second_derivative(x, y):  # most custom CUDA losses
    return _OnceOnly.apply(x, y)


@mutant("gradient", "gradcheck")
def half_the_gradient(x, y): return 0.5 * right(x, y) + 0.5 * right(x, y).detach()


@mutant("gradcheck", "gradient")
def abs_and_relu(x, y):  # both have derivative 0 at 0, where the loss has one half
    return y * _zero_at_zero(-x) + (1 - y) * _zero_at_zero(x)


def _zero_at_zero(x): return torch.relu(x) + torch.log1p(torch.exp(-x.abs()))


@mutant("second derivative")
def second_derivative_from_sigmoid(x, y):  # right to first order only
    return y * -F.logsigmoid(x) + (1 - y) * -F.logsigmoid(-x)


# -- labels, dtypes, manners -------------------------------------------------


@mutant("soft targets")
def truncated_labels(x, y):  # target.long()
    return right(x, y.long().to(x.dtype))


@mutant("soft targets")
def largest_label_wins(x, y): return right(x, (y > 0.5).to(x.dtype))


@mutant("rounding", dtype="bfloat16")
def computed_in_16_bits(x, y):  # no float32 inside
    return right(x, y)


@mutant("dtype kept", dtype="bfloat16")
def result_in_float32(x, y):  # MONAI, fvcore, timm: .float() and no way back
    return right(x.float(), y.float())


@mutant("dtype kept", "value", dtype="float64")
def silently_float32(x, y): return right(x.float(), y.float())


@mutant("autocast")
def computed_in_the_input_dtype(x, y): return right(x, y)


@mutant("strides")
def needs_contiguous(x, y):  # view(-1, 1)
    return right(x.view(-1), y.view(-1)).view(x.shape)


@mutant("strides")
def forgets_the_layout(x, y):  # as_strided on a tensor of unknown layout
    return right(torch.as_strided(x, x.shape, torch.empty(x.shape).stride()), y)


@mutant("inputs unchanged")
def overwrites_its_input(x, y):
    with torch.no_grad(): y.mul_(0.9)
    return right(x, y)


@mutant("grad mode")
def leaves_gradients_on(x, y):  # ASL: set_grad_enabled(True) without end
    torch.set_grad_enabled(True)
    return right(x, y)


@mutant("vmap", "compile")
def reads_a_value(x, y):  # a hidden synchronisation
    if (x.abs().max() if x.numel() else x.sum()).item() > 1e30: return right(x.clamp(-1e30, 1e30), y)
    return right(x, y)


@mutant("reductions")
def mean_over_the_wrong_number(x, y, reduction="mean"):  # counts what is not there
    loss = right(x, y)
    return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.sum() / (loss.numel() - 1)


@mutant("empty batch")
def mean_of_nothing_is_nan(x, y, reduction="mean"):
    loss = right(x, y)
    return loss if reduction == "none" else getattr(loss, reduction)()


@mutant("reductions")
def sum_is_a_mean(x, y, reduction="mean"):
    loss = right(x, y)
    return loss if reduction == "none" else loss.sum() / max(loss.numel(), 1)


@mutant("compile")
def prints_while_it_runs(x, y):
    torch._dynamo.graph_break()
    return right(x, y)


@mutant("export")
def depends_on_numpy(x, y): return right(x, y) + float(x.detach().numpy().sum() * 0) if x.numel() else right(x, y)


@mutant("forward over reverse", "jvp")
def no_forward_mode(x, y): return _CancellingGradient.apply(x, y)


# -- rows: a softmax over classes --------------------------------------------


def rows(*caught_by: str, dtype: str = "float32"): return mutant(*caught_by, dtype=dtype, kind="softmax")
def pick(table: Tensor, label: Tensor) -> Tensor: return table.gather(1, label.unsqueeze(1)).squeeze(1)
def dense(x: Tensor, label: Tensor) -> Tensor: return torch.zeros_like(x).scatter(1, label.unsqueeze(1), 1.0)


@rows("finite", "infinite logits")
def log_of_softmax(x, t): return -torch.log(pick(torch.softmax(x, 1), t))


@rows("finite")
def one_hot_times_log(x, t):  # 0 * -inf on a right answer
    return -(dense(x, t) * torch.log(torch.softmax(x, 1))).sum(1)


@rows("finite", "offsets")
def softmax_without_a_shift(x, t): return torch.log(torch.exp(x).sum(1)) - pick(x, t)


@rows("dead gradient", "cap")
def clamped_softmax(x, t):  # the note's CELoss
    return -torch.log(pick(torch.softmax(x, 1).clamp(1e-4, 1.0), t))


@rows("false zeros", "value", "gradients sum to 0")
def log_softmax(x, t):  # F.cross_entropy
    return F.cross_entropy(x, t, reduction="none")


@rows("infinite logits")
def nearly_one_hot(x, t):  # kornia: off-targets are 1e-6, not 0
    y = t if t.is_floating_point() else dense(x, t)
    return -((y + 1e-6) * F.log_softmax(x, 1)).sum(1)


@rows("soft targets")
def soft_rows_by_their_largest_class(x, t):
    return F.cross_entropy(x, t.argmax(1) if t.dim() == x.dim() else t, reduction="none")


@rows("soft targets")
def indices_only(x, t): return F.cross_entropy(x, t.long(), reduction="none")


@rows("strides")
def rows_of_a_matrix_only(x, t): return F.cross_entropy(x.view(-1, x.shape[-1]), t.view(-1), reduction="none")


@rows("value", "gradient")
def normalised_over_the_batch(x, t): return -pick(F.log_softmax(x, 0), t)


@rows("value")
def half_a_bit_off(x, t): return F.cross_entropy(x, t, reduction="none") + 1e-5


@rows("rounding", dtype="bfloat16")
def rows_in_16_bits(x, t):
    m = x.amax(1, keepdim=True)
    return torch.log(torch.exp(x - m).sum(1)) - pick(x - m, t)


class _CancellingRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, t):
        ctx.save_for_backward(x, t)
        return F.cross_entropy(x, t, reduction="none")

    @staticmethod
    def backward(ctx, g):
        x, t = ctx.saved_tensors
        return g.unsqueeze(1) * (torch.softmax(x, 1) - dense(x, t)), None


@rows("gradient", "vmap", "jvp", "forward over reverse")
def softmax_minus_one_hot(x, t):  # the gradient as the paper prints it
    return _CancellingRows.apply(x, t)


@rows("offsets")
def shifted_by_the_mean(x, t):  # a shift that does not bound the exponent
    d = x - x.mean(1, keepdim=True).to(torch.bfloat16).to(x.dtype)
    return torch.log(torch.exp(d).sum(1)) - pick(d, t)


# -- sets: any number of labels in a row --------------------------------------


def sets(*caught_by: str, dtype: str = "float32", kind: str = "sets"): return mutant(*caught_by, dtype=dtype, kind=kind)
def with_zero(u: Tensor) -> Tensor: return torch.cat([u, torch.zeros_like(u[..., :1])], -1)


def plain_sets(x, y):
    "Right over the real numbers, and a good start in floats."
    y = y.bool()
    return torch.logsumexp(with_zero(x.masked_fill(y, -torch.inf)), -1) + torch.logsumexp(with_zero((-x).masked_fill(~y, -torch.inf)), -1)


@sets("false zeros", "value", "soft targets")
def masked_by_1e12(x, y):  # the note, bert4keras, bert4torch
    y = y.to(x.dtype)
    x = (1 - 2 * y) * x
    return torch.logsumexp(with_zero(x - (1 - y) * 1e12), -1) + torch.logsumexp(with_zero(x - y * 1e12), -1)


@sets("false zeros", "gradient", "infinite logits")
def masked_by_infinity(x, y): return plain_sets(x, y)


@sets("finite")
def exponentials_of_scores(x, y):
    y = y.to(x.dtype)
    return torch.log(1 + ((1 - y) * torch.exp(x)).sum(-1)) + torch.log(1 + (y * torch.exp(-x)).sum(-1))


@sets("dead gradient", "cap")
def clamped_scores(x, y): return plain_sets(x.clamp(-30, 30), y)


@sets("soft targets")
def labels_above_one_half(x, y): return plain_sets(x, y > 0.5)


@sets("soft targets")
def soft_labels_as_a_mixture(x, y):  # the mean over hard labels is another loss
    y = y.to(x.dtype)
    return (y * -F.logsigmoid(x) + (1 - y) * -F.logsigmoid(-x)).sum(-1) if y.frac().any() else plain_sets(x, y)


@sets("strides")
def sets_of_a_matrix_only(x, y): return plain_sets(x.view(-1, x.shape[-1]), y).view(x.shape[:-1])


@sets("strides", "vmap")
def classes_in_dimension_1(x, y):
    e = torch.where(y.bool(), -x, x)
    return torch.logsumexp(with_zero(torch.where(y.bool(), -torch.inf, e)), 1) + torch.logsumexp(with_zero(torch.where(y.bool(), e, -torch.inf)), 1)


@sets("value", "gradient")
def a_sum_of_binary_losses(x, y): return F.binary_cross_entropy_with_logits(x, y.to(x.dtype), reduction="none").sum(-1)


@sets("value")
def no_threshold_class(x, y):  # comparisons only, no zero
    y = y.bool()
    return F.softplus(torch.logsumexp(x.masked_fill(y, -1e4), -1) + torch.logsumexp((-x).masked_fill(~y, -1e4), -1))


@sets("rounding", dtype="float16")
def sets_in_16_bits(x, y): return plain_sets(x, y)


@sets("reductions")
def mean_over_the_classes(x, y, reduction="mean"):
    loss = plain_sets(x, y)
    return loss if reduction == "none" else loss.sum() / (1 if reduction == "sum" else x.numel())


class _SetsBackwardOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return plain_sets(x, y)

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return torch.autograd.functional.vjp(lambda z: plain_sets(z, y), x, g)[1], None


@sets("forward over reverse", "jvp", "vmap")
def sets_without_forward_mode(x, y): return _SetsBackwardOnly.apply(x, y)


@sets("value", "gradient", kind="sparse")
def sparse_by_subtraction(x, indices):  # bert4keras, bert4torch: everything minus the labels, clamped
    there, safe = indices >= 0, indices.clamp(min=0)
    own = x.gather(-1, safe).masked_fill(~there, -torch.inf)
    everything = torch.logsumexp(with_zero(x), -1)
    rest = (1 - torch.exp(torch.logsumexp(own, -1) - everything)).clamp(1e-7, 1)
    return everything + torch.log(rest) + torch.logsumexp(with_zero((-own).masked_fill(~there, -torch.inf)), -1)


@sets("value", "gradient", kind="sparse")
def padding_is_the_first_class(x, indices): return plain_sets(x, torch.zeros_like(x).scatter(-1, indices.clamp(min=0), 1.0))


@sets("false zeros", "value", kind="subsets")
def normaliser_minus_score(x, y):  # log Z - s_T, both large
    log_z = x.new_full((*x.shape[:-1], x.shape[-1] + 1), -1e30)
    log_z[..., 0] = 0.0
    for i in range(x.shape[-1]):
        log_z = torch.cat([log_z[..., :1], torch.logaddexp(log_z[..., 1:], log_z[..., :-1] + x[..., i : i + 1])], -1)
    y = y.bool()
    return log_z.gather(-1, y.sum(-1, keepdim=True)).squeeze(-1) - torch.where(y, x, 0.0).sum(-1)


@sets("finite", "value", kind="subsets")
def newtons_identities(x, y):  # alternating signs: exact in symbols, useless in floats
    y, w = y.bool(), torch.exp(x)
    z = [torch.ones_like(x[..., 0])]
    for q in range(1, x.shape[-1] + 1): z.append(sum((-1) ** (j - 1) * z[q - j] * (w**j).sum(-1) for j in range(1, q + 1)) / q)
    return torch.log(torch.stack(z, -1).gather(-1, y.sum(-1, keepdim=True)).squeeze(-1)) - torch.where(y, x, 0.0).sum(-1)


@sets("value", "gradient", kind="subsets")
def k_times_cross_entropy(x, y):  # each label against all classes, the other labels included
    return -(F.log_softmax(x, -1) * y.to(x.dtype)).sum(-1)


@sets("finite", kind="pairs")
def every_pair_by_hand(x, y):
    pairs = torch.exp(x.unsqueeze(-1) - x.unsqueeze(-2)) * ((~y.bool()).unsqueeze(-1) & y.bool().unsqueeze(-2))
    return torch.log(1 + pairs.sum((-1, -2)))


@sets("value", kind="pairs")
def hardest_pair_only(x, y):
    y = y.bool()
    return F.softplus(torch.where(y, -1e4, x).amax(-1) - torch.where(y, x, 1e4).amin(-1))
