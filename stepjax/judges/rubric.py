"""The judge's prompt: a rubric with the problem and the steps between marks that no text can contain."""

import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from stepjax.errors import UserError

RUBRICS = ("coarse", "detailed")


class Rubric:
    """A jinja2 template over `problem`, `steps`, `answer` ("" where it is not known), `open(name)` and `close(name)`.

    The marks around a text have a number that depends on all texts, so that a step cannot forge its own end.
    """

    def __init__(self, name: str, where: str = "config.label.judge"):
        """One of `RUBRICS`, or a file; `where`: the section of the options.

        UserError where there is no such file, or it is not a template.
        """
        if name in RUBRICS:
            text = resources.files("stepjax.judges").joinpath(f"rubrics/{name}.j2").read_text(encoding="utf-8")
        else:
            try:
                text = Path(name).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "not UTF-8 text"
                raise UserError(f"{where}.rubric={name}: {reason}; give coarse, detailed or a template file") from None
        environment = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True
        )
        self.name = name
        self.digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        try:
            self._template = environment.from_string(text)
            self("1 + 1?", ["2"])
        except TemplateError as error:
            raise UserError(f"{where}.rubric={name}: {' '.join(str(error).split())}") from None

    def __call__(self, problem: str, steps: Sequence[str], answer: str = "") -> str:
        """The question about one solution."""
        texts = (problem, answer, *steps)
        number = hashlib.sha256("\0".join(texts).encode(errors="replace")).hexdigest()[:8]
        while any(number in text for text in texts):  # practically never, but the check is cheap
            number = hashlib.sha256(number.encode()).hexdigest()[:8]
        return self._template.render(
            problem=problem,
            steps=list(steps),
            answer=answer,
            open=lambda name: f"[{name} begins {number}]",
            close=lambda name: f"[{name} ends {number}]",
        ).strip()
