"""A worker that makes gradient updates with the plain loops of `plain_loops`.

usage: python worker_loops.py CORL|OFFLINERL_KIT COLUMNS.npz     then the lines of `answering`
"""

import sys

import numpy as np
import plain_loops
from answering import answer, repeat

if __name__ == "__main__":
    columns = dict(np.load(sys.argv[2]))
    loops = getattr(plain_loops, sys.argv[1])
    answer({name: lambda threads, build=build: repeat(build(columns)) for name, build in loops.items()})
