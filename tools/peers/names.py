"""Hold each conversion of nbs/evidence/names.json to the library itself.

A row has two calls, `there` and `here`, as a user would write them. Both are executed on the same random numbers, of a
size at which every library is accurate, and the largest relative difference is what the record keeps.
"""
import hashlib
import json
from pathlib import Path

import torch
import torch.nn.functional as F

import lossbook
from installed import load, release

HERE = Path(__file__).resolve().parent
MOVES = HERE.parents[1] / "nbs/evidence/names.json"
SEEDS = range(5)


def source() -> str:
    "A hash of the conversions and of the code that executes them."
    return hashlib.sha256((MOVES.read_text(encoding="utf-8") + (HERE / "names.py").read_text(encoding="utf-8")).encode()).hexdigest()[:16]


def example(seed: int) -> dict:
    "The names that a call may use: six rows, four classes; six embeddings of three people."
    torch.manual_seed(seed)
    n, c = 6, 4
    s, t = torch.randn(n, c, dtype=torch.float64), torch.randint(c, (n,))
    labels = (torch.rand(n, c) < 0.4).double()
    numbers = torch.stack([torch.randperm(c)[:2] for _ in range(n)])
    ids, emb = torch.arange(3).repeat(2), F.normalize(torch.randn(n, 3, dtype=torch.float64), dim=1)
    return dict(ids=ids, emb=emb, s=s, t=t, labels=labels, onehot=F.one_hot(t, c).double(), numbers=numbers, w=torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64),
                a=0.2, N=n, C=c)


def names_of(peer: str) -> dict:
    "What the text of a call may name."
    if peer == "mmdetection":
        return {**vars(load(peer, "focal_loss")), **vars(load(peer, "cross_entropy_loss"))}
    return dict(vars(load(peer)))


def there(row: dict, values: dict) -> torch.Tensor:
    "The library's own result."
    if row["peer"] == "optax":
        import jax.numpy as jnp
        import numpy as np

        arrays = {k: jnp.asarray(v.numpy()) if isinstance(v, torch.Tensor) else v for k, v in values.items()}
        return torch.from_numpy(np.array(eval(row["there"], {**names_of("optax"), **arrays})))
    return eval(row["there"], {**names_of(row["peer"]), **values}).detach()


def off(row: dict) -> float:
    "The largest relative difference between the two calls; infinite if their shapes differ."
    worst = 0.0
    for seed in SEEDS:
        values = example(seed)
        theirs, ours = there(row, values).double(), eval(row["here"], {"lossbook": lossbook, "torch": torch, **values})
        if theirs.shape != ours.shape: return float("inf")
        worst = max(worst, ((theirs - ours).abs() / ours.abs()).max().item())
    return worst


def take_names(progress=lambda line: None) -> dict:
    "Every conversion whose library is installed: its release, and how far the two calls are apart."
    torch.set_num_threads(1)
    found = {}
    for row in json.loads(MOVES.read_text(encoding="utf-8")):
        if release(row["peer"]) is None: raise SystemExit(f"not installed: {row['peer']}; see --help")
        found[row["id"]] = {"version": release(row["peer"]), "off": float(f"{off(row):.1e}")}
        progress(f"{row['id']}: {found[row['id']]['off']:g}")
    return {"source": source(), "moves": found}
