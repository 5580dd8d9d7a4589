"""Plain training loops in the form of CORL and of OfflineRL-Kit, as peers of the speed measurements.

Neither can be installed beside a package of today. CORL is no package but scripts, one file an algorithm,
which import the first D4RL and read one of its data sets when they are executed; its requirements name torch
1.11. OfflineRL-Kit is only in its repository, and requires gym 0.24 or older. So their loops are written here
from the papers and from the structure of those codes: how rows are sampled, which networks and optimisers
there are, how often `backward` is called, what is logged with `.item()`. No code of theirs is copied. What
the originals compute in every update is computed here too, in the same number of passes, and nothing is
added; progress bars, loggers and checks of shapes are left out.

A file holds one family of algorithms; each of its functions returns a function that makes one update.
"""

from collections.abc import Callable

from plain_loops import awac, bc, cql, iql, rebrac, sac_n, td3_bc
from plain_loops.parts import ArrayRows, Columns, TensorRows

Build = Callable[[Columns], Callable[[], None]]

CORL: dict[str, Build] = {
    "bc": lambda columns: bc.update(TensorRows(columns)),
    "td3_bc": lambda columns: td3_bc.corl(TensorRows(columns)),
    "iql": lambda columns: iql.corl(TensorRows(columns)),
    "awac": lambda columns: awac.corl(TensorRows(columns)),
    "rebrac": lambda columns: rebrac.corl(TensorRows(columns, "next_action")),
    "cql": lambda columns: cql.corl(TensorRows(columns), calibrated=False),
    "cal_ql": lambda columns: cql.corl(TensorRows(columns, "ret"), calibrated=True),
    "sac_n": lambda columns: sac_n.corl(TensorRows(columns), eta=0.0),
    "edac": lambda columns: sac_n.corl(TensorRows(columns), eta=1.0),
}
"""Loops in the form of CORL. ReBRAC's authors and CORL use JAX: that loop is the same update in torch."""

OFFLINERL_KIT: dict[str, Build] = {
    "bc": lambda columns: bc.update(ArrayRows(columns)),
    "td3_bc": lambda columns: td3_bc.offlinerl_kit(ArrayRows(columns)),
    "iql": lambda columns: iql.offlinerl_kit(ArrayRows(columns)),
    "cql": lambda columns: cql.offlinerl_kit(ArrayRows(columns)),
    "sac_n": lambda columns: sac_n.offlinerl_kit(ArrayRows(columns), eta=0.0),
    "edac": lambda columns: sac_n.offlinerl_kit(ArrayRows(columns), eta=1.0),
}
"""Loops in the form of OfflineRL-Kit, which has no AWAC, ReBRAC and Cal-QL."""
