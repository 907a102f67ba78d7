"""What is there without a checkout: the model of the package dgn_hand_model, and configs/."""

import importlib.util
import pathlib

from dgn_tf.errors import InputError

_PACKAGE = pathlib.Path(__file__).parent
_CHECKOUTS_MODEL = _PACKAGE.parent / "saved_models" / "dgn"


def shipped_model() -> str:
    """The folder of the shipped model: of the package `dgn_hand_model`, else of the checkout.

    Raises:
        InputError: neither is there.
    """
    if importlib.util.find_spec("dgn_hand_model"):
        from dgn_hand_model import FOLDER

        return str(FOLDER)
    if _CHECKOUTS_MODEL.is_dir():
        return str(_CHECKOUTS_MODEL)
    raise InputError(
        "no model was named and the package dgn_hand_model, which holds the shipped one, is not "
        "installed: pip install dgn_hand_model (packages/dgn_hand_model of the repository), or "
        "give --saved_model=DIR."
    )


def shipped_file(path: str) -> str:
    """`path`, or where a file of saved_models/dgn is not there the shipped model's own."""
    parts = pathlib.PurePath(path).parts
    if parts[:2] != ("saved_models", "dgn") or pathlib.Path(path).exists():
        return path
    return str(pathlib.Path(shipped_model(), *parts[2:]))


def config_file(path: str) -> str:
    """`path`, or where it is not there and begins with configs/ the package's own copy of it."""
    packaged = _PACKAGE / path
    if pathlib.PurePath(path).parts[:1] != ("configs",) or pathlib.Path(path).exists():
        return path
    return str(packaged) if packaged.is_file() else path
