"""The speed comparison runs, and its batched steps agree with single ones exactly."""

import runpy
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "env_steps.py"


def test_the_table_is_printed_and_agrees(capsys):
    runpy.run_path(str(SCRIPT))["main"](seconds=0.0, repeats=1, batches=(5,))
    lines = capsys.readouterr().out.splitlines()
    batched = [line for line in lines if "5 at once" in line and "roll-outs" not in line]
    assert len(batched) == 3
    assert all("differs from single steps by 0 " in line for line in batched)
    replayed = [line for line in lines if "roll-outs of SwingUp" in line]
    assert len(replayed) == 2
    assert all("differs from a replay by 0 " in line for line in replayed)
