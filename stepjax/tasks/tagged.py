"""Prompts that ask for a response in tags, whose steps the tags mark and which scores itself.

`reflect` asks for a thought, numbered steps, each with a reflection and a score of the model's own, and an answer: the
structure of popular prompts that want "reasoning" out of a chat model without training it. It is a baseline: what the
model says of itself is measured (`stepjax.runs.tag_figures`) and never believed; answers are graded as all others are.
"""

import re
from dataclasses import dataclass

from stepjax.config import Config
from stepjax.errors import UserError
from stepjax.tasks.base import Task
from stepjax.tasks.graders import GradesFinalAnswers

STEPS = 20
"""Steps that the prompt allows."""

_REFLECT = f"""\
Solve the problem in small steps, inside of tags:
<thinking> what is given, what is asked and how to get there </thinking>
<step> one step </step> <count> how many of {STEPS} steps are left </count>
<reflection> is this step right, and does it help? </reflection>
<reward> a score of your way so far, from 0 to 1 </reward>
Write as many steps as you need, each with its three tags. Where the score is 0.8 or more, go on; from 0.5 to 0.8,
adjust the next step; below 0.5, go back and try another way. End with the final answer alone:
<answer> the answer </answer>"""

_PIECE = re.compile(r"</?(?:thinking|step|count|reflection|reward|answer)>", re.IGNORECASE)


@dataclass(frozen=True)
class Structure:
    """A way to write a response in tags.

    Attributes:
      system: text that asks for it.
      separator: what stands before each step.
    """

    system: str
    separator: str

    def written(self, steps: list[str], answer: str) -> str:
        """A solution of these steps in the tags, as an example: each step is right, so it is scored 1."""
        parts = ["<thinking>I go from what is given to what is asked, one step at a time.</thinking>"]
        for number, step in enumerate(steps):
            left = max(STEPS - number - 1, 0)
            parts.append(
                f"<step>{_PIECE.sub('', step)}</step>\n<count>{left}</count>\n"
                "<reflection>This is right, and it leads on.</reflection>\n<reward>1.0</reward>"
            )
        return "\n".join([*parts, f"<answer>{answer}</answer>"])


STRUCTURES = {"reflect": Structure(_REFLECT, "<step>")}
"""By `prompt.structure`."""


def check_structure(config: Config, task: Task) -> None:
    """UserError where the task would not find an answer in tags."""
    if config.prompt.structure and not isinstance(task, GradesFinalAnswers):
        raise UserError(
            f"config.prompt.structure={config.prompt.structure}: task {task.name} reads responses in a syntax of its "
            "own and finds no answer in tags; leave the structure out"
        )


def step_separator(config: Config, default: str) -> str:
    """What separates the steps of a run's responses: the option, the tags of `prompt.structure`, or the `default`."""
    structure = structure_of(config.prompt.structure)
    return config.task.separator or (structure.separator if structure is not None else default)


def structure_of(name: str) -> Structure | None:
    return STRUCTURES[name] if name else None
