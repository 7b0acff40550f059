"""A policy on RegisterChain's moves that may go on until it is cut off, with values that are known exactly.

As in `credit_writer`, but every state offers several false derivations and several restatements, so that a reward model
may take one of them for another class, and a restatement may follow a restatement: a response that does not answer
within so many steps is cut off. The state before a step is (derived so far, whether an error stands, steps so far); the
policy sees the first two. The answer is right where no error stands, and a response earns 1 for it.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from stepjax.studies.credit_rows import rate
from stepjax.studies.credit_writer import ANSWER, FALSE, PHASES, REPAIR, RESTATE, RIGHT, Phase

VARIANTS = 4
"""Ways to err, and things to restate, in each state."""

KIND = np.array([RIGHT, *[FALSE] * VARIANTS, *[RESTATE] * VARIANTS, REPAIR, ANSWER])
"""The kind of each move, by `credit_writer`'s numbers."""

RATES = np.stack([rate(KIND, np.full(len(KIND), error)) for error in (0, 1)])
"""RegisterChain's rating of each move, −1, 0 or 1, `[error stands, move]`."""

_DERIVES, _ENDS = np.isin(KIND, (RIGHT, FALSE)), KIND == ANSWER
_ERROR = np.where(KIND == FALSE, 1, np.where(KIND == REPAIR, 0, np.arange(2)[:, None]))
"""Whether an error stands after a move, `[before, move]`."""


@dataclasses.dataclass(frozen=True)
class LongWriter:
    """The policy.

    Attributes:
      moves: π(move | state), `[K + 1, 2, M]`; 0 for a move that the state does not allow.
      limit: steps after which a response is cut off, T.
    """

    moves: Float[np.ndarray, "D 2 M"]
    limit: int

    @property
    def accuracy(self) -> float:
        """The chance of a right answer."""
        return float(self.values(outcome_rewards(len(self.moves)))[0][0, 0, 0])

    def values(self, rewards: Float[np.ndarray, "D 2 M"]) -> tuple[np.ndarray, np.ndarray]:
        """V and Q of the sum of what the moves earn, after so many steps: `[T + 1, K + 1, 2]` and `[T, K + 1, 2, M]`.

        The last step of a response that is cut off earns nothing, as in training: nobody knows how it would have ended.
        """
        states = len(self.moves)
        derived = np.minimum(np.arange(states)[:, None, None] + _DERIVES, states - 1)
        error = np.broadcast_to(_ERROR, self.moves.shape)
        following, goes_on = np.ravel_multi_index((derived, error), (states, 2)), (~_ENDS).astype(float)
        value, quality = np.zeros((self.limit + 1, states, 2)), np.zeros((self.limit, *self.moves.shape))
        for t in reversed(range(self.limit)):
            earned = rewards if t < self.limit - 1 else np.where(_ENDS, rewards, 0.0)
            quality[t] = earned + goes_on * value[t + 1].ravel()[following]
            value[t] = np.einsum("dem,dem->de", self.moves, quality[t])
        return value, quality


@dataclasses.dataclass(frozen=True)
class LongWritten:
    """Responses as moves, `[B, T]` each, −1 after a response's end.

    Attributes:
      move: of each step, an index of `KIND`.
      derived, error: the state before it.
      finished: whether the response answered before it was cut off, `[B]`.
      right: whether its answer is right, `[B]`.
    """

    move: Int[np.ndarray, "B T"]
    derived: Int[np.ndarray, "B T"]
    error: Int[np.ndarray, "B T"]
    finished: Bool[np.ndarray, " B"]
    right: Bool[np.ndarray, " B"]

    @property
    def there(self) -> Bool[np.ndarray, "B T"]:
        """Whether there is a step."""
        return self.move >= 0

    @property
    def rating(self) -> Int[np.ndarray, "B T"]:
        """RegisterChain's rating of each step; 0 where there is none."""
        return np.where(self.there, RATES[self.error, self.move], 0)

    @property
    def error_after(self) -> Int[np.ndarray, "B T"]:
        """Whether an error stands after each step."""
        return _ERROR[self.error, self.move]


def limit_of(steps: int) -> int:
    """Steps of the longest response to a problem of K = `steps`: three times as many as needed."""
    return 3 * (steps + 1)


def outcome_rewards(states: int) -> Float[np.ndarray, "D 2 M"]:
    """1 for a right answer."""
    return np.broadcast_to(_ENDS & (np.arange(2)[:, None] == 0), (states, 2, len(KIND))).astype(float)


def make_long_writer(steps: int, rng: np.random.Generator, phase: Phase = PHASES["early"]) -> LongWriter:
    """A policy of K = `steps` derivations: the phase's probabilities, shared evenly among the variants of a move, their
    logits moved by N(0, 0.3²)."""
    moves = np.zeros((steps + 1, 2, len(KIND)))
    of = {kind: np.equal(KIND, kind) for kind in (RIGHT, FALSE, RESTATE, REPAIR, ANSWER)}
    for derived in range(steps + 1):
        for error in (0, 1):
            repair = (phase.repair if derived < steps else phase.late_repair) if error else phase.needless
            chance = {RESTATE: phase.restate, REPAIR: (1 - phase.restate) * repair}
            rest = 1 - sum(chance.values())
            chance |= (
                {ANSWER: rest} if derived == steps else {RIGHT: rest * (1 - phase.false), FALSE: rest * phase.false}
            )
            for kind, p in chance.items():
                moves[derived, error, of[kind]] = p / of[kind].sum()
    moves *= np.exp(rng.normal(0.0, 0.3, moves.shape))
    return LongWriter(moves / moves.sum(-1, keepdims=True), limit_of(steps))


def write(writer: LongWriter, responses: int, rng: np.random.Generator) -> LongWritten:
    """Samples responses."""
    columns = np.full((3, responses, writer.limit), -1)
    derived, error = np.zeros((2, responses), int)
    going, right = np.ones(responses, bool), np.zeros(responses, bool)
    cumulative = writer.moves.cumsum(-1)
    for s in range(writer.limit):
        if not going.any():
            break
        of = cumulative[derived, error]
        move = (rng.random(responses)[:, None] * of[:, -1:] >= of).sum(-1)
        columns[:, going, s] = np.stack([move, derived, error])[:, going]
        right |= going & _ENDS[move] & (error == 0)
        going &= ~_ENDS[move]
        derived = derived + (going & _DERIVES[move])
        error = _ERROR[error, move]
    return LongWritten(columns[0], columns[1], columns[2], ~going, right)
