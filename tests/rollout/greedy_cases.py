"""Greedy continuations of every family's checkpoints by transformers (torch); a script that writes the golden file.

python tests/rollout/greedy_cases.py
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "golden_greedy.json"
PROMPTS, NEW = (9, 4, 6), 20
"""Tokens of each prompt, and of each continuation."""


def continuations(name: str, folder: Path) -> list[list[int]]:
    """Token by token, each from a full pass over all before it: no cache, no batch."""
    import torch
    from models.family_cases import CASES, tokens, write_checkpoint
    from models.torch_reference import load

    model = load(write_checkpoint(folder, CASES[name]))
    found = []
    for row, length in enumerate(PROMPTS):
        ids = tokens()[row, :length].astype(np.int64).tolist()
        for _ in range(NEW):
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
            ids.append(int(logits.argmax()))
        found.append(ids[length:])
    return found


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from models.family_cases import CASES

    golden = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as temporary:
            golden[case] = continuations(case, Path(temporary))
    GOLDEN.write_text(json.dumps(golden, indent=None) + "\n")
