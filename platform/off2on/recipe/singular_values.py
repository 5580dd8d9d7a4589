"""The largest singular value of weights, for critics that are normalised by it."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def largest_singular_value(weight: Tensor) -> Tensor:
    """Compute [E, 1, 1] of [E, out, in] by 256 power iterations, as 8 squarings of the Gram matrix.

    The singular vector carries no gradient: at the maximum its derivative is 0.
    """
    low = weight if weight.shape[1] <= weight.shape[2] else weight.transpose(1, 2)
    with torch.no_grad():
        power = low @ low.transpose(1, 2)
        for _ in range(8):
            power = power / power.norm(dim=(1, 2), keepdim=True)
            power = power @ power
        column = power.diagonal(dim1=1, dim2=2).argmax(1).view(-1, 1, 1)
        vector: Tensor = power.gather(2, column.expand(-1, power.shape[1], 1))
        vector = F.normalize(vector, dim=1)
    return (vector.transpose(1, 2) @ low).square().sum(2, keepdim=True).sqrt()
