"""A place in a sequence of tokens, and what all readers of expressions do there."""

from fractions import Fraction

from stepjax.answers.tokens import MOST_NESTING, Token, Tokens, Unreadable, matching

_END = Token("end", "")
_CLOSED = {"(": ")", "[": "]", "{": "}"}


class Cursor:
    """The tokens and the position of the next one."""

    def __init__(self, tokens: Tokens, depth: int = 0):
        self.tokens = list(tokens)
        self.position = 0
        self.depth = depth
        if depth > MOST_NESTING:
            raise Unreadable("nested too deeply")

    def peek(self, ahead: int = 0) -> Token:
        i = self.position + ahead
        return self.tokens[i] if i < len(self.tokens) else _END

    def take(self) -> Token:
        token = self.peek()
        self.position += 1
        return token

    def at(self, *texts: str) -> bool:
        return self.peek().kind in ("sign", "command") and self.peek().text in texts

    def group(self) -> Tokens:
        """The content of the brackets at hand."""
        opening = self.peek().text
        end = matching(tuple(self.tokens), self.position)
        if opening in _CLOSED and self.tokens[end].text != _CLOSED[opening]:
            raise Unreadable("an interval in an expression")
        content = tuple(self.tokens[self.position + 1 : end])
        self.position = end + 1
        return content

    def degrees(self) -> bool:
        token = self.peek()
        if token.text == r"\circ":
            self.position += 1
            return True
        if token.text == "{" and self.peek(1).text == r"\circ" and self.peek(2).text == "}":
            self.position += 3
            return True
        return False

    def split_first(self) -> None:
        """Cuts the first character off the next number or run of letters: an argument without braces is no longer."""
        token = self.peek()
        if token.kind not in ("number", "letters") or len(token.text) == 1:
            return
        if token.kind == "number" and not token.text.isdigit():
            raise Unreadable("a number without braces")
        parts = [(token.text[0], token.spaced), (token.text[1:], False)]
        self.tokens[self.position : self.position + 1] = [
            Token(token.kind, text, spaced, Fraction(int(text)) if token.kind == "number" else Fraction(0))
            for text, spaced in parts
        ]

    def index(self) -> str:
        """The index behind `_`, in braces; empty where there is none."""
        if not self.at("_"):
            return ""
        self.take()
        if self.at("{"):
            return "_{" + "".join(token.text for token in self.group()) + "}"
        if self.peek().kind not in ("number", "letters", "command"):
            raise Unreadable("an index is missing")
        return "_{" + self.take().text + "}"
