"""docs/step_time.py prints a line for each set of rows, with the tokens that they hold."""

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "step_time.py"


@pytest.mark.slow
def test_a_line_for_each_set_of_rows(capsys: pytest.CaptureFixture) -> None:
    runpy.run_path(str(SCRIPT))["main"]("1m", [[64] * 16, [64] * 15 + [1024], [512] * 16])
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()][2:]
    assert [(x[0], x[1]) for x in lines] == [
        ("16 × 64", "1,024"),
        ("15 × 64, 1 × 1,024", "1,984"),
        ("16 × 512", "8,192"),
    ]
    assert all(float(x[2]) > 0 for x in lines) and lines[0][3] == "–"
