"""One small function per (peer, loss): what the peer calls it becomes loss(logits, target) -> losses.

An adapter moves arguments about and nothing else. Where a peer has no alpha, the formula is taken at alpha = 1/2 and
the loss is halved, which is exact. Where a peer returns only the mean of a batch, `torch.vmap` calls it once per row.
"""
import inspect
from dataclasses import dataclass, replace
from typing import Callable

import torch

from installed import load
from lossbook import focal
from lossbook.audit import Claim
from lossbook.catalogue import find

POINTS = ("value", "gradient", "false zeros", "finite", "dead gradient", "cap", "infinite logits", "inputs unchanged", "empty batch",
          "grad mode", "reductions", "compile")
JAX = POINTS[:9]  # the rest asks what only PyTorch has
TRANSFORMS = ("gradcheck", "gradgradcheck", "vmap", "jvp", "forward over reverse")  # in float64, where a loss keeps it


@dataclass(frozen=True)
class Entry:
    """One loss of one peer, and the formula it is held to.

    Args:
        peer: a key of `installed.PEERS`.
        loss: a name for the table.
        find: finds the function of the peer, whose place the table shows.
        adapt: adapt(function) -> loss(logits, target).
        formula: "binary cross-entropy", "focal loss", "cross-entropy" or "softmax focal loss".
        gamma, alpha: of the focal losses.
        soft: whether targets between 0 and 1 are offered.
        checks: the questions asked.
    """

    peer: str
    loss: str
    find: Callable
    adapt: Callable
    formula: str
    gamma: float | None = None
    alpha: float | None = None
    soft: bool = True
    checks: tuple = POINTS

    def function(self):
        "The adapted loss; a single example becomes a batch of one."
        return batched(self.adapt(self.find()), 2 if "cross-entropy" == self.formula or "softmax" in self.formula else 1)

    def claim(self) -> Claim:
        "The formula as a claim whose loss is the peer's."
        if self.formula == "binary cross-entropy":
            known = find("binary_cross_entropy_with_logits")
        elif self.formula == "focal loss":
            known = focal.claim_for(self.gamma, self.alpha)
        elif self.formula == "cross-entropy":
            known = find("cross_entropy")
        else:
            known = focal.softmax_claim_for(self.gamma)
        return replace(known, name=self.loss, loss=self.function(), module=None, options={}, promise={}, second=None)

    def asked(self) -> tuple:
        "The names of the checks, in float32."
        return self.checks + (("soft targets",) if self.soft else ())

    def transforms(self) -> tuple:
        "The names of the checks of derivatives, in float64."
        return TRANSFORMS if self.checks is POINTS else ()


# Adapters

def batched(f, dims):
    "Most peers want a batch: one example without that dimension gets one."
    if "reduction" in inspect.signature(f).parameters:
        return lambda x, t, reduction="none": f(x, t, reduction=reduction) if x.dim() >= dims else _single(f, x, t, reduction)
    return lambda x, t: f(x, t) if x.dim() >= dims else f(x[None], t[None])[0]


def _single(f, x, t, reduction):
    out = f(x[None], t[None], reduction=reduction)
    return out[0] if reduction == "none" else out


def as_is(f): return lambda logits, target, reduction="none": f(logits, target, reduction=reduction)
def targets_first(f): return lambda logits, target: f(target.unsqueeze(-1), logits.unsqueeze(-1))  # Keras: the mean over the last axis of one
def half(f): return lambda *a, **kw: f(*a, **kw) / 2


def after_sigmoid(f):
    return lambda logits, target, reduction="none": f(torch.sigmoid(logits), target, reduction=reduction)


def signed(f): return lambda logits, target, reduction="none": f(logits, 2 * target - 1, reduction=reduction)


def with_gamma(f, gamma, alpha=0.25, **names):
    "For functions with arguments gamma, alpha and reduction."
    return lambda logits, target, reduction="none": f(logits, target, gamma=gamma, alpha=alpha, reduction=reduction, **names)


def in_channels(f):
    "For functions that want (N, C, ...): each logit is a row of one channel."
    return lambda logits, target: f(logits.reshape(-1, 1), target.reshape(-1, 1)).reshape(logits.shape)


def hard(f):
    "For functions of probabilities and integer labels, one dimension."
    return lambda logits, target: f(torch.sigmoid(logits).reshape(-1), target.long().reshape(-1)).reshape(logits.shape)


def divided_by_labels(f, gamma):
    "balanced-loss divides a sum by the number of labels: a second class with a label and no loss makes it one row, and twice the number is taken back."
    def row(x, y):
        both, labels = torch.stack([x, x.new_tensor(1000.0)]), torch.stack([y, torch.ones_like(y)])
        return f(both[None], labels[None], gamma=gamma) * (y + 1)
    return lambda logits, target: torch.vmap(row)(logits.reshape(-1), target.reshape(-1)).reshape(logits.shape)


