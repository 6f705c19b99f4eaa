"""Places where a loss of a peer leaves its formula, each shown on the smallest input found.

A fault is a function that calls the peer's own code and returns rows (what, observed, exact). The exact numbers come
from the book's formulas, enclosed by `lossbook.exact`, or from the arithmetic that the function states. The state is
read off the numbers: a fault is there as long as an observed number is more than a thousandth away from the exact one.
"""
import math
import warnings
from dataclasses import dataclass
from typing import Callable

import sympy as sp
import torch
import torch.nn.functional as F

from installed import function_of, load, place, release
from lossbook import bce, focal
from lossbook.audit import make_subject
from lossbook.exact import Enclosure

NAN, INF = math.nan, math.inf
FAULTS: list = []


@dataclass(frozen=True)
class Fault:
    """One row of the page.

    Args:
        name: stable name of the row.
        peer: a key of `installed.PEERS`.
        where: finds the function of the peer.
        what: what is wrong, or was.
        given: the smallest input that shows it.
        mend: the call or the change that mends it.
        kind: "NaN", "dead gradient", "rounding", "formula", "average", "dtype", "refusal" or "derivatives"; or
            "right", for a loss that is right where others are not.
        choice: why it is a choice of the peer and no slip, or "".
        symptom: "nan" where a finite but inexact result is a partial mend.
        show: returns [(what, observed, exact), ...].
    """

    name: str
    peer: str
    where: Callable
    what: str
    given: str
    mend: str
    kind: str
    choice: str
    symptom: str
    show: Callable

    def run(self) -> dict:
        "The row as plain data."
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with torch.enable_grad():
                try:
                    rows = self.show()
                finally:
                    torch.set_grad_enabled(True)
        return {
            "name": self.name, "peer": self.peer, "version": release(self.peer), "function": function_of(self.where()), "place": place(self.where()), "what": self.what,
            "given": self.given, "mend": self.mend, "kind": self.kind, "choice": self.choice, "state": self.state(rows),
            "rows": [[what, text(observed), text(exact)] for what, observed, exact in rows],
        }

    def state(self, rows) -> str:
        "'there', 'in part' (no NaN, but not exact), 'mended' or 'a choice'; 'right' where there was no fault."
        if all(agree(o, e) for _, o, e in rows): return "right" if self.kind == "right" else "mended"
        if self.choice: return "a choice"
        finite = [not (isinstance(o, float) and not math.isfinite(o)) for _, o, _ in rows]
        return "in part" if self.symptom == "nan" and all(finite) else "there"


def text(x) -> str:
    "A number with six digits, or words."
    return f"{x + 0.0:.6g}" if isinstance(x, float) else str(x)  # -0 is 0


def agree(observed, exact) -> bool:
    "Whether two results are the same to a thousandth."
    if isinstance(observed, float) and isinstance(exact, float):
        if math.isnan(exact) or math.isinf(exact): return text(observed) == text(exact)
        return math.isfinite(observed) and abs(observed - exact) <= 1e-3 * abs(exact)
    return text(observed) == text(exact)


def fault(name, peer, where, what, given, mend, kind, choice="", symptom=""):
    "Register a function as a `Fault`."
    def add(show):
        FAULTS.append(Fault(name, peer, where, what, given, mend, kind, choice, symptom, show))
        return show
    return add


# Help: computing and knowing

def run(loss, *numbers, dtype=torch.float32):
    "(loss, gradient) for one example: the first argument gets the gradient."
    z = torch.tensor(numbers[0], dtype=dtype, requires_grad=True)
    value = loss(z, *numbers[1:]).sum()
    (slope,) = torch.autograd.grad(value, z)
    return value.item(), slope


def tried(call) -> str | float:
    "What a call gives: its number, or the name of its error."
    try:
        out = call()
    except Exception as error:
        return type(error).__name__
    return float(out) if not isinstance(out, (str, bool)) else out


def refused(call) -> str:
    "Whether a call is refused, and if not, what it gives."
    out = tried(call)
    return f"taken, {out:.4g}" if isinstance(out, float) else "refused"


def know(expression, *pairs) -> float:
    "The exact value of an expression; pairs are (symbol, float)."
    symbols = [s for s, _ in pairs]
    return float(Enclosure(sp.sympify(expression), symbols).decide(*(v for _, v in pairs)).mid())


def know_point(claim, x: float, y: float):
    "Exact (value, gradient) of a loss of one logit."
    s = make_subject(claim)
    return tuple(know(e, *zip(s.symbols, (x, y))) for e in (s.value, s.gradient))


def know_focal(x, y, gamma, alpha=0.25): return know_point(focal.claim_for(gamma, alpha), x, y)
def know_bce(x, y): return know_point(bce.claims()[0], x, y)


def know_row(make, scores, at=None):
    "Exact value of make(symbols) at scores, and its derivative in score number `at`. A score of -inf is left out."
    s = sp.symbols(f"s_1:{len(scores) + 1}", real=True)
    there = [(a, v) for a, v in zip(s, scores) if v > -INF]
    expression = make([a if v > -INF else -sp.oo for a, v in zip(s, scores)])
    value = know(expression, *there)
    return value if at is None else (value, know(expression.diff(s[at]), *there))


def ce(t, gamma=0):
    "Cross-entropy of class t, or softmax focal loss, as a function of the scores."
    def make(s):
        own = sum(sp.exp(a - s[t]) for a in s if a != -sp.oo)
        others = sum(sp.exp(a - s[t]) for i, a in enumerate(s) if i != t and a != -sp.oo)
        return (others / own) ** sp.Rational(gamma) * sp.log(own)
    return make


def zlpr(labels):
    "Multi-label cross-entropy of a set of labels."
    return lambda s: (sp.log(1 + sum(sp.exp(a) for a, y in zip(s, labels) if not y)) + sp.log(1 + sum(sp.exp(-a) for a, y in zip(s, labels) if y)))


def ratio(a, b=1): return float(sp.Rational(a, b))


FOCAL = "lossbook.sigmoid_focal_loss(logits, target, gamma={})"
SOFT_FOCAL = "lossbook.softmax_focal_loss(logits, target, gamma={})"
CE, BCE = "lossbook.cross_entropy", "lossbook.binary_cross_entropy_with_logits"
ZLPR, SPARSE = "lossbook.multilabel_cross_entropy", "lossbook.sparse_multilabel_cross_entropy"


# PyTorch

def torch_(name): return lambda: getattr(F, name)


@fault("torch-bce-zero", "PyTorch", torch_("binary_cross_entropy_with_logits"), "A right and sure answer costs nothing and teaches nothing: "
       "the small loss is the difference of two large numbers.", "logit -17, y = 0; logit 17, y = 1", BCE, "rounding")
def _():
    f = lambda z, y: F.binary_cross_entropy_with_logits(z, torch.tensor([y]), reduction="none")
    (value, _), (_, slope) = run(f, [-17.0], 0.0), run(f, [17.0], 1.0)
    return [("loss at -17", value, know_bce(-17.0, 0)[0]), ("gradient at 17", slope.item(), know_bce(17.0, 1)[1])]


@fault("torch-bce-inf", "PyTorch", torch_("binary_cross_entropy_with_logits"), "An infinite logit gives NaN where the limit is known.",
       "logit inf, y = 1; logit -inf, y = 0; logit -inf, y = 1", BCE, "NaN")
def _():
    f = lambda x, y: F.binary_cross_entropy_with_logits(torch.tensor([x]), torch.tensor([y])).item()
    return [("loss(inf, 1)", f(INF, 1.0), 0.0), ("loss(-inf, 0)", f(-INF, 0.0), 0.0), ("loss(-inf, 1)", f(-INF, 1.0), INF)]


