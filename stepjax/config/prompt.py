"""How a problem becomes what a model reads."""

from dataclasses import dataclass

from stepjax.config.option import option


@dataclass(frozen=True)
class PromptOptions:
    """What the policy reads of a problem: the same in training, labelling, sampling and evaluation."""

    style: str = option(
        "auto",
        "chat (the tokenizer's chat template), plain (the texts one after the other) or auto (chat where the tokenizer "
        "has a template)",
        choices=("auto", "chat", "plain"),
    )
    system: str = option("", "system text in front; empty: none, or the chat template's own")
    user: str = option(
        "",
        "the user's text, with {problem} and, in braces, the name of any other column of the problem's row but answer "
        "and solution; empty: the problem as the task writes it",
    )
    shots: int = option(0, "solved problems shown before it: the first of shots_file, or of split train", least=0)
    shots_file: str = option(
        "", "file with the fields `problem` and `solution` for these, as task.files.train names it; empty: split train"
    )
    prefill: str = option(
        "", "the beginning of every answer, written for the policy: part of the prompt, neither credited nor graded"
    )
    thinking: str = option(
        "",
        "on or off, for chat templates that have such a switch; empty: what the template does by itself",
        choices=("", "on", "off"),
    )
    structure: str = option(
        "",
        "reflect: asks, behind the system text, for a response in tags: a thought, steps with a reflection and a score "
        "of the model's own, an answer; the tags mark the steps (a baseline without training)",
        choices=("", "reflect"),
    )