def per_row(f): return lambda logits, target: torch.vmap(lambda x, t: f(x[None], t[None]))(logits, target)


def over_classes(f):
    "For functions that return one number per class."
    return lambda logits, target: f(logits, target).sum(1)


def one_hot(f):
    return lambda logits, target: f(logits, torch.zeros_like(logits).scatter(1, target.unsqueeze(1), 1.0))


def through_jax(f):
    "A function of JAX arrays as a PyTorch function: the value by f, the gradient by jax.vjp."
    import jax
    import jax.numpy as jnp

    def array(t):
        return jnp.asarray(t.detach().float().numpy()).astype({torch.bfloat16: jnp.bfloat16, torch.float16: jnp.float16}.get(t.dtype, jnp.float32)) if t.is_floating_point() else jnp.asarray(t.numpy())

    def tensor(a, like):
        import numpy as np
        return torch.from_numpy(np.array(a.astype(jnp.float32))).to({jnp.bfloat16.dtype: torch.bfloat16, jnp.float16.dtype: torch.float16}.get(a.dtype, torch.float32))

    class Call(torch.autograd.Function):
        @staticmethod
        def forward(ctx, logits, target):
            labels = array(target)
            value, ctx.pull = jax.vjp(lambda z: f(z, labels), array(logits))
            return tensor(value, logits)

        @staticmethod
        def backward(ctx, slope):
            return tensor(ctx.pull(array(slope))[0], slope), None

    return Call.apply


# The list

def _focal(gamma: float) -> list:
    "The sigmoid focal losses at one gamma."
    import lossbook

    g, a = dict(formula="focal loss", gamma=gamma, alpha=0.25), dict(formula="focal loss", gamma=gamma, alpha=0.5)
    asl = lambda c: half(in_channels(c(gamma_neg=gamma, gamma_pos=gamma, clip=0, reduction="none")))
    return [
        Entry("lossbook", "sigmoid_focal_loss", lambda: lossbook.sigmoid_focal_loss, lambda f: with_gamma(f, gamma), **g),
        Entry("torchvision", "sigmoid_focal_loss", lambda: load("torchvision").sigmoid_focal_loss, lambda f: with_gamma(f, gamma), **g),
        Entry("fvcore", "sigmoid_focal_loss", lambda: load("fvcore").sigmoid_focal_loss, lambda f: with_gamma(f, gamma), **g),
        Entry("kornia", "binary_focal_loss_with_logits", lambda: load("kornia").binary_focal_loss_with_logits,
              lambda f: in_channels(with_gamma(f, gamma)), **g),
        Entry("MONAI", "FocalLoss, sigmoid", lambda: load("MONAI").FocalLoss,
              lambda c: in_channels(c(gamma=gamma, alpha=0.25, reduction="none")), **g),
        Entry("smp", "FocalLoss, binary", lambda: load("smp").FocalLoss,
              lambda c: (lambda f: lambda x, t: f(x, t).reshape(x.shape))(c("binary", alpha=0.25, gamma=gamma, reduction="none")), **g),
        Entry("timm", "AsymmetricLossMultiLabel, clip=0", lambda: load("timm").AsymmetricLossMultiLabel, asl, **a),
        Entry("mmdetection", "py_sigmoid_focal_loss", lambda: load("mmdetection", "focal_loss").py_sigmoid_focal_loss,
              lambda f: with_gamma(f, gamma), **g),
        Entry("mmpretrain", "sigmoid_focal_loss", lambda: load("mmpretrain", "focal_loss").sigmoid_focal_loss,
              lambda f: with_gamma(f, gamma), **g),
        Entry("Keras", "binary_focal_crossentropy, from_logits", lambda: load("Keras").binary_focal_crossentropy,
              lambda f: targets_first(lambda t, x: f(t, x, apply_class_balancing=True, alpha=0.25, gamma=gamma, from_logits=True)), **g),
        Entry("optax", "sigmoid_focal_loss", lambda: load("optax").sigmoid_focal_loss,
              lambda f: through_jax(lambda x, t: f(x, t, alpha=0.25, gamma=gamma)), checks=JAX, **g),
        Entry("focal-loss-torch", "FocalLoss after sigmoid", lambda: load("focal-loss-torch").FocalLoss,
              lambda c: half(hard(c(gamma=gamma, reduction="none"))), soft=False, **a),
        Entry("balanced-loss", "focal_loss", lambda: load("balanced-loss").focal_loss, lambda f: half(divided_by_labels(f, gamma)),
              soft=False, **a),
    ]