@fault("torch-bce-dtype", "PyTorch", torch_("binary_cross_entropy_with_logits"), "float64 logits with a float32 target give a float32 loss.",
       "logit 0 in float64, target 1 in float32", f"{BCE}; or target.to(logits.dtype)", "dtype")
def _():
    out = F.binary_cross_entropy_with_logits(torch.zeros(1, dtype=torch.float64), torch.ones(1), reduction="none")
    return [("dtype", str(out.dtype), "torch.float64")]


@fault("torch-bce-target", "PyTorch", torch_("binary_cross_entropy_with_logits"), "A target that is no probability is taken as it is.",
       "logit 1, target -100", f"{BCE} refuses it; use mask for what does not count", "refusal")
def _():
    return [("target", refused(lambda: F.binary_cross_entropy_with_logits(torch.ones(1), torch.full((1,), -100.0))), "refused")]


@fault("torch-bce-sigmoid", "PyTorch", torch_("binary_cross_entropy"), "After a sigmoid that rounded to 1, a wrong answer gets loss 100 and no gradient; "
       "below, the gradient fades.", "sigmoid(20), y = 0; sigmoid(-50), y = 1", BCE, "dead gradient")
def _():
    f = lambda z, y: F.binary_cross_entropy(torch.sigmoid(z), torch.tensor([y]), reduction="none")
    (value, slope), (_, far) = run(f, [20.0], 0.0), run(f, [-50.0], 1.0)
    e = know_bce(20.0, 0)
    return [("loss at 20", value, e[0]), ("gradient at 20", slope.item(), e[1]), ("gradient at -50", far.item(), know_bce(-50.0, 1)[1])]


@fault("torch-soft-margin", "PyTorch", torch_("soft_margin_loss"), "exp overflows before the log: infinite loss, NaN gradient.",
       "input -200, target 1", BCE + " with targets 0 and 1, the same function", "NaN")
def _():
    value, slope = run(lambda z: F.soft_margin_loss(z, torch.ones(1), reduction="none"), [-200.0])
    e = know_bce(-200.0, 1)
    return [("loss", value, e[0]), ("gradient", slope.item(), e[1])]


@fault("torch-ce-zero", "PyTorch", torch_("cross_entropy"), "A right and sure row costs nothing and teaches nothing: log-sum-exp and the score cancel.",
       "scores (17, 0), class 0", CE, "rounding")
def _():
    value, slope = run(lambda z: F.cross_entropy(z, torch.tensor([0]), reduction="none"), [[17.0, 0.0]])
    e = know_row(ce(0), [17.0, 0.0], 0)
    return [("loss", value, e[0]), ("gradient of score 0", slope[0, 0].item(), e[1])]


@fault("torch-ce-masked", "PyTorch", torch_("cross_entropy"), "A class masked with -inf is harmless with an index, and not with a one-hot target or with smoothing.",
       "scores (0, -inf, 1), class 0; smoothing 0.1", CE + ": the smoothed part goes to the classes that are there", "NaN")
