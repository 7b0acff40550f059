"""What a run's start says of its prompts: the first one as the policy reads it, and what ends a response.

A prompt without its begin-of-text token, or with two, or an end that is never counted, costs a run its accuracy and
nothing else shows it.
"""

from stepjax.console.progress import say
from stepjax.errors import UserError
from stepjax.runs.setup import Run
from stepjax.tasks.base import Problem

SHOWN = 240
"""Characters of a prompt that are shown; of a longer one, as many of its beginning and its end."""


def tell_first_prompt(run: Run) -> None:
    """Prints the first prompt, special tokens spelled out, and the ends of a response."""
    say(first_prompt(run))


def first_prompt(run: Run) -> str:
    """The line that `tell_first_prompt` prints; without a prompt where the task has no problems."""
    ends = ends_of_responses(run)
    for split in ("train", "valid", "test"):
        try:
            problems = run.task.problems(split)
        except UserError:  # a file of this split is not named, and may not be needed
            continue
        if len(problems):
            return f"{as_read(run, problems[0])}; {ends}"
    return ends


def as_read(run: Run, problem: Problem) -> str:
    """What the policy reads of a problem, as the beginning of such a line."""
    ids = run.prompt(problem)
    text = run.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return f"the policy first reads {len(ids)} tokens, {shortened(text)!r}"


def ends_of_responses(run: Run) -> str:
    """Which tokens end a response."""
    names = [f"{run.tokenizer.convert_ids_to_tokens(i)} ({i})" for i in run.framing.ends]
    return f"a response ends at {' or '.join(names)}"


def shortened(text: str) -> str:
    """The text, its middle left out where it is long."""
    half = SHOWN // 2
    return text if len(text) <= SHOWN else f"{text[:half]} … {text[-half:]}"
