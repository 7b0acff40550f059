"""The tokens around a text's own: what begins a prompt and what ends a response.

The only place that adds such tokens. Sampling, demonstrations, labelled solutions and exports read them here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stepjax.data.tokenizers import encode
from stepjax.token_bytes import backend_of

_ANSWER = "stepjaxanswer"
"""Stands for an assistant's text, to find what a chat template writes after it."""


@dataclass(frozen=True)
class Framing:
    """How a model's prompts begin and its responses end.

    Attributes:
      tokenizer: Hugging Face tokenizer of the model.
      begin: ids that the tokenizer puts in front of a text (begin-of-text of Llama 3 and Gemma); (): none.
      ends: ids that end a response, each once. A plain one that is written, and not sampled, ends in the first.
    """

    tokenizer: Any
    begin: tuple[int, ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Any, named: Iterable[int] = ()) -> "Framing":
        """Framing of a tokenizer: its end-of-text token, those of its chat template, and `named` ones.

        Args:
          named: ids at which the generation config of the model's checkpoint ends.
        """
        ends = (int(tokenizer.eos_token_id), *named, *template_ends(tokenizer))
        return cls(tokenizer, begin_of(tokenizer), tuple(dict.fromkeys(ends)))

    @property
    def end(self) -> int:
        """The id that a written response ends in."""
        return self.ends[0]

    def prompt(self, text: str) -> list[int]:
        """Ids of a plain prompt. The beginning comes once, also where the text spells it; nothing of an empty text."""
        ids = encode(self.tokenizer, text)
        if not ids or tuple(ids[: len(self.begin)]) == self.begin:
            return ids
        return [*self.begin, *ids]

    def chat(self, turns: Sequence[Mapping[str, str]]) -> list[int]:
        """Ids of a conversation (`role` and `content`) up to where the assistant begins, by the chat template.

        The template writes the beginning itself where the model was trained with one, so none is added.
        """
        text = self.tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=True)
        return encode(self.tokenizer, text)

    def response(self, text: str, end: int | None = None) -> list[int]:
        """Ids of a whole response, ended once (by `end`, or `self.end`), also where the text spells an end."""
        ids = encode(self.tokenizer, text)
        return ids if self.finished(ids) else [*ids, self.end if end is None else end]

    def text(self, ids: Sequence[int]) -> str:
        """The text of a response, without special tokens and without its end, which need not be a special token."""
        kept = ids[:-1] if self.finished(ids) else ids
        return self.tokenizer.decode(list(kept), skip_special_tokens=True)

    def finished(self, ids: Sequence[int]) -> bool:
        """Whether a response ended by itself."""
        return bool(len(ids)) and int(ids[-1]) in self.ends


def begin_of(tokenizer: Any) -> tuple[int, ...]:
    """The ids that a tokenizer puts in front of a text: by its post-processor, `add_bos_token`, or otherwise."""
    plain, whole = encode(tokenizer, "a"), list(tokenizer.encode("a"))
    found = (at for at in range(len(whole) - len(plain) + 1) if whole[at : at + len(plain)] == plain)
    return tuple(whole[: next(found, 0)])


def template_ends(tokenizer: Any) -> tuple[int, ...]:
    """The token that the chat template writes after an assistant's text (`<|im_end|>`, `<|eot_id|>` …).

    (): there is no template, it fails on a question and an answer, or what follows the answer is plain text.
    """
    if not getattr(tokenizer, "chat_template", None):
        return ()
    turns = [{"role": "user", "content": "stepjaxquestion"}, {"role": "assistant", "content": _ANSWER}]
    try:
        written = tokenizer.apply_chat_template(turns, tokenize=False)
    except Exception:  # the template is a program of the checkpoint's, and may refuse such turns
        return ()
    _, found, after = written.rpartition(_ANSWER)
    if not found:
        return ()
    added = {t.content: i for i, t in backend_of(tokenizer).get_added_tokens_decoder().items()}
    fitting = [content for content in added if content and after.lstrip().startswith(content)]
    return (added[max(fitting, key=len)],) if fitting else ()