def _():
    z, hot = torch.tensor([[0.0, -INF, 1.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    e, other = know_row(ce(0), [0.0, -INF, 1.0]), know_row(ce(2), [0.0, -INF, 1.0])
    eps = float(torch.tensor(0.1))
    return [("index", F.cross_entropy(z, torch.tensor([0])).item(), e), ("one-hot", F.cross_entropy(z, hot).item(), e),
            ("smoothed", F.cross_entropy(z, torch.tensor([0]), label_smoothing=0.1).item(), (1 - eps) * e + eps / 2 * (e + other))]


@fault("torch-ce-weights", "PyTorch", torch_("cross_entropy"), "With class weights, an index and its one-hot form have different means: "
       "one divides by the weights, the other by the rows.", "scores 0, classes 0 and 1, weights 1 and 3", CE + " divides by the weights for both", "average",
       choice="documented: the mean for class probabilities divides by the batch")
def _():
    z, w, t = torch.zeros(2, 2), torch.tensor([1.0, 3.0]), torch.tensor([0, 1])
    e = know(sp.log(2))
    return [("index", F.cross_entropy(z, t, weight=w).item(), e), ("one-hot", F.cross_entropy(z, F.one_hot(t).float(), weight=w).item(), e)]


@fault("torch-ce-ignored", "PyTorch", torch_("cross_entropy"), "The mean over nothing is NaN: one batch without labels ends a run.", "one row, ignored",
       CE + ": 0, with gradient 0", "average", choice="intended, by the maintainers: the mean of an empty set")
def _():
    return [("loss", F.cross_entropy(torch.zeros(1, 2), torch.tensor([-100])).item(), 0.0)]


@fault("torch-ce-ignored-row", "PyTorch", torch_("cross_entropy"), "A row that is ignored still gets a NaN gradient if all its scores are -inf.",
       "scores (-inf, -inf), ignored, beside (0, 0), class 0", CE + ": an ignored row gets gradient 0", "NaN")
def _():
    value, slope = run(lambda z: F.cross_entropy(z, torch.tensor([0, -100])), [[0.0, 0.0], [-INF, -INF]])
    return [("loss", value, know(sp.log(2))), ("gradient of the ignored row", slope[1, 0].item(), 0.0)]


@fault("torch-ce-weight-0", "PyTorch", torch_("cross_entropy"), "A class of weight 0 at -inf gives NaN: 0 times infinity.",
       "scores (-inf, 0), class 0, weights 0 and 1, sum", CE, "NaN")
def _():
    out = F.cross_entropy(torch.tensor([[-INF, 0.0]]), torch.tensor([0]), weight=torch.tensor([0.0, 1.0]), reduction="sum")
    return [("loss", out.item(), 0.0)]


@fault("torch-ce-soft-target", "PyTorch", torch_("cross_entropy"), "Targets that are no probabilities are taken as they are.", "scores (0, 0), target (3, -1)",
       CE + " refuses weights outside [0, 1]", "refusal")
def _():
    return [("target", refused(lambda: F.cross_entropy(torch.zeros(1, 2), torch.tensor([[3.0, -1.0]]))), "refused")]


@fault("torch-ce-smoothing", "PyTorch", torch_("cross_entropy"), "Earlier releases were wrong when class weights, smoothing and ignored rows met.",
       "scores (1, 0), (0, 2), (5, 0); classes 0, 1, ignored; weights 1 and 3; smoothing 0.2", "none needed", "average")
def _():
    z = torch.tensor([[1.0, 0.0], [0.0, 2.0], [5.0, 0.0]])
    got = F.cross_entropy(z, torch.tensor([0, 1, -100]), weight=torch.tensor([1.0, 3.0]), label_smoothing=0.2).item()
    w, eps, total = (1, 3), float(torch.tensor(0.2)), 0.0
    for row, t in (((1.0, 0.0), 0), ((0.0, 2.0), 1)):
        parts = [w[c] * know_row(ce(c), row) for c in (0, 1)]
        total += (1 - eps) * parts[t] + eps / 2 * sum(parts)
    return [("loss", got, total / 4)]


@fault("torch-kl", "PyTorch", torch_("kl_div"), "With log_target, a class of probability 0 gives NaN.", "input (0, -1), log target (0, -inf)",
       "torch.where(target == -inf, 0, ...) before the sum", "NaN")
def _():
    out = F.kl_div(torch.tensor([0.0, -1.0]), torch.tensor([0.0, -INF]), log_target=True, reduction="sum")
    return [("divergence", out.item(), 0.0)]


@fault("torch-multilabel-indices", "PyTorch", torch_("multilabel_soft_margin_loss"), "Class numbers padded with -1, the form of its neighbour multilabel_margin_loss, "
       "are taken for labels.", "scores 0, target (2, -1, -1)", ZLPR + " and the binary losses refuse labels outside [0, 1]", "refusal")
def _():
    return [("target", refused(lambda: F.multilabel_soft_margin_loss(torch.zeros(1, 3), torch.tensor([[2.0, -1.0, -1.0]]))), "refused")]


@fault("torch-multi-margin", "PyTorch", torch_("multi_margin_loss"), "There is no second derivative, not even where it is 0.", "scores (0.5, 0), class 0, float64",
       "torch.relu of the margins", "derivatives")
def _():
    def second():
        z = torch.tensor([[0.5, 0.0]], dtype=torch.float64, requires_grad=True)
        (g,) = torch.autograd.grad(F.multi_margin_loss(z, torch.tensor([0])), z, create_graph=True)
        return torch.autograd.grad(g.sum(), z)[0].abs().sum()
    return [("second derivative", tried(second), 0.0)]


@fault("torch-logsumexp", "PyTorch", lambda: torch.logsumexp, "All classes at -inf: the gradient of the log-sum-exp is NaN, so a row that is masked as a whole spoils what is added to it.", "(-inf, -inf)",
       "mask the row: " + CE + "(..., mask=...)", "NaN", choice="there is no limit; this book gives NaN for a row without a class too")
def _():
    value, slope = run(lambda z: torch.logsumexp(z, 0), [-INF, -INF])
    return [("value", value, -INF), ("gradient", slope[0].item(), "no limit")]


@fault("torch-logsigmoid", "PyTorch", torch_("logsigmoid"), "The loss that binary_cross_entropy_with_logits gives up, kept: log1p of a small exponential.", "logit 17",
       "none needed", "right")
def _():
    value, slope = run(lambda z: -F.logsigmoid(z), [17.0])
    e = know_bce(17.0, 1)
    return [("-logsigmoid", value, e[0]), ("gradient", slope.item(), e[1])]


# gamma below 1: the derivative of a power at 0

BELOW = "With gamma below 1 the derivative of (1 - p)^gamma is infinite where p rounds to 1; infinity times 0 is NaN."


def _below_one(peer, where, form, given, x, y, gamma=0.5, alpha=0.25, name="", mend=FOCAL.format(0.5), what=BELOW, kind="NaN"):
    @fault(f"{peer}-gamma-below-1{name}", peer, where, what, given, mend, kind, symptom="nan")
    def _():
        value, slope = form(x, y)
        e = know_focal(x, y, gamma, alpha) if not isinstance(x, list) else know_row(ce(y, gamma), x, y)
        scale = 1.0 if isinstance(x, list) or alpha == 0.25 else 2.0  # losses without alpha: twice the loss with 1/2
        return [("loss", value, scale * e[0]), ("gradient", slope.flatten()[y if isinstance(x, list) else 0].item(), scale * e[1])]


def _elementwise(find, **names):
    return lambda x, y: run(lambda z: find()(z, torch.tensor([y]), gamma=0.5, alpha=0.25, reduction="none", **names), [x])


TV = lambda: load("torchvision").sigmoid_focal_loss
_below_one("torchvision", TV, _elementwise(TV), "logit 20, y = 1, gamma 0.5", 20.0, 1.0)
_below_one("fvcore", lambda: load("fvcore").sigmoid_focal_loss, _elementwise(lambda: load("fvcore").sigmoid_focal_loss), "logit 20, y = 1, gamma 0.5", 20.0, 1.0)
_below_one("mmdetection", lambda: load("mmdetection", "focal_loss").py_sigmoid_focal_loss, _elementwise(lambda: load("mmdetection", "focal_loss").py_sigmoid_focal_loss),
           "logit 20, y = 1, gamma 0.5", 20.0, 1.0)
_below_one("mmpretrain", lambda: load("mmpretrain", "focal_loss").sigmoid_focal_loss, _elementwise(lambda: load("mmpretrain", "focal_loss").sigmoid_focal_loss),
           "logit 20, y = 1, gamma 0.5", 20.0, 1.0)
_below_one("kornia", lambda: load("kornia").binary_focal_loss_with_logits,
           lambda x, y: run(lambda z: load("kornia").binary_focal_loss_with_logits(z, torch.tensor([[y]]), alpha=0.25, gamma=0.5), [[x]]),
           "logit 20, y = 1, gamma 0.5", 20.0, 1.0, name="-binary", mend="mended by 0.9, in log space",
           what="Earlier, a power of a difference: NaN with gamma below 1.")
_below_one("kornia", lambda: load("kornia").focal_loss,
           lambda x, y: run(lambda z: load("kornia").focal_loss(z, torch.tensor([y]), None, 0.5), [x]), "scores (20, 0), class 0, gamma 0.5", [20.0, 0.0], 0,
           name="-softmax", mend=SOFT_FOCAL.format(0.5), what="The NaN of gamma below 1 was mended by 0.9: where 1 - p is 0 its power gets no gradient. Loss and gradient are still 0.")
_below_one("MONAI", lambda: load("MONAI").FocalLoss,
           lambda x, y: run(lambda z: load("MONAI").FocalLoss(gamma=0.5, alpha=0.25, reduction="none")(z, torch.tensor([[y]])), [[x]]),
           "logit 20, y = 1, gamma 0.5", 20.0, 1.0, name="-sigmoid",
           what="Log space: no NaN for any gamma, and the loss is right. The gradient is 0, because its cross-entropy is a difference.")
_below_one("MONAI", lambda: load("MONAI").FocalLoss,
           lambda x, y: run(lambda z: load("MONAI").FocalLoss(gamma=0.5, use_softmax=True, reduction="none")(z, torch.tensor([[1.0, 0.0]])), [x]),
           "scores (20, 0), class 0, gamma 0.5", [20.0, 0.0], 0, name="-softmax", mend=SOFT_FOCAL.format(0.5))
_below_one("optax", lambda: load("optax").sigmoid_focal_loss, lambda x, y: _jax_run(lambda z: load("optax").sigmoid_focal_loss(z, y, alpha=0.25, gamma=0.5), x),
           "logit 20, y = 1, gamma 0.5", 20.0, 1.0, mend="none needed", what="Log space throughout: loss and gradient are right.", kind="right")
_below_one("smp", lambda: load("smp").FocalLoss,
           lambda x, y: run(lambda z: load("smp").FocalLoss("binary", alpha=0.25, gamma=0.5, reduction="none")(z, torch.tensor([y])), [x]),
           "logit 20, y = 1, gamma 0.5", 20.0, 1.0)
_below_one("timm", lambda: load("timm").AsymmetricLossMultiLabel,
           lambda x, y: run(lambda z: load("timm").AsymmetricLossMultiLabel(0.5, 0.5, clip=0, reduction="none")(z, torch.tensor([[y]])), [[x]]),
           "logit 20, y = 1, both gammas 0.5", 20.0, 1.0, alpha=0.5)
_below_one("Keras", lambda: load("Keras").binary_focal_crossentropy,
           lambda x, y: run(lambda z: load("Keras").binary_focal_crossentropy(torch.tensor([[y]]), z, apply_class_balancing=True, gamma=0.5, from_logits=True), [[x]]),
           "logit 20, y = 1, gamma 0.5", 20.0, 1.0)
_below_one("bert4torch", lambda: load("bert4torch").FocalLoss, lambda x, y: run(lambda z: load("bert4torch").FocalLoss(gamma=0.5)(z, torch.tensor([y])), [x]),
           "scores (20, 0), class 0, gamma 0.5", [20.0, 0.0], 0, mend=SOFT_FOCAL.format(0.5))
_below_one("focal-loss-torch", lambda: load("focal-loss-torch").FocalLoss,
           lambda x, y: run(lambda z: load("focal-loss-torch").FocalLoss(gamma=0.5)(torch.sigmoid(z), torch.tensor([1])), [x]),
           "sigmoid(20), y = 1, gamma 0.5", 20.0, 1.0, alpha=0.5)


def _jax_run(loss, x):
    import jax
    value, slope = jax.value_and_grad(loss)(x)
    return float(value), torch.tensor(float(slope))


# torchvision

@fault("torchvision-cancel", "torchvision", TV, "1 - p_t cancels: a third too much at 15, nothing at 17.", "logits 15 and 17, y = 1, gamma 2",
       FOCAL.format(2), "rounding")
def _():
    f = lambda z: TV()(z, torch.ones(1), alpha=0.25, gamma=2.0)
    return [(f"loss at {x:g}", run(f, [x])[0], know_focal(x, 1.0, 2.0)[0]) for x in (15.0, 17.0)]


# kornia

@fault("kornia-lovasz", "kornia", lambda: load("kornia").lovasz_softmax_loss, "The Jaccard weights were built from class numbers instead of each class's own mask.",
       "4 pixels of 4 classes, each predicted as the next class", "mended by 0.9", "formula")
def _():
    pred = torch.zeros(1, 4, 1, 4)
    for pixel in range(4): pred[0, (pixel + 1) % 4, 0, pixel] = 1000.0
    # Each class meets no pixel of its own: Jaccard loss 1 for every class.
    return [("loss", load("kornia").lovasz_softmax_loss(pred, torch.arange(4).view(1, 1, 4)).item(), 1.0)]


@fault("kornia-tversky", "kornia", lambda: load("kornia").tversky_loss, "Only the sum of alpha and beta had an effect: false positives and false negatives were counted alike.",
       "probabilities (3/4, 1/4), (1/2, 1/2); classes 0 and 1; (alpha, beta) = (0.9, 0.1) and (0.1, 0.9)", "mended by 0.9", "formula")
def _():
    pred = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]]).view(1, 2, 1, 2)  # [class][pixel]
    def exact(a, b):
        q, h = sp.Rational(1, 4), sp.Rational(1, 2)
        first, second = 3 * q / (3 * q + a * h + b * q), h / (h + a * q + b * h)
        return float(1 - (first + second) / 2)
    tenth = sp.Rational(1, 10)
    return [(f"loss({a:g}, {b:g})", load("kornia").tversky_loss(pred, torch.tensor([[[0, 1]]]), a, b).item(), exact(int(10 * a) * tenth, int(10 * b) * tenth))
            for a, b in ((0.9, 0.1), (0.1, 0.9))]


