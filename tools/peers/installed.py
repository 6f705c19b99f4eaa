"""Which losses of other libraries are here, where their code lies, and how it is loaded.

Most are imported as a user imports them. Where the import needs more than the loss does (a compiled extension, a
tokenizer), the one file is executed by its path inside the installed distribution, with stand-ins for names that
it imports and the loss does not use in its formula. Nothing of it is copied.
"""
import importlib
import importlib.util
import inspect
import os
import sys
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from types import ModuleType

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# Peer: (distribution, how it is loaded, stand-ins). The order is that of the page.
PEERS = {
    "PyTorch": ("torch", "imported", ""),
    "torchvision": ("torchvision", "ops/focal_loss.py by path", "the usage counter"),
    "fvcore": ("fvcore", "imported", ""),
    "kornia": ("kornia", "imported", ""),
    "MONAI": ("monai", "imported", ""),
    "smp": ("segmentation_models_pytorch", "losses/ by path", ""),
    "timm": ("timm", "loss/ by path", ""),
    "mmdetection": ("mmdet", "models/losses/ by path", "mmcv, the registry and the accuracy metric"),
    "mmpretrain": ("mmpretrain", "models/losses/ by path", "the registry"),
    "Keras": ("keras", "imported, torch backend", ""),
    "optax": ("optax", "imported, on jax", ""),
    "bert4torch": ("bert4torch", "losses.py by path", ""),
    "PML": ("pytorch-metric-learning", "imported", ""),
    "focal-loss-torch": ("focal-loss-torch", "imported", ""),
    "balanced-loss": ("balanced-loss", "imported", ""),
    "entmax": ("entmax", "imported", ""),
}
LONG = {"smp": "segmentation_models.pytorch", "PML": "pytorch-metric-learning"}


def release(peer: str) -> str | None:
    "The installed version of a peer, or None; of this book, its own."
    if peer == "lossbook":
        return importlib.import_module("lossbook").__version__
    try:
        return version(PEERS[peer][0]).partition("+")[0]
    except PackageNotFoundError:
        return None


def releases() -> dict:
    "All peers with their versions, and of jax, which optax computes with."
    found = {peer: release(peer) for peer in PEERS}
    try:
        found["jax"] = version("jax")
    except PackageNotFoundError:
        pass
    return found


class _Registry:
    "Stands in for a registry of modules: registering changes nothing."

    def register_module(self, *args, **kw):
        return lambda thing: thing


def _module(name: str, **names) -> ModuleType:
    made = ModuleType(name)
    made.__dict__.update(names)
    return made


@contextmanager
def _standing_in(modules: dict):
    "Modules that are there for the time of an import only."
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None: sys.modules.pop(name, None)
            else: sys.modules[name] = old


def _execute(name: str, path: Path, folder: Path | None = None) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=[str(folder)] if folder else None)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _folder_of(peer: str, inside: str) -> Path:
    return Path(distribution(PEERS[peer][0]).locate_file(inside))


def _package(name: str, folder: Path) -> ModuleType:
    "A package of that folder whose own __init__ is not run."
    made = _module(name, __path__=[str(folder)])
    sys.modules[name] = made
    return made


@cache
def load(peer: str, name: str = "") -> ModuleType:
    """The module of a peer that holds its losses.

    Args:
        peer: a key of `PEERS`.
        name: for mmdetection and mmpretrain the file, for the others nothing.

    Raises:
        PackageNotFoundError: the peer is not installed.
    """
    distribution(PEERS[peer][0])
    if peer == "torchvision":
        _package("peers_torchvision", _folder_of(peer, "torchvision"))
        sys.modules["peers_torchvision.utils"] = _module("peers_torchvision.utils", _log_api_usage_once=lambda *a: None)
        _package("peers_torchvision.ops", _folder_of(peer, "torchvision/ops"))
        return importlib.import_module("peers_torchvision.ops.focal_loss")
    if peer == "smp":
        folder = _folder_of(peer, "segmentation_models_pytorch/losses")
        return _execute("peers_smp_losses", folder / "__init__.py", folder)
    if peer == "timm":
        folder = _folder_of(peer, "timm/loss")
        return _execute("peers_timm_loss", folder / "__init__.py", folder)
    if peer == "mmdetection":
        _package("peers_mmdet", _folder_of(peer, "mmdet/models/losses"))
        sys.modules["peers_mmdet.accuracy"] = _module("peers_mmdet.accuracy", accuracy=None)
        inner = {"mmcv": _module("mmcv"), "mmcv.ops": _module("mmcv.ops", sigmoid_focal_loss=None)}
        inner |= {"mmdet": _module("mmdet"), "mmdet.registry": _module("mmdet.registry", MODELS=_Registry())}
        with _standing_in(inner):
            return importlib.import_module(f"peers_mmdet.{name}")
    if peer == "mmpretrain":
        _package("peers_mmpretrain", _folder_of(peer, "mmpretrain/models/losses"))
        inner = {"mmpretrain": _module("mmpretrain"), "mmpretrain.registry": _module("mmpretrain.registry", MODELS=_Registry())}
        with _standing_in(inner):
            return importlib.import_module(f"peers_mmpretrain.{name}")
    if peer == "bert4torch":
        return _execute("peers_bert4torch_losses", _folder_of(peer, "bert4torch/losses.py"))
    modules = {"PyTorch": "torch.nn.functional", "fvcore": "fvcore.nn.focal_loss", "kornia": "kornia.losses", "MONAI": "monai.losses",
               "Keras": "keras.losses", "optax": "optax.losses", "PML": "pytorch_metric_learning.losses",
               "focal-loss-torch": "focal_loss.focal_loss", "balanced-loss": "balanced_loss.losses", "entmax": "entmax.losses"}
    return importlib.import_module(modules[peer])


def function_of(thing) -> str:
    "The name of a function or class."
    thing = inspect.unwrap(thing)
    return thing.__name__ if inspect.isbuiltin(thing) else thing.__qualname__


def place(thing) -> str:
    "Where code lies, such as 'kornia/losses/tversky.py:33', from the top of the installed packages."
    thing = inspect.unwrap(thing)
    if inspect.isbuiltin(thing):
        return "built in"
    if inspect.isclass(thing) and issubclass(thing, __import__("torch").nn.Module):
        thing = next((vars(thing)[m] for m in ("forward", "compute_loss", "_compute_loss") if m in vars(thing)), thing)
    path = Path(inspect.getsourcefile(thing))
    line = inspect.getsourcelines(thing)[1]
    parts = path.parts
    top = ("site-packages", "dist-packages", Path(__file__).parents[2].name)
    start = max((i for i, part in enumerate(parts) if part in top), default=-1) + 1
    return f"{'/'.join(parts[start:])}:{line}"
