"""Run every speed comparison on one thread: ``python -m tests.benchmarks [--quick]``."""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # before NumPy loads: two threads on a busy machine cost ten times as much

if __name__ == "__main__":
    from tests.benchmarks.runner import main

    main()
