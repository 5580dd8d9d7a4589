"""The algorithms for discrete actions beside d3rlpy 2.8.1, and beside sums by hand where it differs."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from d3rlpy_reference import (
    Take,
    Tensors,
    categorical_values,
    gradient_of,
    linears,
    perceptron,
    same,
    shake,
    their_discrete_batch,
    theirs,
    value_of,
)
from torch import nn

from off2on.algorithms.discrete_bc import DiscreteBC
from off2on.algorithms.discrete_bcq import DiscreteBCQ
from off2on.algorithms.discrete_cql import DiscreteCQL
from off2on.algorithms.discrete_sac import DiscreteSAC
from off2on.algorithms.double_dqn import DoubleDQN
from off2on.algorithms.dqn import DQN
