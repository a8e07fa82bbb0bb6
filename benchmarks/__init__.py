"""Benchmarks: each measures dlkit beside a reference, in turns in one process. Run ``pytest benchmarks/``.

Two threads, which do not spin while they wait, so that they take no time from each other; this must be said before
torch is loaded.
"""

import os

for _name, _value in {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}.items():
    os.environ.setdefault(_name, _value)
