"""Writes tests/models/golden/*.npz, with torch: `PYTHONPATH=tests python tests/models/make_golden.py`."""

import tempfile
from pathlib import Path

import numpy as np
from models import torch_reference
from models.family_cases import CASES, write_checkpoint

GOLDEN = Path(__file__).parent / "golden"


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            model = torch_reference.load(write_checkpoint(Path(folder), case))
            np.savez_compressed(GOLDEN / f"{name}.npz", **torch_reference.golden(model))
        print(GOLDEN / f"{name}.npz", (GOLDEN / f"{name}.npz").stat().st_size // 1000, "kB")


if __name__ == "__main__":
    main()
