r"""Expressions read from tokens into trees: nested tuples, an operation's name and its operands.

  sum     = [sign] product { ("+" | "-" | "\pm") product }
  product = power { ("*" | "\cdot" | "\times" | "/" | "\div" | "") power }      "": only before what cannot be misread
  power   = primary { "!" | "^\circ" | "^" exponent }
  primary = number [fraction] | letter | name | "(" sum ")" | "|" sum "|" | \frac a b | \sqrt[n] a | function argument

What may be meant in two ways (`1/2x`, `A1`, `\sin(x)^2`, `2 3`) is not read at all: the answer is then compared by its
spelling alone.
"""

from fractions import Fraction

from stepjax.answers.cursor import Cursor
from stepjax.answers.expression_trees import FUNCTIONS, GREEK, UNKNOWN_BASE, Tree
from stepjax.answers.tokens import Token, Tokens, Unreadable

_ALIASES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}
_INVERSE = {"sin": "arcsin", "cos": "arccos", "tan": "arctan"}
_CONSTANTS = {"pi": "pi", "infty": "inf"}
_APPLIED = set("fgFG")  # `f(x)` is a function's value, `n(n+1)` a product
_TIMES = {"*", r"\cdot", r"\times"}
_OVER = {"/", r"\div"}


def parse(tokens: Tokens) -> Tree:
    """The tree of an expression.

    Raises:
      Unreadable: where it is none, or its meaning is doubtful.
    """
    parser = _Parser(tokens)
    tree = parser.sum()
    if parser.position < len(tokens):
        raise Unreadable(f"unexpected {parser.peek().text!r}")
    return tree