@fault("kornia-masked", "kornia", lambda: load("kornia").focal_loss, "The one-hot target held 1e-6 for the other classes, and 1e-6 times infinity is infinite.",
       "scores (0, -inf, 1), class 0, gamma 2", "mended by 0.9", "NaN")
def _():
    value, slope = run(lambda z: load("kornia").focal_loss(z, torch.tensor([0]), None, 2.0), [[0.0, -INF, 1.0]])
    e = know_row(ce(0, 2), [0.0, -INF, 1.0], 0)
    return [("loss", value, e[0]), ("gradient of score 0", slope[0, 0].item(), e[1])]


@fault("kornia-behind", "kornia", lambda: load("kornia").focal_loss, "The right class at -inf: the loss is infinite, as it should be, and all gradients NaN.",
       "scores (-inf, 0), class 0, gamma 2", SOFT_FOCAL.format(2), "NaN")
def _():
    value, slope = run(lambda z: load("kornia").focal_loss(z, torch.tensor([0]), None, 2.0), [[-INF, 0.0]])
    return [("loss", value, INF), ("gradient of score 1", slope[0, 1].item(), 1.0)]


@fault("kornia-mean", "kornia", lambda: load("kornia").focal_loss, "The mean also divides by the number of classes, and by what is ignored: with gamma 0 it is cross-entropy over C.",
       "scores 0 of 5 classes, gamma 0", SOFT_FOCAL.format(0), "average", choice="documented since 0.9 under Convention")
def _():
    got = load("kornia").focal_loss(torch.zeros(1, 5), torch.tensor([0]), None, 0.0, "mean").item()
    return [("mean", got, know(sp.log(5)))]


# MONAI

@fault("MONAI-masked", "MONAI", lambda: load("MONAI").FocalLoss, "Softmax path: a class masked with -inf gives NaN, 0 times infinity.", "scores (0, -inf, 1), class 0, gamma 2",
       SOFT_FOCAL.format(2) + "; in MONAI: gather the target's log-probability", "NaN")
def _():
    f = lambda z: load("MONAI").FocalLoss(gamma=2.0, use_softmax=True, reduction="sum")(z, torch.tensor([[1.0, 0.0, 0.0]]))
    value, slope = run(f, [[0.0, -INF, 1.0]])
    e = know_row(ce(0, 2), [0.0, -INF, 1.0], 0)
    return [("loss", value, e[0]), ("gradient of score 0", slope[0, 0].item(), e[1])]


@fault("MONAI-unified-graph", "MONAI", lambda: load("MONAI").AsymmetricUnifiedFocalLoss, "With one channel, the prediction went through one_hot and lost its graph: nothing was trained.",
       "prediction of shape (1, 1, 1, 2) that requires grad", "mended by 1.6", "derivatives")
def _():
    p = torch.tensor([[[[0.3, 0.6]]]], requires_grad=True)
    out = load("MONAI").AsymmetricUnifiedFocalLoss()(p, torch.tensor([[[[0.0, 1.0]]]]))
    return [("requires grad", out.requires_grad, True)]


@fault("MONAI-unified-clamp", "MONAI", lambda: sys_monai().AsymmetricFocalLoss, "A probability below 1e-7 is clamped: the worst answers get no gradient.",
       "foreground predicted with 1e-9, delta 0.7", "log-probabilities instead of probabilities", "dead gradient")
def _():
    f = lambda p: sys_monai().AsymmetricFocalLoss()(torch.stack([1 - p, p]).view(1, 2, 1, 1), torch.tensor([0.0, 1.0]).view(1, 2, 1, 1))
    value, slope = run(f, 1e-9)
    d, p = sp.Rational(7, 10), sp.Rational(float(torch.tensor(1e-9)))
    return [("loss", value, know(-d * sp.log(p) / 2)), ("gradient", slope.item(), know(-d / p / 2))]


def sys_monai():
    "The file of the unified focal loss, whose parts the package does not export."
    import monai.losses.unified_focal_loss as module
    return module


@fault("MONAI-unified-half", "MONAI", lambda: load("MONAI").AsymmetricUnifiedFocalLoss, "A perfect prediction in float16: the clamp at 1 - 1e-7 is 1 there, and the slope of a power below 1 at 0 is infinite. "
       "In float32 the clamp stops that gradient, and it is 0.", "2 pixels, background and foreground, predicted with 0 and 1, float16", "compute in float32", "NaN")
def _():
    f = lambda p: load("MONAI").AsymmetricUnifiedFocalLoss()(torch.stack([1 - p, p]).view(1, 2, 1, 2), torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=p.dtype).view(1, 2, 1, 2))
    value, slope = run(f, [0.0, 1.0], dtype=torch.float16)
    return [("loss", value, 0.0), ("gradient", slope[0].item(), 0.0)]


@fault("MONAI-contrastive", "MONAI", lambda: load("MONAI").ContrastiveLoss, "exp(similarity / temperature) without its largest exponent taken out: overflow.",
       "two right and distinct pairs, temperature 0.01", "torch.logsumexp of the similarities", "NaN")
def _():
    pair = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    return [("loss", load("MONAI").ContrastiveLoss(temperature=0.01)(pair, pair).item(), know(sp.log(1 + 2 * sp.exp(-100))))]


