"""What a bank is on disk. NumPy, safetensors, zstandard and msgspec only; never torch.

The public surface is what `__all__` names; it is imported when first used, so that `import impress_format.errors`
costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from impress_format.bank import Bank, open_bank
    from impress_format.errors import ImpressError
    from impress_format.operations.verify import Verification, verify_bank

__version__ = "0.1.0"
__all__ = ["Bank", "ImpressError", "Verification", "open_bank", "verify_bank"]

_HOME = {
    "Bank": "bank",
    "ImpressError": "errors",
    "Verification": "operations.verify",
    "open_bank": "bank",
    "verify_bank": "operations.verify",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
