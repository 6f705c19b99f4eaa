"""Broken losses, one per kind of bug found in the field, each with the check of the audit that must reject it.

They claim to be binary cross-entropy with logits, or cross-entropy of rows. The comment says where the bug lives, or lived.
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