# segmentation_models.pytorch

@fault("smp-bce-ignored", "smp", lambda: load("smp").SoftBCEWithLogitsLoss, "Ignored elements are zeroed and stay in the mean.", "logits 0, targets (1, -100, -100, -100)",
       BCE + "(..., mask=target != -100)", "average")
def _():
    return [("mean", load("smp").SoftBCEWithLogitsLoss()(torch.zeros(4), torch.tensor([1.0, -100, -100, -100])).item(), know(sp.log(2)))]


@fault("smp-ce-default", "smp", lambda: load("smp").SoftCrossEntropyLoss, "The default smooth_factor=None cannot be multiplied: the default loss raises.",
       "SoftCrossEntropyLoss()(scores (0, 0), class 0)", "smooth_factor=0.0", "refusal")
def _():
    return [("loss", tried(lambda: load("smp").SoftCrossEntropyLoss()(torch.zeros(1, 2), torch.tensor([0]))), know(sp.log(2)))]


@fault("smp-focal-probs", "smp", lambda: load("smp").FocalLoss, "from_logits=False: in float16 the upper clamp is 1 and the log infinite; with several classes log p is taken for a sigmoid's logit.",
       "binary, p = 1, y = 1, float16; multiclass, p = (0.7, 0.2, 0.1), class 0, gamma 0", "pass logits", "formula")
def _():
    half = load("smp").FocalLoss("binary", from_logits=False)(torch.ones(1, dtype=torch.float16), torch.ones(1)).item()
    several = load("smp").FocalLoss("multiclass", gamma=0.0, from_logits=False)(torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([0])).item()
    rest = sum(-sp.log(sp.Rational(float(torch.tensor(v)))) for v in (0.7, 0.8, 0.9)) / 3
    return [("binary", half, 0.0), ("multiclass, one against the rest", several, know(rest))]


@fault("smp-multiclass", "smp", lambda: load("smp").FocalLoss, "The mode multiclass is one sigmoid per class against the rest, not a softmax.", "scores (2, 0, 0), class 0, gamma 0",
       SOFT_FOCAL.format("...") + "; the unused helper softmax_focal_loss_with_logits", "formula", choice="a definition, not stated on the page of the loss")
def _():
    got = load("smp").FocalLoss("multiclass", gamma=0.0)(torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([0])).item()
    return [("loss, softmax", got, know_row(ce(0), [2.0, 0.0, 0.0]))]


@fault("smp-reduced", "smp", lambda: load("smp").FocalLoss, "Reduced focal loss jumps at its threshold unless that is 1/2.", "p_t just above 0.3, threshold 0.3, gamma 2",
       "threshold 0.5, the paper's, where it is continuous", "formula", choice="it is the paper's formula")
def _():
    x = math.log(0.3 / 0.7)
    f = lambda z: load("smp").FocalLoss("binary", reduced_threshold=0.3)(torch.tensor([z]), torch.ones(1)).item()
    below = know(-sp.log(sp.Rational(3, 10)))
    return [("loss below", f(x - 1e-4), below), ("loss above", f(x + 1e-4), below)]


@fault("smp-lovasz-probs", "smp", lambda: load("smp").LovaszLoss, "from_logits=False has no effect: probabilities go through a softmax again.",
       "2 pixels, 2 classes, predicted with probability 1 and right", "pass logits", "formula")
def _():
    p = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 2, 1, 2)
    return [("loss", load("smp").LovaszLoss("multiclass", from_logits=False)(p, torch.tensor([[[0, 1]]])).item(), 0.0)]


@fault("smp-mcc-half", "smp", lambda: load("smp").MCCLoss, "The product of four counts overflows in float16: a perfect prediction gets loss 1.", "16 pixels of each class, all right, float16",
       "square roots before the product, or float32", "rounding")
def _():
    y = torch.tensor([0.0, 1.0] * 16, dtype=torch.float16).view(1, 4, 8)
    return [("loss", load("smp").MCCLoss()(y, y).item(), 0.0)]


# timm

@fault("timm-asl-clamp", "timm", lambda: load("timm").AsymmetricLossMultiLabel, "log(clamp(p, 1e-8)): below a logit of -18.4 the loss stands still and the gradient is 0.",
       "logit -25, y = 1, gamma 0", "logsigmoid; for equal gammas " + FOCAL.format("..."), "dead gradient")
def _():
    value, slope = run(lambda z: load("timm").AsymmetricLossMultiLabel(0, 0, clip=0, reduction="none")(z, torch.ones(1, 1)), [[-25.0]])
    e = know_bce(-25.0, 1)
    return [("loss", value, e[0]), ("gradient", slope.item(), e[1])]


@fault("timm-asl-half", "timm", lambda: load("timm").AsymmetricLossMultiLabel, "In float16 the clamp 1e-8 was 0 and the loss infinite.", "logit -15, y = 1, gamma 0, float16",
       "mended, by computing in float32", "NaN")
def _():
    f = lambda z: load("timm").AsymmetricLossMultiLabel(0, 0, clip=0, reduction="none")(z, torch.ones(1, 1))
    return [("loss", run(f, [[-15.0]], dtype=torch.float16)[0], know_bce(-15.0, 1)[0])]


@fault("timm-asl-grad-mode", "timm", lambda: load("timm").AsymmetricLossMultiLabel, "In the authors' ASL, the option that keeps the weights out of the gradient switches gradients on for all that follows, even inside no_grad. Here it is a context, and does not.",
       "a call inside torch.no_grad(), disable_torch_grad_focal_loss=True", "mended, by a context", "derivatives")
def _():
    with torch.no_grad():
        load("timm").AsymmetricLossMultiLabel(disable_torch_grad_focal_loss=True)(torch.zeros(1, 1), torch.ones(1, 1))
        leaked = torch.is_grad_enabled()
    return [("gradients on after the call", leaked, False)]


def _soft_masked(peer, where, form, mend=CE):
    @fault(f"{peer}-soft-masked", peer, where, "A class masked with -inf gives NaN with a soft target: 0 times infinity.", "scores (0, -inf, 1), target (1, 0, 0)", mend, "NaN")
    def _():
        return [("loss", form(torch.tensor([[0.0, -INF, 1.0]]), torch.tensor([[1.0, 0.0, 0.0]])), know_row(ce(0), [0.0, -INF, 1.0]))]


_soft_masked("timm", lambda: load("timm").SoftTargetCrossEntropy, lambda z, t: load("timm").SoftTargetCrossEntropy()(z, t).item())
_soft_masked("mmpretrain", lambda: load("mmpretrain", "cross_entropy_loss").soft_cross_entropy,
             lambda z, t: load("mmpretrain", "cross_entropy_loss").soft_cross_entropy(z, t).item())
_soft_masked("optax", lambda: load("optax").softmax_cross_entropy, lambda z, t: float(load("optax").softmax_cross_entropy(_jax(z), _jax(t))[0]),
             "optax.safe_softmax_cross_entropy, which is right here, or its argument where")


def _jax(t):
    import jax.numpy as jnp
    return jnp.asarray(t.numpy())


def _cancelling_sets(peer, where, form):
    @fault(f"{peer}-zlpr-zero", peer, where, "A right and sure set costs nothing: the log-sum-exp rounds to the 0 that it holds. The gradient is right.",
           "scores (20, -20), class 0 is a label", ZLPR, "rounding")
    def _():
        value, slope = run(form, [[20.0, -20.0]])
        e = know_row(zlpr((1, 0)), [20.0, -20.0], 0)
        return [("loss", value, e[0]), ("gradient of score 0", slope[0, 0].item(), e[1])]


