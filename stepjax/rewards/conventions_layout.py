"""Problem and steps to the tokens that a public process reward model reads, and the token of each step's score.

The texts come from a policy and a dataset, so they are untrusted: a special token that is spelled out in them (an end
of turn, another model's placeholder) is broken up, and the places of the scores are known by character offsets instead
of being searched by token id, which a text may contain as well.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepjax.data.framing import begin_of
from stepjax.errors import UserError
from stepjax.rewards.conventions import MARKED_CHAT, MARKED_TEXT, TOKENS, TURNS, Convention
from stepjax.token_bytes import backend_of, special_contents

_DATE = "26 Jul 2024"
"""Llama's chat template writes a date; a fixed one, so that a score does not depend on the day of the run."""


@dataclass(frozen=True)
class Reading:
    """One solution in the model's input format.

    Attributes:
      tokens: int32[n].
      places: int32[S], rising: the token at which each step's score is read.
    """

    tokens: np.ndarray
    places: np.ndarray


@dataclass(frozen=True)
class _Written:
    """A text and the character at which each step's marker starts."""

    text: str
    marks: list[int]


class Layout:
    """A convention with a tokenizer: `layout(problems, solutions)` gives the reading of each solution.

    Attributes:
      classes: ids of the tokens `bad` and `good`, where the head reads these.
    """

    def __init__(self, convention: Convention, tokenizer: Any, *, separator: str = "", where: str = "config.prm.path"):
        """`separator` takes the place of the convention's own; `where` begins the one line of an error.

        Raises:
          UserError: the tokenizer does not fit the convention.
        """
        self.convention, self.tokenizer, self._where = convention, tokenizer, where
        backend_of(tokenizer)
        special = special_contents(tokenizer)
        longest = sorted(filter(None, special), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest))) if longest else None
        self._chats: dict[int, tuple[str, ...]] = {}
        self.classes = self._class_ids() if convention.head == TOKENS else ()
        if convention.layout in (MARKED_CHAT, MARKED_TEXT, TURNS):
            self._markers = self._marker_ids()
        else:
            self._end = self._ids(separator or convention.separator)
            if not self._end:
                raise self._misfit(f"has no token for the separator {separator or convention.separator!r}")
        if self([""], [["1", "2"]])[0] is None:
            raise self._misfit(f"merges the mark {convention.marker!r} of a step's end with its neighbours")

    def __call__(self, problems: Sequence[str], solutions: Sequence[Sequence[str]]) -> list[Reading | None]:
        """The reading of each solution; None where it has no step, or a step's mark is not a token of its own.

        Args:
          problems: the text of each problem.
          solutions: the texts of each one's steps; white space around a text, as between steps, is not read.
        """
        pairs = [(self._text(p), [self._text(s) for s in steps]) for p, steps in zip(problems, solutions, strict=True)]
        if not all(steps for _, steps in pairs):  # no chat template writes a conversation without turns
            rest = iter(self([p for p, s in pairs if s], [s for _, s in pairs if s]))
            return [next(rest) if steps else None for _, steps in pairs]
        write: dict[str, Callable[[str, list[str]], _Written]] = {
            MARKED_CHAT: self._marked_chat,
            MARKED_TEXT: self._marked_text,
            TURNS: self._turns,
        }
        if self.convention.layout in write:
            return self._encode([write[self.convention.layout](*pair) for pair in pairs])
        return [self._separated(*pair) for pair in pairs]

    def _text(self, text: str) -> str:
        """Without white space around it, and with spelled-out special tokens broken up after their first character."""
        text = text.strip()
        return self._special.sub(lambda m: f"{m[0][0]} {m[0][1:]}", text) if self._special else text

    # Texts with marks.

    def _marked_chat(self, problem: str, steps: list[str]) -> _Written:
        before, between, after = self._chat(1)
        start = len(before) + len(problem) + len(between)
        answer, marks = _marked(steps, self.convention.marker)
        return _Written(before + problem + between + answer + after, [start + mark for mark in marks])

    def _marked_text(self, problem: str, steps: list[str]) -> _Written:
        number = self.convention.numbering
        begins = re.compile(re.escape(number.strip()).replace(r"\{\}", r"\d+")) if number else None
        lines = [
            step if begins is None or begins.match(step) else number.format(k) + step for k, step in enumerate(steps, 1)
        ]
        marked = [f"{line} " for line in lines]
        answer, marks = _marked(marked, self.convention.marker, between="\n")
        return _Written(f"{problem} {answer}", [len(problem) + 1 + mark for mark in marks])

    def _turns(self, problem: str, steps: list[str]) -> _Written:
        # The gaps of the chat with the turns in between: gap, user, gap, answer, gap, user, …
        gaps = self._chat(len(steps))
        text, marks = gaps[0], []
        for k, step in enumerate(steps):
            text += (f"{problem} {step}".strip() if k == 0 else step) + gaps[2 * k + 1]
            marks.append(len(text))
            text += self.convention.marker + gaps[2 * k + 2]
        return _Written(text, marks)

    def _chat(self, turns: int) -> tuple[str, ...]:
        """The chat template's texts around `turns` turns of user and assistant: 2 × turns + 1 gaps."""
        if turns not in self._chats:
            messages = [{"role": "system", "content": self.convention.system}] if self.convention.system else []
            names = []
            for k in range(turns):
                for role in ("user", "assistant"):
                    names.append(f"stepjax{role}turn{k}end")
                    messages.append({"role": role, "content": names[-1]})
            try:
                written = self.tokenizer.apply_chat_template(messages, tokenize=False, date_string=_DATE)
            except Exception as error:  # the template is a program of the checkpoint's
                first = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise self._misfit(f"has no chat template that writes {turns} turns ({first[:200]})") from None
            gaps = []
            for name in names:
                gap, found, written = written.partition(name)
                if not found:
                    raise self._misfit("has a chat template that leaves out or reorders turns")
                gaps.append(gap)
            self._chats[turns] = (*gaps, written)
        return self._chats[turns]

    def _encode(self, written: Sequence[_Written]) -> list[Reading | None]:
        if not written:
            return []
        # As the sources have it, the tokenizer adds its special tokens (begin-of-text) to plain texts and to a marked
        # chat; not where the chat template wrote them already.
        layout = self.convention.layout
        plain = layout == MARKED_TEXT or (layout == MARKED_CHAT and not self._begun(written[0].text))
        encoded = self.tokenizer(
            [w.text for w in written],
            add_special_tokens=plain,
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
        )
        shift = 1 if self.convention.layout == TURNS else 0
        found: list[Reading | None] = []
        for w, ids, offsets in zip(written, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            ends = {end: i for i, (_, end) in enumerate(offsets) if ids[i] in self._markers}
            places = [ends.get(mark + len(self.convention.marker), -1) for mark in w.marks]
            whole = all(place >= shift for place in places)
            found.append(
                Reading(np.array(ids, np.int32), np.array(places, np.int32) - shift) if places and whole else None
            )
        return found

    def _begun(self, text: str) -> bool:
        """Whether the text already spells what the tokenizer would put in front of it."""
        begin = begin_of(self.tokenizer)
        return bool(begin) and tuple(self._ids(text)[: len(begin)]) == begin

    # Pieces encoded one by one.

    def _separated(self, problem: str, steps: list[str]) -> Reading | None:
        begin, token = self.convention.begin, self.tokenizer.bos_token
        if begin == "text":
            ids = self._ids(f"{token or ''}{problem}\n")
        else:
            ids = ([] if token is None else [self.tokenizer.bos_token_id]) + self._ids(problem)
        last = self._end[-1:] if self.convention.lines else self._end
        places = []
        for step in steps:
            lines = [line for line in step.split("\n") if line.strip()] if self.convention.lines else [step]
            for line in lines or [""]:
                ids += self._ids(line) + last
            places.append(len(ids) - 1)
        return Reading(np.array(ids, np.int32), np.array(places, np.int32)) if places else None

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False, verbose=False) if text else []

    # What the tokenizer must contain.

    def _marker_ids(self) -> frozenset[int]:
        """The marker's token; in a byte-level vocabulary, the one with a space before it is another."""
        marker = self.convention.marker
        found = {self._ids(text)[-1] for text in (marker, f" {marker}")}
        written = {self.tokenizer.decode([i]).strip() for i in found}
        if marker not in written:
            raise self._misfit(f"has no token {marker!r}")
        return frozenset(found)

    def _class_ids(self) -> tuple[int, int]:
        good, bad = self.convention.good, self.convention.bad
        ids = self._ids(f"{good} {bad}") if self.convention.spaced else [self._ids(t)[-1] for t in (good, bad)]
        if len(ids) != 2 or ids[0] == ids[1]:
            raise self._misfit(f"does not write {good!r} and {bad!r} as one token each")
        return ids[1], ids[0]

    def _misfit(self, what: str) -> UserError:
        return UserError(f"{self._where}: its tokenizer {what}, which the convention {self.convention.name!r} needs")


def _marked(steps: Sequence[str], marker: str, between: str = "") -> tuple[str, list[int]]:
    """Every step followed by the marker, and the character at which each marker starts."""
    text, marks = "", []
    for k, step in enumerate(steps):
        text += (between if k else "") + step
        marks.append(len(text))
        text += marker
    return text, marks
