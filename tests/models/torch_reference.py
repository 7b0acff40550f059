"""What transformers (torch) computes for a case: the reference of the parity tests."""

from pathlib import Path
from typing import Any

import numpy as np
from models.family_cases import LENGTHS, padded, probe, tokens


def load(folder: Path, dtype: Any = None) -> Any:
    """The checkpoint as a transformers model, its attention written out."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype or torch.float32, attn_implementation="eager"
    )
    return model.eval()


def logits(model: Any, side: str) -> np.ndarray:
    """float32[3, WIDTH, VOCAB] of the padded batch."""
    import torch

    ids, positions, segments = (torch.from_numpy(x.astype(np.int64)) for x in padded(side))
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=segments, position_ids=positions).logits.float().numpy()


def alone(model: Any) -> list[np.ndarray]:
    """Logits of each row by itself."""
    import torch

    with torch.no_grad():
        return [
            model(input_ids=torch.from_numpy(tokens()[i : i + 1, :n].astype(np.int64))).logits[0].float().numpy()
            for i, n in enumerate(LENGTHS)
        ]


def gradients(model: Any) -> dict[str, np.ndarray]:
    """Of Σ log p(next token) over the real tokens of the right-padded batch, by tensor name."""
    import torch

    ids, positions, segments = (torch.from_numpy(x.astype(np.int64)) for x in padded("right"))
    model.zero_grad()
    found = model(input_ids=ids, attention_mask=segments, position_ids=positions).logits
    chosen = torch.log_softmax(found, -1)[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
    (chosen * segments[:, 1:]).sum().backward()
    return {name: p.grad.numpy() for name, p in model.named_parameters()}


def golden(model: Any) -> dict[str, np.ndarray]:
    """What the golden file of a case holds: logits, and of each gradient its length and a projection."""
    found = {"left": logits(model, "left"), "right": logits(model, "right")}
    found |= {f"alone{i}": x for i, x in enumerate(alone(model))}
    for name, g in gradients(model).items():
        found[f"gradient {name}"] = np.array([np.linalg.norm(g), np.sum(g * probe(name, g.shape))])
    return found
