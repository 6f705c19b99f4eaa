"""The page "Which loss?": is every public loss offered, was every call executed, does every symptom show what it says?"""
import html
import inspect
import re

import pytest
from conftest import CLAIMS
from pages import cells, dead, shown, source, texts

import lossbook

PAGE = "nbs/evidence/choose.ipynb"
TASKS = ["yes or no", "one class of many", "any number of classes", "exactly k", "starts and ends in a text", "heavy imbalance", "some labels are wrong",
         "labels are shares", "classes that are not allowed", "16-bit training"]
SYMPTOMS = {  # the heading, and what its lines must show
    "NaN": r"one-hot target: nan\nall rows ignored: nan\nthe slope of a power at 0: nan",
    "Stuck at 9.21": r"loss 9\.21, gradient 0\nclamp at 1e-07: stuck at 16\.1\n",
    "It never falls below a number": r"0\.9048 for five classes, 0\.3133 for yes or no",
    "The loss is 0 and the answer is wrong": r"score -8: 0\.0\nno, logit 0: 0\.0",
    "The gradient vanishes": r"loss 100: gradient 0\nPyTorch, a right answer: gradient 0\nhere, label 0, loss 20: gradient 1\n",
    "The probabilities are too timid": r"\[0\.1, 0\.3, 0\.5, 0\.7, 0\.9\]\n\[0\.003, 0\.094, 0\.5, 0\.906, 0\.997\]",
}


def calls():
    "The calls in the tables, as the reader sees them."
    rows = [r for cell in cells(PAGE) for r in re.findall(r'<tr role="row">(.*?)</tr>', shown(cell, "text/html")) if "<td" in r]
    return [html.unescape(re.search(r"<code>(.*?)</code>", r)[1].replace("<wbr>", "")) for r in rows]


def test_every_loss_is_offered_with_its_chapter():
    text, offered = "\n".join(texts(PAGE)), {re.search(r"\.(\w+)\(", call)[1] for call in calls()}
    assert offered == {c.name for c in CLAIMS} | {"span_loss"}
    for claim in CLAIMS: assert f'href="{claim.chapter.replace("nbs/", "../").replace(".ipynb", ".html")}"' in text


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_row(task):
    assert re.search(rf'data-sort="[^"]*">{task}|<td role="cell">{task}', "\n".join(texts(PAGE)))


def test_a_call_names_only_options_that_exist():
    for call in calls():
        function = getattr(lossbook, re.search(r"\.(\w+)\(", call)[1], None)
        if function is None: continue
        given = re.findall(r"(\w+)=", re.sub(r"\(min=1\)", "", call))
        assert set(given) <= set(inspect.signature(function).parameters), call


@pytest.mark.parametrize("heading", SYMPTOMS)
def test_a_symptom_is_produced(heading):
    every = cells(PAGE)
    [start] = [i for i, c in enumerate(every) if c["cell_type"] == "markdown" and f"### {heading}\n" in source(c)]
    printed = "".join("".join(out.get("text", [])) for c in every[start + 1:start + 3] for out in c.get("outputs", []))
    assert re.search(SYMPTOMS[heading], printed), printed


def test_no_link_is_dead():
    assert not [link for text in texts(PAGE) for link in dead(PAGE, text)]
