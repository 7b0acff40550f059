"""What a model reads of a problem, and what it is to write: the only place that decides.

In the chat style the tokenizer's chat template writes the roles and the beginning of the assistant's turn; in the plain
style texts stand one after the other. Everything that samples or trains on responses reads its prompts here; public
process reward models get the bare problem (`Problem.text`) instead.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from stepjax.answers.marks import final_answer
from stepjax.config import PromptOptions
from stepjax.data.framing import Framing, template_ends
from stepjax.data.tokenizers import encode
from stepjax.errors import UserError, nearest
from stepjax.separators import separator_pattern
from stepjax.tasks.base import Problem, Task
from stepjax.tasks.hooks import PLAIN, Templated
from stepjax.tasks.shots import Shot, shots_of
from stepjax.tasks.tagged import Structure, structure_of

_SLOT = re.compile(r"(?<![\w\\])\{([A-Za-z_]\w*)\}")
"""A column's name; in `\\boxed{answer}` the braces are LaTeX's."""

SWITCHES = ("enable_thinking", "thinking")
"""Variables by which chat templates turn thinking on and off."""


@dataclasses.dataclass(frozen=True)
class Prompt:
    """Problems to tokens, by `config.prompt`.

    Attributes:
      framing: begin and ends of the tokenizer's texts.
      task: where the problems come from; its template writes the plain prompt.
    """

    options: PromptOptions
    framing: Framing
    task: Task

    @cached_property
    def chat(self) -> bool:
        """Whether the tokenizer's chat template writes the prompts; UserError where it is asked for and missing."""
        template = bool(getattr(self.framing.tokenizer, "chat_template", None))
        if self.options.style == "chat" and not template:
            raise UserError("config.prompt.style=chat: the tokenizer has no chat template; use plain or auto")
        return template and self.options.style != "plain"

    @cached_property
    def end(self) -> int:
        """The id that ends a response that is written, and not sampled."""
        found = template_ends(self.framing.tokenizer) if self.chat else ()
        return found[0] if found else self.framing.end

    @property
    def structure(self) -> Structure | None:
        """The tags that a response is asked for; None: none."""
        return structure_of(self.options.structure)

    @property
    def _system(self) -> str:
        asked = self.structure.system if self.structure is not None else ""
        return "\n\n".join(text for text in (self.options.system, asked) if text)

    def _solution(self, problem: Problem, solution: str) -> str:
        """A solution as the policy is to write it."""
        if self.structure is None:
            return solution
        steps = [step.strip() for step in separator_pattern(self.task.separator).split(solution)]
        found = final_answer(solution)
        kept = [step for step in steps if step and not step.startswith("####")]
        return self.structure.written(kept, problem.answer or (found.text if found is not None else ""))

    def __call__(self, problem: Problem) -> list[int]:
        """The ids that the policy reads of a problem, up to where its response begins."""
        text = self.text(problem)
        # A chat template writes the beginning of a text itself, where the model was trained with one.
        return encode(self.framing.tokenizer, text) if self.chat else self.framing.prompt(text)

    def text(self, problem: Problem) -> str:
        """The same as text; begin-of-text is in it only where a chat template writes it."""
        options, shots = self.options, self._shots_before(problem)
        if self.chat:
            return self._render(self._turns(problem, shots)) + options.prefill
        parts = [f"{self._system}\n\n"] if self._system else []
        parts += [f"{self._user(shot.problem)}{self._solution(shot.problem, shot.solution)}\n\n" for shot in shots]
        return "".join([*parts, self._user(problem), options.prefill])

    def of_text(self, problem: str) -> list[int]:
        """The ids of a problem of which only the text is known, as in a labelled solution's record."""
        return self(self.problem_of(problem))

    def problem_of(self, text: str, name: str = "", answer: str = "") -> Problem:
        """A problem of which the bare text is known."""
        text = text.strip()
        template = self.task.template if isinstance(self.task, Templated) else PLAIN
        return Problem(name, template.replace("{problem}", text), answer, question=text)

    def response(self, text: str) -> list[int]:
        """`Framing.response`, ended as the style ends responses."""
        return self.framing.response(text, self.end)

    def demonstration(self, problem: Problem) -> tuple[list[int], list[int]]:
        """Ids of a solved problem's prompt and of the response that the policy learns to write after it.

        In the chat style the response is what the template adds to the prompt where the assistant's turn holds the
        solution, up to its end; that may be more than the solution (an empty thought, say).
        """
        return self(problem), self.response(self._written(problem))

    def unlearned(self, problem: Problem) -> list[int]:
        """Which ids of that response, by number, hold a character of the solution's spans that are not learned.

        UserError where the chat template writes the solution otherwise than it is.
        """
        if not problem.unlearned:
            return []
        if self.structure is not None:
            raise UserError(
                f"config.prompt.structure={self.options.structure}: problem {problem.id} has stretches that are not "
                "learned, whose place is not known in tags; leave the structure out"
            )
        text, solution = self._written(problem), problem.solution or ""
        bare = solution.strip()
        at = text.find(bare) - solution.find(bare)
        if self.options.prefill and bare not in text:
            at = -len(self.options.prefill)
        elif bare not in text:
            raise UserError(
                f"problem {problem.id}: the tokenizer's chat template changes the solution, so that its wrong tries "
                "are not found; set config.prompt.style=plain"
            )
        spans = [(start + at, end + at) for start, end in problem.unlearned]
        tokenizer: Any = self.framing.tokenizer
        offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return [
            number
            for number, (first, last) in enumerate(offsets)
            if any(first < end and start < last for start, end in spans)
        ]

    def _written(self, problem: Problem) -> str:
        """The text of `demonstration`'s response, without its end."""
        written = self._solution(problem, problem.solution or "")
        solution = written.removeprefix(self.options.prefill)
        if not self.chat or self.options.prefill:  # where an answer has begun, the template has written all it adds
            return solution
        turns = self._turns(problem, self._shots_before(problem))
        before = self._render(turns)
        whole = self._render([*turns, {"role": "assistant", "content": written}], answered=True)
        if not whole.startswith(before):  # the policy reads another beginning than the template writes with an answer
            return solution
        rest = whole.removeprefix(before)
        end = self.framing.tokenizer.decode([self.end], skip_special_tokens=False)
        return rest[: rest.rindex(end)] if end in rest else rest

    def messages(self, problem: Problem) -> list[dict[str, str]]:
        """The turns before the answer that state the problem, in any style and without shots: system, if any, user."""
        turns = [{"role": "system", "content": self._system}] if self._system else []
        return [*turns, {"role": "user", "content": self._user(problem).strip()}]

    def _shots_before(self, problem: Problem) -> Sequence[Shot]:
        """Those shown with a problem: never itself."""
        if not self.options.shots:
            return ()
        return [shot for shot in self._shots if shot.problem.text != problem.text][: self.options.shots]

    @cached_property
    def _shots(self) -> Sequence[Shot]:
        return shots_of(self.options, self.task, self.problem_of)

    def _turns(self, problem: Problem, shots: Sequence[Shot]) -> list[dict[str, str]]:
        turns = [{"role": "system", "content": self._system}] if self._system else []
        for shot in shots:
            turns.append({"role": "user", "content": self._user(shot.problem)})
            turns.append({"role": "assistant", "content": self._solution(shot.problem, shot.solution)})
        return [*turns, {"role": "user", "content": self._user(problem)}]

    def _user(self, problem: Problem) -> str:
        if self.options.user:
            return filled(self.options.user, problem)
        if not self.chat:
            return problem.prompt
        # Of a task's own plain template the words are kept; of the default one nothing is left but the problem.
        template = self.task.template if isinstance(self.task, Templated) else PLAIN
        return problem.text if template == PLAIN else problem.prompt.strip()

    def _render(self, turns: Sequence[Mapping[str, str]], *, answered: bool = False) -> str:
        tokenizer: Any = self.framing.tokenizer
        try:
            return str(
                tokenizer.apply_chat_template(
                    list(turns), tokenize=False, add_generation_prompt=not answered, **self._switches
                )
            )
        except Exception as error:  # the template is a program of the checkpoint's
            told = " ".join(str(error).split())[:200]
            cause = next((name for name in ("structure", "system") if getattr(self.options, name)), "")
            cure = f"leave config.prompt.{cause} empty, or" if cause else "change config.prompt, or"
            raise UserError(
                f"the tokenizer's chat template refuses the prompt ({told}); {cure} set style=plain"
            ) from None

    @cached_property
    def _switches(self) -> dict[str, bool]:
        asked = self.options.thinking
        if not asked:
            return {}
        found = [name for name in SWITCHES if re.search(rf"\b{name}\b", str(self.framing.tokenizer.chat_template))]
        if not self.chat or not found:
            raise UserError(f"config.prompt.thinking={asked}: the tokenizer's chat template has no such switch")
        return dict.fromkeys(found, asked == "on")


def filled(template: str, problem: Problem) -> str:
    """The template with a problem's text and columns in the place of their names; UserError for an unknown name."""
    columns = {**problem.columns, "problem": problem.text}

    def column(match: re.Match[str]) -> str:
        if match[1] not in columns:
            raise UserError(
                f"config.prompt.user: problem {problem.id} has no column {match[1]!r}{nearest(match[1], columns)}; "
                "answers and solutions are not shown"
            )
        return str(columns[match[1]])

    return _SLOT.sub(column, template)
