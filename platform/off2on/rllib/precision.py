"""Compute the matrix products of an update in bfloat16, if asked; everything else stays in float32.

The other way is autocast, which also computes losses and activations in bfloat16.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

FLOAT32, BFLOAT16 = "float32", "bfloat16"
PRECISIONS = (FLOAT32, BFLOAT16)

_aten = torch.ops.aten
_PRODUCTS = {_aten.mm.default, _aten.bmm.default}
_WITH_BIAS = {_aten.addmm.default: _aten.mm.default, _aten.baddbmm.default: _aten.bmm.default}


class BFloat16Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Round the inputs of matrix products of float32 to bfloat16, and their results, while it is active.

    Parameters, sums, losses and optimisers stay in float32. The gradients' products are among those that are
    rounded. A bias is added in float32.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _PRODUCTS and args[0].dtype == torch.float32:
            return _product(func, *args)
        if func in _WITH_BIAS and args[0].dtype == torch.float32:
            bias, *factors = args
            beta, alpha = kwargs.get("beta", 1), kwargs.get("alpha", 1)
            return beta * bias + alpha * _product(_WITH_BIAS[func], *factors)
        return func(*args, **kwargs)


def products_in(precision: str) -> AbstractContextManager[object]:
    """Return a context in which matrix products are computed in a format of `PRECISIONS`."""
    if precision == BFLOAT16:
        return BFloat16Products()  # type: ignore[no-untyped-call]
    return nullcontext()


def _product(func: Any, one: Tensor, other: Tensor) -> Tensor:
    return func(one.bfloat16(), other.bfloat16()).float()  # type: ignore[no-any-return]