_cancelling_sets("timm", lambda: load("timm").ZlprLoss, lambda z: load("timm").ZlprLoss()(z, torch.tensor([[1.0, 0.0]])))
_cancelling_sets("bert4torch", lambda: load("bert4torch").MultilabelCategoricalCrossentropy,
                 lambda z: load("bert4torch").MultilabelCategoricalCrossentropy()(z, torch.tensor([[1.0, 0.0]])))


@fault("timm-jsd-hooks", "timm", lambda: load("timm").JsdCrossEntropy.__call__, "The loss is written as __call__ instead of forward, so the hooks of the module never run.",
       "a forward hook that counts", "rename it to forward", "derivatives")
def _():
    seen, loss = [], load("timm").JsdCrossEntropy()
    loss.register_forward_hook(lambda *a: seen.append(1))
    loss(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64))
    return [("hooks run", str(len(seen)), "1")]


# mmdetection, mmpretrain

@fault("mmdetection-gaussian-half", "mmdetection", lambda: load("mmdetection", "gaussian_focal_loss").gaussian_focal_loss, "The added 1e-12 is 0 in float16: the centre that is predicted perfectly gives NaN.",
       "prediction 1, target 1, float16", "logits and logsigmoid, or float32", "NaN")
def _():
    one = torch.ones(1, dtype=torch.float16)
    out = load("mmdetection", "gaussian_focal_loss").gaussian_focal_loss(one, one, reduction="sum")
    return [("loss", out.item(), 0.0)]


@fault("mmpretrain-seesaw-eval", "mmpretrain", lambda: load("mmpretrain", "seesaw_loss").SeesawLoss, "The class counts are updated by every call, in evaluation too: looking at a loss changes training.",
       "SeesawLoss(num_classes=2).eval(), one row", "update only if self.training", "formula")
def _():
    loss = load("mmpretrain", "seesaw_loss").SeesawLoss(num_classes=2).eval()
    loss(torch.zeros(1, 2), torch.tensor([0]))
    return [("count after the call", float(loss.cum_samples.sum()), 0.0)]


# Keras

def _keras_behind(name, where, form, given, exact, mend):
    @fault(f"Keras-{name}", "Keras", where, "from_logits=True takes the probability first and clips it at 1e-7: a wrong answer stands at 16.1, without a gradient.",
           given, mend, "dead gradient")
    def _():
        value, slope = form()
        return [("loss", value, exact()[0]), ("gradient", slope.flatten()[0].item(), exact()[1])]


_keras_behind("binary-focal", lambda: load("Keras").binary_focal_crossentropy,
              lambda: run(lambda z: load("Keras").binary_focal_crossentropy(torch.ones(1, 1), z, gamma=2.0, from_logits=True), [[-20.0]]),
              "logit -20, y = 1, gamma 2", lambda: [2 * v for v in know_focal(-20.0, 1.0, 2.0, 0.5)], FOCAL.format(2))
_keras_behind("categorical-focal", lambda: load("Keras").categorical_focal_crossentropy,
              lambda: run(lambda z: load("Keras").categorical_focal_crossentropy(torch.tensor([[1.0, 0.0]]), z, alpha=1.0, gamma=2.0, from_logits=True), [[-20.0, 0.0]]),
              "scores (-20, 0), class 0, gamma 2", lambda: know_row(ce(0, 2), [-20.0, 0.0], 0), SOFT_FOCAL.format(2))


@fault("Keras-circle", "Keras", lambda: load("Keras").circle, "The weights of the similarities are differentiated too. The paper's gradient holds them fixed; for a negative similarity the sign turns and pushes the pair together.",
       "similarities 0.2 (same class) and -0.2 (other class), gamma 80, margin 0.4", "stop_gradient around both weights", "formula")
def _():
    refs = torch.tensor([[0.2, math.sqrt(0.96)], [-0.2, math.sqrt(0.96)]], requires_grad=True)
    labels = torch.tensor([0, 1])
    loss = load("Keras").circle(labels[:1], torch.tensor([[1.0, 0.0]]), ref_labels=labels, ref_embeddings=refs, remove_diagonal=False)
    (slope,) = torch.autograd.grad(loss.sum(), refs)
    q, m, g = sp.Rational(1, 5), sp.Rational(2, 5), 80
    z = g * (1 + m - q) * (1 - m - q) + g * (-q + m) * (-q - m)
    return [("loss", loss.item(), know(sp.log(1 + sp.exp(z)))), ("gradient of the negative similarity", slope[1, 0].item(), know(g * (m - q) / (1 + sp.exp(-z))))]


@fault("Keras-gce", "Keras", lambda: load("Keras").categorical_generalized_cross_entropy, "A probability that underflows to 0 has an infinite gradient, and the softmax before it makes NaN of that.",
       "softmax of (-200, 0), class 0, q = 0.7", "exp(q * log_softmax)", "NaN")
def _():
    f = lambda z: load("Keras").categorical_generalized_cross_entropy(torch.tensor([0]), torch.softmax(z, 1), 0.7)
    value, slope = run(f, [[-200.0, 0.0]])
    return [("loss", value, ratio(10, 7)), ("gradient, which rounds to 0", slope[0, 0].item(), 0.0)]


@fault("Keras-ignore-half", "Keras", lambda: load("Keras").sparse_categorical_crossentropy, "ignore_class is cast to the dtype of the prediction, and float16 has no 2049: its neighbour 2048 is ignored too.",
       "class 2048 of 2050, ignore_class=2049, float16", "compare integers", "dtype")
def _():
    out = load("Keras").sparse_categorical_crossentropy(torch.tensor([2048]), torch.zeros(1, 2050, dtype=torch.float16), from_logits=True, ignore_class=2049)
    return [("loss", out.item(), know(sp.log(2050)))]


# optax

