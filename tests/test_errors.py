"""Is bad input refused, with an answer that helps?"""
import inspect

import pytest
import torch
from conftest import CLAIMS, each_claim

REFUSALS = [(claim, *case) for claim in CLAIMS for case in claim.refuses]


@pytest.mark.parametrize("claim,what,call,kind,words", REFUSALS, ids=[f"{c.name}-{w}" for c, w, *_ in REFUSALS])
def test_refused(claim, what, call, kind, words):
    with pytest.raises(kind) as error: claim.loss(**call)
    assert words in str(error.value)


@each_claim()
def test_refusals_name_an_argument_of_the_loss(claim):
    names = set(inspect.signature(claim.loss).parameters)
    assert len(claim.refuses) >= 12
    for what, call, kind, words in claim.refuses: assert words.split(":")[0] in names, what


@each_claim()
def test_options_are_keyword_only_and_typos_fail(claim):
    first, target = torch.full((3,), 0.5), torch.ones(3)
    with pytest.raises(TypeError): claim.loss(first, target, None)
    with pytest.raises(TypeError): claim.loss(first, target, reductoin="sum")
    with pytest.raises(TypeError, match="unknown option"): claim.module(reductoin="sum")


@each_claim()
def test_modules_refuse_options_when_built(claim):
    with pytest.raises(ValueError, match="reduction: got 'average'"): claim.module(**{**claim.options, "reduction": "average"})
    if "label_smoothing" in inspect.signature(claim.loss).parameters:
        with pytest.raises(ValueError, match="label_smoothing: got -1"): claim.module(label_smoothing=-1)


@each_claim()
def test_checks_do_not_change_arguments(claim):
    for what, call, kind, _ in claim.refuses:
        before = {k: v.clone() for k, v in call.items() if isinstance(v, torch.Tensor) and v.device.type != "meta"}
        with pytest.raises(kind): claim.loss(**call)
        for k, v in before.items(): assert torch.equal(v, call[k]) or v.isnan().any()


def test_a_module_asks_for_the_options_that_have_no_default():
    import lossbook
    with pytest.raises(TypeError, match="BoundedSubsetSoftmaxLoss: missing option max_labels"): lossbook.BoundedSubsetSoftmaxLoss()
