"""off2on: learn policies from recorded data, then keep improving them in the world."""

import os

# OpenMP's threads spin while they wait, and on a busy machine they then wait for one another: two of
# them took 11 times as long as one for a 256 × 256 product, and 0.7 times as long when they sleep
# instead. It is read when torch is loaded, so it must be set here; a value that the user set stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