@fault("optax-safe", "optax", lambda: load("optax").safe_softmax_cross_entropy, "A masked class and a soft target: right.", "scores (0, -inf, 1), target (1, 0, 0)", "none needed", "right")
def _():
    z, t = torch.tensor([[0.0, -INF, 1.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    return [("loss", float(load("optax").safe_softmax_cross_entropy(_jax(z), _jax(t))[0]), know_row(ce(0), [0.0, -INF, 1.0]))]


@fault("optax-offset", "optax", lambda: load("optax").softmax_cross_entropy_with_integer_labels, "log-sum-exp and the score are subtracted after the common offset has swallowed their digits.",
       "scores (1e8, 1e8), class 0", "subtract the largest score from both first, as optax.softmax_cross_entropy does", "rounding")
def _():
    import jax.numpy as jnp
    return [("loss", float(load("optax").softmax_cross_entropy_with_integer_labels(jnp.full((1, 2), 1e8), jnp.array([0]))[0]), know(sp.log(2)))]


@fault("optax-integer-zero", "optax", lambda: load("optax").softmax_cross_entropy_with_integer_labels, "A right and sure row costs nothing: log-sum-exp and the score cancel.",
       "scores (17, 0), class 0", CE, "rounding")
def _():
    import jax.numpy as jnp
    return [("loss", float(load("optax").softmax_cross_entropy_with_integer_labels(jnp.array([[17.0, 0.0]]), jnp.array([0]))[0]), know_row(ce(0), [17.0, 0.0]))]


@fault("optax-dice-jit", "optax", lambda: load("optax").dice_loss, "With probabilities, an if asks for their values: the loss cannot be compiled. For one channel they would have to sum to 1.",
       "jax.jit(dice_loss), p = (1/2, 1/2); binary_dice_loss, p = 1/2, y = 1", "checkify, or no check", "refusal")
def _():
    import jax
    import jax.numpy as jnp
    p, t = jnp.full((1, 1, 2), 0.5), jnp.array([[[1.0, 0.0]]])
    jitted = tried(lambda: jax.jit(lambda p, t: load("optax").dice_loss(p, t, apply_softmax=False))(p, t)[0])
    binary = tried(lambda: load("optax").binary_dice_loss(jnp.full((1, 1), 0.5), jnp.ones((1, 1)), apply_sigmoid=False)[0])
    # smooth = 1: (1/2 + 1)/(1/2 + 1/4 + 1) for class 0 and for the binary case, 1/(1/4 + 1) for class 1.
    return [("compiled", jitted, ratio(6, 35)), ("binary", binary, ratio(1, 7))]


# bert4torch

@fault("bert4torch-sparse", "bert4torch", lambda: load("bert4torch").SparseMultilabelCategoricalCrossentropy, "The sum over the other classes is found as log(1 - exp(...)), clamped at 1e-7. "
       "A sure label makes the loss large, and its gradient is +1: descent takes the right score down.", "scores (20, 0), class 0 is the label", SPARSE, "formula")
def _():
    value, slope = run(lambda z: load("bert4torch").SparseMultilabelCategoricalCrossentropy()(z, torch.tensor([[0]])), [[20.0, 0.0]])
    e = know_row(zlpr((1, 0)), [20.0, 0.0], 0)
    return [("loss", value, e[0]), ("gradient of the label", slope[0, 0].item(), e[1])]


@fault("bert4torch-sparse-3", "bert4torch", lambda: load("bert4torch").SparseMultilabelCategoricalCrossentropy, "The same clamp, with a competitor: the gradient belongs on the class that is wrong, and lands on the label.",
       "scores (30, 12, 0), class 0 is the label", SPARSE, "formula")
def _():
    _, slope = run(lambda z: load("bert4torch").SparseMultilabelCategoricalCrossentropy()(z, torch.tensor([[0]])), [[30.0, 12.0, 0.0]])
    exact = [know_row(zlpr((1, 0, 0)), [30.0, 12.0, 0.0], i)[1] for i in range(3)]
    return [(f"gradient of score {i}", slope[0, i].item(), exact[i]) for i in range(3)]


@fault("bert4torch-zlpr-far", "bert4torch", lambda: load("bert4torch").MultilabelCategoricalCrossentropy, "exp(score - log-sum-exp) takes over the rounding of the log-sum-exp: the gradients are off.",
       "scores (1e6, 1e6), no label", ZLPR, "rounding")
def _():
    scores = [1e6, 1e6]
    _, slope = run(lambda z: load("bert4torch").MultilabelCategoricalCrossentropy()(z, torch.zeros(1, 2)), [scores])
    return [("gradient of score 0", slope[0, 0].item(), know_row(zlpr((0, 0)), scores, 0)[1])]


@fault("bert4torch-zlpr-soft", "bert4torch", lambda: load("bert4torch").MultilabelCategoricalCrossentropy, "A soft label counts as neither: both sums lose the class.", "scores (0, 0), labels (0.9, 0.1)",
       ZLPR + " takes soft labels", "refusal", choice="documented: labels are 0 or 1; they are not checked")
def _():
    got = load("bert4torch").MultilabelCategoricalCrossentropy()(torch.zeros(1, 2), torch.tensor([[0.9, 0.1]])).item()
    return [("loss", got, know(2 * sp.log(2)))]


@fault("bert4torch-zlpr-inf", "bert4torch", lambda: load("bert4torch").MultilabelCategoricalCrossentropy, "A label at -inf: the loss is infinite, as it should be, and the gradients NaN.",
       "scores (-inf, 0), class 0 is a label", ZLPR, "NaN")
def _():
    value, slope = run(lambda z: load("bert4torch").MultilabelCategoricalCrossentropy()(z, torch.tensor([[1.0, 0.0]])), [[-INF, 0.0]])
    return [("loss", value, INF), ("gradient of score 0", slope[0, 0].item(), -1.0), ("gradient of score 1", slope[0, 1].item(), 0.5)]


@fault("bert4torch-masked", "bert4torch", lambda: load("bert4torch").FocalLoss, "A class masked with -inf: the loss is right, the gradients NaN.", "scores (0, -inf, 1), class 0, gamma 2",
       SOFT_FOCAL.format(2), "NaN")
def _():
    value, slope = run(lambda z: load("bert4torch").FocalLoss(gamma=2)(z, torch.tensor([0])), [[0.0, -INF, 1.0]])
    e = know_row(ce(0, 2), [0.0, -INF, 1.0], 0)
    return [("loss", value, e[0]), ("gradient of score 0", slope[0, 0].item(), e[1]), ("gradient of the masked class", slope[0, 1].item(), 0.0)]


@fault("bert4torch-smoothing", "bert4torch", lambda: load("bert4torch").LabelSmoothingCrossEntropy, "The smoothed part also counts the rows that are ignored.", "scores (0, 0), class 0, beside (5, 0), ignored; smoothing 0.1",
       CE, "average")
def _():
    got = load("bert4torch").LabelSmoothingCrossEntropy(eps=0.1)(torch.tensor([[0.0, 0.0], [5.0, 0.0]]), torch.tensor([0, -100])).item()
    return [("loss", got, know(sp.log(2)))]


# pytorch-metric-learning

def _near(x=1e-4): return float(torch.tensor(x))


@fault("PML-arcface", "PML", lambda: load("PML").ArcFaceLoss, "acos has an infinite slope at 1, and a cosine that rounds to 1 is enough: NaN.", "embedding (1, 1e-4), weights (1, 0) and (0, 1), margin 28.6, scale 1",
       "cos(t + m) from the cosine and the sine, without acos; the sine by atan2 or a difference of vectors", "NaN")
def _():
    loss = load("PML").ArcFaceLoss(num_classes=2, embedding_size=2, scale=1)
    loss.W.data = torch.eye(2)
    _, slope = run(lambda z: loss(z, torch.tensor([0])), [[1.0, _near()]])
    x, m = sp.Symbol("x", positive=True), sp.Rational(math.radians(28.6))
    cos, sin = 1 / sp.sqrt(1 + x**2), x / sp.sqrt(1 + x**2)
    cm, sm = (sp.Rational(float(f(m).evalf(30))) for f in (sp.cos, sp.sin))
    return [("gradient", slope[0, 1].item(), know(sp.log(1 + sp.exp(sin - (cos * cm - sin * sm))).diff(x), (x, _near())))]


@fault("PML-tuplet", "PML", lambda: load("PML").TupletMarginLoss, "acos of a cosine that rounds to 1: two positives that are nearly the same give NaN.",
       "embeddings (1, 0) and (1, 1e-4) of one class, (0, 1) of another, margin 5.73, scale 1", "cos(t - m) from the cosine and the sine", "NaN")
def _():
    loss = load("PML").TupletMarginLoss(scale=1)
    _, slope = run(lambda z: loss(z, torch.tensor([0, 0, 1])), [[1.0, 0.0], [1.0, _near()], [0.0, 1.0]])
    x, m = sp.Symbol("x", positive=True), sp.Rational(math.radians(5.73))
    cos, sin = 1 / sp.sqrt(1 + x**2), x / sp.sqrt(1 + x**2)
    cm, sm = (sp.Rational(float(f(m).evalf(30))) for f in (sp.cos, sp.sin))
    pos = cos * cm + sin * sm
    return [("gradient", slope[1, 1].item(), know(((sp.log(1 + sp.exp(-pos)) + sp.log(1 + sp.exp(sin - pos))) / 2).diff(x), (x, _near())))]


@fault("PML-ntxent", "PML", lambda: load("PML").NTXentLoss, "log(ratio + smallest float): the loss of a hard positive is capped at 87.3, and its gradient fades.",
       "embeddings (1, 0), (-1, 0) of one class, (1, 0) of another, temperature 0.01", "a difference of log-sum-exps, as PML's SupConLoss does", "dead gradient")
def _():
    got = load("PML").NTXentLoss(temperature=0.01)(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 0, 1])).item()
    return [("loss", got, know((sp.log(1 + sp.exp(200)) + sp.log(2)) / 2))]


@fault("PML-nca", "PML", lambda: load("PML").NCALoss, "Rows whose probability underflows are left out: the hardest examples are not trained.", "embeddings (1, 0), (-1, 0) of one class, (1, 0) of another, softmax_scale 200",
       "log_softmax and a log-sum-exp over the same class", "dead gradient")
def _():
    got = load("PML").NCALoss(softmax_scale=200)(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 0, 1])).item()
    # The first row's positive is 4 away squared and its negative 0; for the second both are 4 away. The third has no positive.
    return [("loss", got, know((sp.log(1 + sp.exp(800)) + sp.log(2)) / 2))]


