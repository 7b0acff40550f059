"""Makes own_loop.ipynb of own_loop.py, and runs it: `python examples/build_notebook.py`.

The cells are those of the script (`# %%`), then the run and its pictures, so that the two cannot drift apart. The cells
are run here, by Python alone: making the notebook needs no Jupyter.
"""

import ast
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SCRIPT, NOTEBOOK = HERE / "own_loop.py", HERE / "own_loop.ipynb"

PICTURES = '''class Picture(str):
    """An SVG that a notebook shows."""

    def _repr_svg_(self):
        return self


def curve(values, name, width=520, height=170):
    right, down = (width - 60) / (len(values) - 1), height - 50
    path = " ".join(f"{50 + i * right:.1f},{height - 30 - v * down:.1f}" for i, v in enumerate(values))
    return Picture(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/><text x="50" y="14">{name}</text>'
        f'<text x="12" y="24">100%</text><text x="24" y="{height - 30}">0%</text>'
        f'<text x="{width - 130}" y="{height - 10}">round {len(values)}</text>'
        f'<path d="M50 20V{height - 30}H{width - 10}" fill="none" stroke="#9ba6b2"/>'
        f'<polyline points="{path}" fill="none" stroke="#1d5fa8" stroke-width="2"/></svg>'
    )


def credited(rounds, most=6):
    """Responses of some rounds, a box a token: blue tokens are made likelier, orange ones less likely."""
    parts, y = [], 0
    for i in rounds:
        y += 22
        parts.append(f'<text x="4" y="{y}" fill="#1b2129">round {i + 1}</text>')
        rows, advantages = history[i]["rows"], history[i]["advantages"]
        largest = abs(advantages).max() or 1.0  # where every response is equally good, nobody is credited
        for row in range(0, SAMPLES * len(PROMPTS), SAMPLES * len(PROMPTS) // most):
            y += 6
            for column in np.flatnonzero(np.asarray(rows.mask)[row]):
                token, a = int(rows.tokens[row, column]), float(advantages[row, column]) / largest
                text = {0: "end", 1: "↵"}.get(token, LETTERS[token])
                x, colour = 12 + 34 * (column - rows.prompt_width), "29,95,168" if a > 0 else "205,96,22"
                parts.append(f'<rect x="{x}" y="{y}" width="32" height="20" fill="rgba({colour},{abs(a):.2f})"/>')
                parts.append(f'<text x="{x + 16}" y="{y + 14}" text-anchor="middle" fill="#1b2129">{text}</text>')
            y += 18
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="570" height="{y + 10}" font-family="monospace"'
    ground = ' font-size="12"><rect width="100%" height="100%" fill="white"/>'
    return Picture(head + ground + "".join(parts) + "</svg>")'''

AFTER = (
    ("Run it", "history = train()"),
    ("What it learned", PICTURES),
    ("", 'curve([of["good"] for of in history], "good steps")'),
    ("Who is credited: the tokens of a good step, and not those of the bad step after it", "credited([19, 59])"),
)


def cells() -> list[tuple[str, str]]:
    """Kind ("markdown" or "code") and source of each cell."""
    head, *parts = SCRIPT.read_text(encoding="utf-8").split("\n# %% ")
    told = ast.get_docstring(ast.parse(head)) or ""
    found = [("markdown", f"# A training loop of your own\n\n{told}")]
    for part in parts:
        title, _, code = part.partition("\n")
        found += [("markdown", f"## {title}"), ("code", code.split('\nif __name__ == "__main__":')[0].strip())]
    for title, code in AFTER:
        found += [("markdown", f"## {title}")] if title else []
        found.append(("code", code))
    return found


def run(code: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    """The outputs of a cell: what it prints, and its last line if that is a picture."""
    tree, printed, value = ast.parse(code), io.StringIO(), None
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": printed.getvalue().splitlines(True)})
    if hasattr(value, "_repr_svg_"):
        data = {"image/svg+xml": value._repr_svg_().splitlines(True)}
        outputs.append({"output_type": "display_data", "data": data, "metadata": {}})
    return outputs


def notebook() -> dict[str, Any]:
    """The notebook with the outputs of a run."""
    names: dict[str, Any] = {"__name__": "notebook"}
    made: list[dict[str, Any]] = []
    for i, (kind, source) in enumerate(cells()):
        cell = {"cell_type": kind, "id": f"cell-{i}", "metadata": {}, "source": source.splitlines(True)}
        if kind == "code":
            count = sum(of["cell_type"] == "code" for of in made) + 1
            cell |= {"execution_count": count, "outputs": run(source, names)}
        made.append(cell)
    python = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": made, "metadata": {"kernelspec": python}, "nbformat": 4, "nbformat_minor": 5}


def main() -> int:
    """Writes the notebook."""
    NOTEBOOK.write_text(json.dumps(notebook(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