class _Parser(Cursor):
    def inner(self, tokens: Tokens) -> Tree:
        """The tree of all of a group's content."""
        parser = _Parser(tokens, self.depth + 1)
        tree = parser.sum()
        if parser.position < len(parser.tokens):
            raise Unreadable(f"unexpected {parser.peek().text!r}")
        return tree

    def sum(self) -> Tree:
        tree = self.signed()
        while self.at("+", "-", r"\pm"):
            tree = ("add", tree, self.signed())
        return tree

    def signed(self) -> Tree:
        if self.at("+", "-", r"\pm"):
            sign = self.take().text
            if self.at("+", "-", r"\pm"):
                raise Unreadable("two signs")
            tree = self.product()
            return tree if sign == "+" else ("neg" if sign == "-" else "pm", tree)
        return self.product()

    def product(self, *, argument: bool = False) -> Tree:
        """A product; of a function without parentheses the argument, which ends where the next function begins."""
        tree = self.power()
        divided = False
        while True:
            if not argument and self.at(*_TIMES, *_OVER):
                over = self.take().text in _OVER
                negative = self.at("-")
                if negative:
                    self.take()
                factor = self.power()
                factor = ("neg", factor) if negative else factor
                tree, divided = ("div" if over else "mul", tree, factor), over
            elif self.juxtaposed(argument):
                if divided:
                    raise Unreadable("what is divided by what?")
                tree = ("mul", tree, self.power())
            else:
                return tree

    def juxtaposed(self, argument: bool) -> bool:
        token = self.peek()
        if token.kind == "number":
            raise Unreadable("a number after a factor")
        if token.kind == "letters":
            return not (argument and token.text in FUNCTIONS)
        if token.kind == "command":
            if argument and token.text[1:] in FUNCTIONS:
                return False
            name = token.text[1:]
            known = {"pi", "frac", "sqrt", "binom", "lfloor", "lceil", "overline", "bar"}
            return name in known or name in FUNCTIONS or name in GREEK
        return self.at("(", "[", "{", "|")

    def power(self) -> Tree:
        tree = self.primary()
        while True:
            if self.at("!"):
                self.take()
                if tree[0] == "fact":
                    raise Unreadable("a double factorial")
                tree = ("fact", tree)
            elif self.at("^") or (self.at("*") and self.peek(1) == Token("sign", "*")):
                if self.take().text == "*":
                    self.take()
                if self.degrees():
                    tree = ("deg", tree)
                else:
                    tree = ("pow", tree, self.exponent())
                    if self.at("^"):
                        raise Unreadable("a double exponent")
            elif self.at("'"):
                raise Unreadable("a prime")
            else:
                return tree

    def exponent(self) -> Tree:
        if self.at("{", "("):
            return self.inner(self.group())
        if self.at("-"):
            self.take()
            return ("neg", self.exponent())
        token = self.peek()
        if token.kind == "letters" and len(token.text) > 1:
            raise Unreadable("how much of it is the exponent?")
        return self.primary()

    def argument(self) -> Tree:
        r"""What `\frac` and its like take: a group, a digit, a letter or a command without arguments."""
        token = self.peek()
        if self.at("{"):
            return self.inner(self.group())
        if token.kind == "end" or token.text in ("+", "-", "=", "^", "_"):
            raise Unreadable("an argument is missing")
        self.split_first()
        return self.primary()

    def primary(self) -> Tree:
        token = self.peek()
        if token.kind == "number":
            return self.number()
        if token.kind == "letters":
            return self.letters()
        if self.at("(", "[", "{"):
            return self.inner(self.group())
        if self.at("|"):
            return self.absolute()
        if token.kind == "command":
            return self.command()
        raise Unreadable(f"unexpected {token.text!r}" if token.text else "unexpected end")

    def number(self) -> Tree:
        token = self.take()
        tree = ("num", token.value)
        if self.at("_"):
            raise Unreadable("a base")
        if token.text.isdigit():
            fraction = self.proper_fraction()
            if fraction is not None:
                return ("mixed", tree, fraction)
        return tree

    def proper_fraction(self) -> Tree | None:
        r"""The fraction of a mixed number: `\frac{1}{2}` or ` 1/2` behind a whole number."""
        start, saved = self.position, list(self.tokens)
        parts: list[Tree] = []
        if self.at(r"\frac"):
            self.take()
            parts = [self.argument(), self.argument()]
        elif self.peek().kind == "number" and self.peek().spaced and self.peek(1).text == "/":
            parts = [("num", self.take().value)]
            self.take()
            parts.append(("num", self.take().value) if self.peek().kind == "number" else ("sym", ""))
        if len(parts) == 2 and all(part[0] == "num" and part[1].denominator == 1 for part in parts):
            if 0 < parts[0][1] < parts[1][1]:
                return ("div", *parts)
            raise Unreadable("a mixed number with an improper fraction")
        self.position, self.tokens = start, saved
        return None

    def letters(self) -> Tree:
        token = self.take()
        name = _ALIASES.get(token.text, token.text)
        if name == "sqrt":
            return ("root", ("num", Fraction(2)), self.inner(self.group()) if self.at("(", "{") else self.primary())
        if name in FUNCTIONS:
            return self.function(name)
        if name in ("pi", "inf", "infinity", "infty"):
            return ("const", "pi" if name == "pi" else "inf")
        if name == "abs" and self.at("("):
            return ("abs", self.inner(self.group()))
        if self.peek().kind == "number" and not self.peek().spaced:
            raise Unreadable("a code of letters and digits")
        if len(name) > 1:
            if not name.islower():
                return self.symbol(name)  # a segment, a name: not a product
            if len(name) > 3:
                raise Unreadable("a word")
            # Letter by letter: the exponent belongs to the last.
            self.position -= 1
            self.tokens[self.position : self.position + 1] = [
                Token("letters", letter, token.spaced and i == 0) for i, letter in enumerate(name)
            ]
            return self.letters()
        if name == "e":
            return ("const", "e")
        if name == "i":
            return ("const", "i")
        return self.symbol(name)

    def symbol(self, name: str) -> Tree:
        """A variable with its index, its primes and, of a function, its argument."""
        name += self.index()
        while self.at("'"):
            name += self.take().text
        if name.rstrip("'") in _APPLIED and self.at("("):
            name += "(" + "".join(token.text for token in self.group()) + ")"
        return ("sym", name)

    def absolute(self) -> Tree:
        self.take()
        end = next((i for i in range(self.position, len(self.tokens)) if self.tokens[i].text == "|"), None)
        if end is None:
            raise Unreadable("an unclosed bar")
        content = tuple(self.tokens[self.position : end])
        self.position = end + 1
        return ("abs", self.inner(content))

    def command(self) -> Tree:
        name = self.peek().text[1:]
        if name in ("lfloor", "lceil"):
            return ("floor" if name == "lfloor" else "ceil", self.inner(self.group()))
        self.take()
        if name in _CONSTANTS:
            return ("const", _CONSTANTS[name])
        if name in GREEK:
            return self.symbol("\\" + name)
        if name in FUNCTIONS:
            return self.function(name)
        if name == "frac":
            return self.fraction()
        if name == "binom":
            return ("binom", self.argument(), self.argument())
        if name == "sqrt":
            degree: Tree = ("num", Fraction(2))
            if self.at("["):
                degree = self.inner(self.group())
            return ("root", degree, self.inner(self.group()) if self.at("(") else self.argument())
        raise Unreadable(f"unexpected \\{name}")

    def fraction(self) -> Tree:
        texts = [token.text for token in self.tokens[self.position : self.position + 6]]
        if "".join(texts[::3]) == "{{" and "".join(texts[2::3]) == "}}":
            over, under = texts[1], texts[4]
            if len(over) == len(under) == 2 and over[0] == under[0] == "d":
                self.position += 6
                return ("sym", f"{over}/{under}")  # a derivative
        return ("div", self.argument(), self.argument())

    def function(self, name: str) -> Tree:
        base: Tree | None = None
        if self.at("_"):
            if name != "log":
                raise Unreadable(f"an index of {name}")
            self.take()
            base = self.argument()
        exponent = None
        if self.at("^"):
            self.take()
            exponent = self.exponent()
            if exponent == ("neg", ("num", Fraction(1))):
                if name not in _INVERSE:
                    raise Unreadable("an inverse?")
                name, exponent = _INVERSE[name], None
        if self.at("(", "{", "["):
            argument = self.inner(self.group())
            if self.at("^", "!"):
                raise Unreadable("a power of the value or of the argument?")
        else:
            argument = self.product(argument=True)
        if name == "exp":
            tree: Tree = ("pow", ("const", "e"), argument)
        elif name == "ln":
            tree = ("ln", argument)
        elif name in ("log", "lg"):
            base = ("num", Fraction(10)) if name == "lg" else base
            # Without a base it is a logarithm to an unknown one, the same in both answers.
            tree = ("div", ("ln", argument), ("ln", base or ("sym", UNKNOWN_BASE)))
        else:
            tree = (name, argument)
        return tree if exponent is None else ("pow", tree, exponent)
