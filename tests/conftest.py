"""Shared by all tests: the catalogue as parameters, and the device as a parameter that says when it cannot run."""
import pytest
import torch
from browsing import browser, pytest_terminal_summary, server, site, tab  # noqa: F401 (fixtures: named in one place, so that one browser serves every file of tests)

from lossbook.audit import make_subject
from lossbook.catalogue import catalogue
from lossbook.sets import to_indices

CLAIMS = catalogue()
DTYPES = ("float64", "float32", "float16", "bfloat16")


def each_claim(select=lambda claim: True):
    "Parametrise a test over the claims of the catalogue."
    chosen = [c for c in CLAIMS if select(c)]
    return pytest.mark.parametrize("claim", chosen, ids=[c.name for c in chosen])


def pointwise(claim): return claim.kind == "pointwise"
def of_rows(claim): return claim.kind == "softmax"
def of_sets(claim): return claim.kind in ("sets", "sparse")
def dense_sets(claim): return claim.kind == "sets"


def subject_of(claim, loss=None):
    "The claim as a subject of the audit, or another callable held to the same spec."
    return make_subject(claim, loss)


def make_inputs(claim, *shape, dtype=torch.float64, device="cpu", seed=0, soft=False):
    """Ordinary first arguments and targets for a claim. For losses of rows, five classes in dim 1 and class indices;
    for losses of sets, five classes in the last dim and zeros and ones, or padded indices."""
    generator = torch.Generator().manual_seed(seed)
    if of_sets(claim):
        first = torch.randn((*shape, 5), generator=generator, dtype=torch.float64) * 3
        first = torch.tanh(first) if claim.domain == "similarity" else first
        target = torch.rand((*shape, 5), generator=generator) < 0.4
        if soft and claim.traits["soft"]: target = torch.rand((*shape, 5), generator=generator, dtype=torch.float64).to(dtype)
        return first.to(device, dtype), (to_indices(target) if claim.traits.get("indices") else target).to(device)
    if claim.kind == "softmax":
        first = torch.randn((*shape[:1], 5, *shape[1:]) if shape else (5,), generator=generator, dtype=torch.float64) * 3
        target = torch.randint(0, 5, shape, generator=generator)
        if soft: target = torch.softmax(torch.randn(first.shape, generator=generator, dtype=torch.float64), 1).to(dtype)
        return first.to(device, dtype), target.to(device)
    first = torch.randn(shape, generator=generator, dtype=torch.float64) * 3
    first = torch.sigmoid(first) if claim.domain == "probs" else first
    target = torch.rand(shape, generator=generator, dtype=torch.float64)
    target = target if soft else (target < 0.5).double()
    return first.to(device, dtype), target.to(device, dtype)


def one_per_example(claim, tensor, first):
    "A mask or the like with the shape that the claim wants: that of the examples, or for losses of sets that of the scores."
    return tensor.unsqueeze(-1).expand(first.shape) if of_sets(claim) else tensor


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device: this test ran on the CPU only")
    return request.param