@fault("PML-supcon", "PML", lambda: load("PML").SupConLoss, "The same pairs as in the row of NTXentLoss, by differences of log-sum-exps: right.",
       "embeddings (1, 0), (-1, 0) of one class, (1, 0) of another, temperature 0.01", "none needed", "right")
def _():
    got = load("PML").SupConLoss(temperature=0.01)(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 0, 1])).item()
    return [("loss", got, know((sp.log(1 + sp.exp(200)) + sp.log(2)) / 2))]


@fault("PML-circle", "PML", lambda: load("PML").CircleLoss, "Log-sum-exp, weights held fixed, scale 256 in float16: right.", "embeddings (1, 0), (0.6, 0.8) of one class, (0, 1) of another, m 0.25, gamma 256, float16",
       "none needed", "right")
def _():
    got = load("PML").CircleLoss(m=0.25, gamma=256)(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], dtype=torch.float16), torch.tensor([0, 0, 1])).item()
    m, g = sp.Rational(1, 4), 256
    z = lambda p, n: g * ((1 + m - p) * (1 - m - p) + (n + m) * (n - m))
    first, second = (sp.log(1 + sp.exp(z(sp.Rational(3, 5), n))) for n in (0, sp.Rational(4, 5)))
    return [("loss", got, know((first + second) / 2))]  # the third has no positive and is left out of the mean


# focal-loss-torch, balanced-loss

@fault("focal-loss-torch-cap", "focal-loss-torch", lambda: load("focal-loss-torch").FocalLoss, "log(1e-16 + p): the loss is capped at 36.8, and the gradient is gone.", "sigmoid(-50), y = 1, gamma 0",
       BCE, "dead gradient")
def _():
    value, slope = run(lambda z: load("focal-loss-torch").FocalLoss(gamma=0)(torch.sigmoid(z), torch.tensor([1])), [-50.0])
    e = know_bce(-50.0, 1)
    return [("loss", value, e[0]), ("gradient", slope.item(), e[1])]


@fault("balanced-loss-overflow", "balanced-loss", lambda: load("balanced-loss").focal_loss, "log(1 + exp(-x)) overflows: the worst answer gets loss 0 and gradient NaN.", "logit -100, y = 1, gamma 2",
       FOCAL.format(2) + "; in the formula: softplus(-x)", "NaN")
def _():
    value, slope = run(lambda z: load("balanced-loss").focal_loss(z, torch.ones(1, 1)), [[-100.0]])
    e = know_focal(-100.0, 1.0, 2.0, 0.5)
    return [("loss", value, 2 * e[0]), ("gradient", slope.item(), 2 * e[1])]


@fault("balanced-loss-weights", "balanced-loss", lambda: load("balanced-loss").Loss, "Class weights go to cross_entropy with a one-hot target, whose mean divides by the rows and not by the weights.",
       "scores 0, class 0 twice, counts 1 and 9, beta 0.5", "the class index instead of the one-hot target; " + CE, "average")
def _():
    loss = load("balanced-loss").Loss("cross_entropy", beta=0.5, samples_per_class=[1, 9], class_balanced=True)
    return [("loss", loss(torch.zeros(2, 2), torch.tensor([0, 0])).item(), know(sp.log(2)))]


# entmax

@fault("entmax-ignore", "entmax", lambda: load("entmax").SparsemaxLoss, "The default ignore_index=-100 is taken for a class number.", "scores 0, target -100, default arguments", "ignore_index of 0 or more", "refusal")
def _():
    return [("loss", tried(lambda: load("entmax").SparsemaxLoss(reduction="sum")(torch.zeros(1, 2), torch.tensor([-100]))), 0.0)]


@fault("entmax-ignored", "entmax", lambda: load("entmax").SparsemaxLoss, "The mean over nothing is NaN.", "one row, ignored", "reduction=\"sum\" and a denominator of your own", "average",
       choice="as in PyTorch")
def _():
    return [("loss", tried(lambda: load("entmax").SparsemaxLoss(ignore_index=1)(torch.zeros(1, 2), torch.tensor([1]))), 0.0)]


@fault("entmax-dims", "entmax", lambda: load("entmax").SparsemaxLoss, "Rows only: scores with further dimensions are refused by an inner step.", "scores (1, 2, 3), classes (1, 3)", "move the classes to the last dimension and flatten",
       "refusal", choice="documented: two dimensions")
def _():
    # All scores 0: the projection is (1/2, 1/2), the loss (1 - 1/2)/2 + 1/2*0 = 1/4.
    return [("loss", tried(lambda: load("entmax").SparsemaxLoss()(torch.zeros(1, 2, 3), torch.zeros(1, 3, dtype=torch.int64))), 0.25)]


@fault("entmax-second", "entmax", lambda: load("entmax").sparsemax_loss, "The backward of the loss is not differentiated: the second derivative is missing.", "scores (0.5, 0), class 0, float64",
       "compute the projection again in backward, or write the loss as its Fenchel-Young sum", "derivatives")
def _():
    def second():
        z = torch.tensor([[0.5, 0.0]], dtype=torch.float64, requires_grad=True)
        (g,) = torch.autograd.grad(load("entmax").sparsemax_loss(z, torch.tensor([0])).sum(), z, create_graph=True)
        return torch.autograd.grad(g[0, 0], z)[0][0, 0]
    return [("second derivative in score 0", tried(second), 0.5)]


# What is not run, and why.

NOT_RUN = [
    ("bert4keras", "sparse_multilabel_categorical_crossentropy", "needs TensorFlow; its formula is that of bert4torch's sparse loss, which is run"),
    ("ASL", "the authors' AsymmetricLoss", "authors' repository, no release to pin; timm's descends from it, and is run"),
    ("CB-loss", "focal_loss", "authors' repository, no release to pin; balanced-loss has the same formula, and is run"),
    ("LDAM-DRW", "FocalLoss, LDAMLoss", "authors' repositories, no release to pin"),
    ("CoinCheung/pytorch-loss", "label smoothing, Taylor softmax, PC-softmax", "authors' repositories, no release to pin"),
    ("AdeelH, itakurah", "multi-class focal losses", "authors' repositories, no release to pin"),
    ("Liger kernel", "cross-entropy, fused linear cross-entropy", "its kernels need a GPU"),
    ("torchvision, mmcv", "compiled focal-loss kernels", "they need compiled extensions that do not match the torch used here"),
]


def shown(progress=lambda line: None, wanted=()) -> list:
    "The rows of all faults whose peer is installed."
    rows = []
    for f in FAULTS:
        if release(f.peer) is None or (wanted and f.peer not in wanted):
            continue
        progress(f"{f.peer}: {f.name}")
        rows.append(f.run())
    return rows
