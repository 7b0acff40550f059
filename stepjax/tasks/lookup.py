"""A lookup over the problem's text: after `<find:WORD>` it writes the sentences that have the word."""

import re

from stepjax.tasks.base import Problem
from stepjax.tasks.turns import Reply

NOTHING = "nothing"
_QUERY = re.compile(r"<find:([^<>\n]{1,100})>\Z")
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")


class Lookup:
    """An environment (`stepjax.tasks.turns.TurnEnvironment`) that reads a text for the policy.

    Args:
      column: the column of the problem's row that holds the text; "": the problem itself. With a column the prompt need
        not show the text.
      sentences: most of them in a reply, the first ones.
      cost: of each lookup.
    """

    call = ">"

    def __init__(self, column: str = "", sentences: int = 2, cost: float = 0.0):
        self.column, self.most, self.cost = column, sentences, cost
        self.sentences: list[str] = []

    def reset(self, problem: Problem) -> str | None:
        text = str(problem.columns[self.column]) if self.column else problem.text
        self.sentences = [sentence.strip() for sentence in _SENTENCE.findall(text)]
        return None

    def step(self, text: str) -> Reply:
        """A text that ends in no call is the policy's answer: nothing follows."""
        if not text.endswith(self.call):
            return Reply(done=True)
        query = _QUERY.search(text)
        if query is None:
            return Reply()
        word = re.compile(rf"(?<!\w){re.escape(query[1].strip())}(?!\w)", re.IGNORECASE)
        found = [sentence for sentence in self.sentences if word.search(sentence)][: self.most]
        return Reply("\n" + "\n".join(found or [NOTHING]) + "\n", -self.cost)


TURNS = Lookup
