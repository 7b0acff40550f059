"""`stepjax show prompt`: what the policy reads of the first problems and learns to write, token by token."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stepjax.config import Config
from stepjax.data.framing import Framing
from stepjax.runs.first_prompt import ends_of_responses
from stepjax.runs.opening import open_run
from stepjax.runs.setup import Run
from stepjax.tasks.base import Problem
from stepjax.workdir.folder import CONFIG

COUNT = 3
"""Problems that are shown."""


def show_prompt(config: Config, workdir: Path | None) -> str:
    """The prompts of a config: with the tokenizer of a work directory, or the one that a new run would have.

    A work directory that is not there yet is not made: its options would bind the run.
    """
    if workdir is not None and (workdir / CONFIG).exists():
        with open_run(config, workdir, kinds=()) as run:
            return prompts_of(run)
    with tempfile.TemporaryDirectory() as folder, open_run(config, Path(folder) / "run") as run:
        return prompts_of(run)


def prompts_of(run: Run) -> str:
    """The first problems of split train, their tokens between bars; `↵` marks a line end inside of a token."""
    problems = run.task.problems("train")
    style = "chat template" if run.prompt.chat else "plain"
    shown = [_shown(run, problems[i]) for i in range(min(COUNT, len(problems)))]
    return "\n\n".join([f"prompts: {style}; {ends_of_responses(run)}", *shown])


def _shown(run: Run, problem: Problem) -> str:
    framing, prompt_loss = run.framing, run.config.sft.prompt_loss
    loss, no_loss = "loss on these tokens", "no loss"
    if problem.solution is None:
        read, written = run.prompt(problem), list[int]()
    else:
        read, written = run.prompt.demonstration(problem)
    lines = [f"problem {problem.id}"]
    lines += [f"  reads {len(read)} tokens ({loss if prompt_loss else no_loss}):", *bars(framing, read)]
    if written:
        lines += [f"  learns to write {len(written)} tokens ({loss}):", *bars(framing, written)]
    else:
        lines.append("  has no solution to learn from")
    return "\n".join(lines)


def bars(framing: Framing, ids: Sequence[int]) -> list[str]:
    """Lines of the tokens' texts between bars; a token that is part of a character shows as its bytes."""
    tokenizer: Any = framing.tokenizer
    lines, line = [], "    │"
    for i in ids:
        text = tokenizer.decode([i], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if "\ufffd" in text:
            text = str(tokenizer.convert_ids_to_tokens(int(i)))
        line += text.replace("\r", "␍").replace("\n", "↵") + "│"
        if "\n" in text:
            lines.append(line)
            line = "    │"
    return [*lines, line] if line != "    │" else lines
