"""Does a mean over two processes equal the mean of one? Every loss, with what does not count, on two real processes."""
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import CLAIMS
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent

SCRIPT = '''
import json, os, sys
sys.path[:0] = [{root!r}, {tests!r}]
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from conftest import CLAIMS, make_inputs, of_rows, of_sets, pointwise, subject_of

dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()


class Scores(torch.nn.Module):
    "First arguments as parameters, so that the gradient of every element is seen."
    def __init__(self, first):
        super().__init__()
        self.first = torch.nn.Parameter(first.clone())

    def forward(self, rows): return self.first[rows]


def counted(claim, target, mask, rows):
    "What the mean of the loss divides by, for some rows."
    if pointwise(claim): return mask[rows].sum()
    if of_rows(claim): return (mask[rows] & (target[rows] != -100)).sum()
    some = mask[rows].any(-1)
    if claim.name == "circle_loss":
        y = target[rows]
        some = (mask[rows] & y).any(-1) & (mask[rows] & ~y).any(-1)
    return some.sum()


found = {{}}
for claim in CLAIMS:
    first, target = make_inputs(claim, 12)
    mask = (torch.arange(first.numel()).reshape(first.shape) % 5 > 0) if not of_rows(claim) else torch.arange(12) % 5 > 0
    if of_sets(claim): mask = mask & (torch.arange(12) % 4 > 0)[:, None]
    parts = [torch.arange(0, 3), torch.arange(3, 12)]

    def gradient(rows, wrap, normalizer=None):
        model = Scores(first)
        net = DistributedDataParallel(model) if wrap else model
        claim.loss(net(rows), target[rows], mask=mask[rows], normalizer=normalizer, **claim.options).backward()
        return model.first.grad

    single, naive = gradient(torch.arange(12), False), gradient(parts[rank], True)
    count = counted(claim, target, mask, parts[rank]).double()
    dist.all_reduce(count)
    right = gradient(parts[rank], True, normalizer=count / world)
    size = single.norm()
    found[claim.name] = [((g - single).norm() / size).item() for g in (naive, right)]
if rank == 0: print("FOUND " + json.dumps(found))
sys.stdout.flush()
dist.barrier()
dist.destroy_process_group()
os._exit(0)  # now and then gloo's threads abort a process that winds down
'''


@pytest.fixture(scope="session")
def found(tmp_path_factory, worker_id):
    "What the two processes found; they run once for all workers of pytest."
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "two_processes"
    folder.mkdir(exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "found.json").exists():
            (folder / "two.py").write_text(SCRIPT.format(root=str(ROOT), tests=str(ROOT / "tests")))
            run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(folder / "two.py")]
            done = subprocess.run(run, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stderr[-3000:]
            (folder / "found.json").write_text(next(line[6:] for line in done.stdout.splitlines() if line.startswith("FOUND ")))
    return json.loads((folder / "found.json").read_text())


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed: nothing ran in two processes")
@pytest.mark.parametrize("name", [c.name for c in CLAIMS])
def test_two_processes_give_the_gradient_of_one(found, name):
    naive, right = found[name]
    assert right < 1e-12, "the normaliser does not repair the mean"
    assert naive > 1e-3, "the parts are even: this would not have shown the mistake"