def _softmax_focal(gamma: float) -> list:
    "The softmax focal losses at one gamma."
    import lossbook

    g = dict(formula="softmax focal loss", gamma=gamma, soft=False)
    return [
        Entry("lossbook", "softmax_focal_loss", lambda: lossbook.softmax_focal_loss,
              lambda f: lambda x, t, reduction="none": f(x, t, gamma=gamma, reduction=reduction), **g),
        Entry("kornia", "focal_loss", lambda: load("kornia").focal_loss,
              lambda f: over_classes(lambda x, t: f(x, t, None, gamma, "none")), **g),
        Entry("MONAI", "FocalLoss, use_softmax", lambda: load("MONAI").FocalLoss,
              lambda c: over_classes(one_hot(c(gamma=gamma, use_softmax=True, reduction="none"))), **g),
        Entry("bert4torch", "FocalLoss", lambda: load("bert4torch").FocalLoss, lambda c: per_row(c(gamma=gamma)), **g),
        Entry("Keras", "categorical_focal_crossentropy, from_logits", lambda: load("Keras").categorical_focal_crossentropy,
              lambda f: one_hot(lambda x, t: f(t, x, alpha=1.0, gamma=gamma, from_logits=True)), **g),
        Entry("focal-loss-torch", "FocalLoss after softmax", lambda: load("focal-loss-torch").FocalLoss,
              lambda c: (lambda f: lambda x, t: f(torch.softmax(x, 1), t))(c(gamma=gamma, reduction="none")), **g),
    ]


def entries() -> list:
    "All losses that are audited, in the order of the page's table."
    import lossbook

    b, c = dict(formula="binary cross-entropy"), dict(formula="cross-entropy")
    F = lambda name: lambda: getattr(load("PyTorch"), name)
    return [
        Entry("lossbook", "binary_cross_entropy_with_logits", lambda: lossbook.binary_cross_entropy_with_logits, as_is, **b),
        Entry("PyTorch", "binary_cross_entropy_with_logits", F("binary_cross_entropy_with_logits"), as_is, **b),
        Entry("PyTorch", "binary_cross_entropy after sigmoid", F("binary_cross_entropy"), after_sigmoid, **b),
        Entry("PyTorch", "soft_margin_loss", F("soft_margin_loss"), signed, soft=False, **b),
        Entry("smp", "SoftBCEWithLogitsLoss", lambda: load("smp").SoftBCEWithLogitsLoss, lambda k: k(reduction="none"), **b),
        Entry("timm", "BinaryCrossEntropy", lambda: load("timm").BinaryCrossEntropy, lambda k: k(smoothing=0.0, reduction="none"), **b),
        Entry("mmpretrain", "binary_cross_entropy", lambda: load("mmpretrain", "cross_entropy_loss").binary_cross_entropy, as_is, **b),
        Entry("Keras", "binary_crossentropy, from_logits", lambda: load("Keras").binary_crossentropy,
              lambda f: targets_first(lambda t, x: f(t, x, from_logits=True)), **b),
        Entry("optax", "sigmoid_binary_cross_entropy", lambda: load("optax").sigmoid_binary_cross_entropy, through_jax, checks=JAX, **b),
        *_focal(2.0),
        *_focal(0.5),
        Entry("lossbook", "cross_entropy", lambda: lossbook.cross_entropy, as_is, **c),
        Entry("PyTorch", "cross_entropy", F("cross_entropy"), as_is, **c),
        Entry("mmpretrain", "cross_entropy", lambda: load("mmpretrain", "cross_entropy_loss").cross_entropy, as_is, soft=False, **c),
        Entry("timm", "LabelSmoothingCrossEntropy, 0", lambda: load("timm").LabelSmoothingCrossEntropy, lambda k: per_row(k(0.0)), soft=False, **c),
        Entry("bert4torch", "LabelSmoothingCrossEntropy, 0", lambda: load("bert4torch").LabelSmoothingCrossEntropy,
              lambda k: k(eps=0.0, reduction="none"), soft=False, **c),
        Entry("Keras", "sparse_categorical_crossentropy, from_logits", lambda: load("Keras").sparse_categorical_crossentropy,
              lambda f: lambda x, t: f(t, x, from_logits=True, axis=1), soft=False, **c),
        Entry("optax", "softmax_cross_entropy_with_integer_labels", lambda: load("optax").softmax_cross_entropy_with_integer_labels,
              through_jax, soft=False, checks=JAX, **c),
        *_softmax_focal(2.0),
        *_softmax_focal(0.5),
    ]
