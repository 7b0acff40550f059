"""A policy on the moves of RegisterChain whose values are known exactly.

It writes K derivations and an answer. The state before a step is (derived so far, an error stands, the last move only
restated something); the moves are those that RegisterChain's verifier tells apart. The answer is right where no error
stands, and a response earns 1 for it. So V and Q follow by going backwards over the states.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

RIGHT, FALSE, RESTATE, REPAIR, ANSWER = MOVES = range(5)
"""Derive the next register rightly (from what was stated) or falsely; restate; put the standing error right; answer."""


@dataclasses.dataclass(frozen=True)
class Phase:
    """Mean probabilities of the moves: of a false derivation, of restating before a move, of repairing a standing error
    before the end and at the end, of repairing where none stands (`long_writer` alone)."""

    false: float
    restate: float
    repair: float
    late_repair: float
    needless: float = 0.0


PHASES = {"early": Phase(0.15, 0.1, 0.125, 0.15), "late": Phase(0.02, 0.01, 0.4, 0.6)}
"""Early: the noise of RegisterChain's demonstrations, which SFT copies. Late: as after PPO in the quickstart."""


@dataclasses.dataclass(frozen=True)
class Writer:
    """The policy.

    Attributes:
      moves: π(move | state), `[K + 1, 2, 2, 5]`; 0 for a move that the state does not allow.
      reference: the same of the policy that training began with.
      value: V(state), the probability of a right answer, `[K + 1, 2, 2]`.
      quality: Q(state, move), `[K + 1, 2, 2, 5]`; V where the move is not allowed.
      critic_error: N(0, 1), what a learned critic's error in each state is a multiple of, `[K + 1, 2, 2]`.
    """

    moves: Float[np.ndarray, "D 2 2 M"]
    reference: Float[np.ndarray, "D 2 2 M"]
    value: Float[np.ndarray, "D 2 2"]
    quality: Float[np.ndarray, "D 2 2 M"]
    critic_error: Float[np.ndarray, "D 2 2"]

    @property
    def advantage(self) -> Float[np.ndarray, "D 2 2 M"]:
        """A = Q − V; 0 where the move is not allowed."""
        return self.quality - self.value[..., None]

    def expected(
        self, rewards: Float[np.ndarray, "D 2 2 M"], *, ahead: bool, turn: int = 0
    ) -> Float[np.ndarray, "D 2 2"]:
        """Mean reward of the step that follows each state or, `ahead`, of all steps that follow it; with `turn`, of
        those until that many derivations, counted from the first, are done."""
        found = (self.moves * rewards).sum(-1)
        return _backwards(self.moves, rewards, turn)[0] if ahead else found

    @property
    def gradient(self) -> Float[np.ndarray, "D 2 2 M"]:
        """The derivative of a right answer's chance by the logit of each move: visits · π · A."""
        visits = np.zeros(self.value.shape)
        visits[0, 0, 0] = 1.0
        for derived in range(len(visits)):
            for restated in (0, 1):  # a restatement leads to the restated state, a repair to the one without an error
                for error in (1, 0):
                    at = derived, error, restated
                    for move in np.flatnonzero(self.moves[at]):
                        if move != ANSWER:
                            visits[after(*at, int(move))] += visits[at] * self.moves[at][move]
        return visits[..., None] * self.moves * self.advantage


@dataclasses.dataclass(frozen=True)
class Written:
    """Responses as moves, `[B, S]` each: S is the most steps that there can be, −1 after a response's end.

    Attributes:
      move: of each step.
      derived, error, restated: the state before it.
      right: whether the answer is right, `[B]`.
    """

    move: Int[np.ndarray, "B S"]
    derived: Int[np.ndarray, "B S"]
    error: Int[np.ndarray, "B S"]
    restated: Int[np.ndarray, "B S"]
    right: np.ndarray


def make_writer(steps: int, phase: str, rng: np.random.Generator) -> Writer:
    """A policy of K = `steps` derivations: the phase's probabilities, their logits moved by N(0, 0.3²) in each state.

    A late policy's reference is an early one; an early policy's is itself, moved by N(0, 0.1²).
    """
    shape = (steps + 1, 2, 2, len(MOVES))
    noise = rng.normal(0.0, 0.3, shape)
    moves = _moved(_mean_moves(steps, PHASES[phase]), noise)
    further = rng.normal(0.0, 0.1, shape)
    reference = _moved(_mean_moves(steps, PHASES["early"]), noise + further if phase == "early" else noise)
    return writer_of(moves, reference, rng)


def make_independent_writer(steps: int, rng: np.random.Generator) -> Writer:
    """A policy of K = `steps` derivations and an answer, no other moves; errors are independent of those before, with
    probabilities around those of an early policy."""
    noise = np.broadcast_to(rng.normal(0.0, 0.3, (steps + 1, 1, 1, len(MOVES))), (steps + 1, 2, 2, len(MOVES)))
    moves = _moved(_mean_moves(steps, Phase(PHASES["early"].false, 0.0, 0.0, 0.0)), noise)
    return writer_of(moves, moves, rng)


def writer_of(
    moves: Float[np.ndarray, "D 2 2 M"], reference: Float[np.ndarray, "D 2 2 M"], rng: np.random.Generator
) -> Writer:
    """The policy of these probabilities, with its exact values."""
    earned = np.zeros(moves.shape)
    earned[:, 0, :, ANSWER] = 1.0
    return Writer(moves, reference, *_backwards(moves, earned), critic_error=rng.normal(size=moves.shape[:3]))


def _mean_moves(steps: int, phase: Phase) -> np.ndarray:
    found = np.zeros((steps + 1, 2, 2, len(MOVES)))
    for derived in range(steps + 1):
        for error in (0, 1):
            for restated in (0, 1):
                p = found[derived, error, restated]
                p[RESTATE] = 0.0 if restated else phase.restate
                if error:
                    p[REPAIR] = (1 - p[RESTATE]) * (phase.repair if derived < steps else phase.late_repair)
                rest = 1 - p[RESTATE] - p[REPAIR]
                if derived == steps:
                    p[ANSWER] = rest
                else:
                    p[RIGHT], p[FALSE] = rest * (1 - phase.false), rest * phase.false
    return found


def _moved(probabilities: np.ndarray, noise: np.ndarray) -> np.ndarray:
    found = probabilities * np.exp(noise)
    return found / found.sum(-1, keepdims=True)


def after(derived: int, error: int, restated: int, move: int) -> tuple[int, int, int]:
    """The state after a move that is no answer."""
    if move == RESTATE:
        return derived, error, 1
    if move == REPAIR:
        return derived, 0, restated
    return derived + 1, int(error or move == FALSE), 0


def _backwards(moves: np.ndarray, rewards: np.ndarray, turn: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """V and Q of the sum of the moves' rewards up to the answer, or up to the end of a turn of so many derivations."""
    value, quality = np.zeros(moves.shape[:3]), np.zeros(moves.shape)
    for derived in reversed(range(len(moves))):
        for error in (0, 1):  # a repair leads to the state without an error, a restatement to the restated one
            for restated in (1, 0):
                at = derived, error, restated
                for move in np.flatnonzero(moves[at]):
                    ends = move == ANSWER or (turn and move in (RIGHT, FALSE) and (derived + 1) % turn == 0)
                    further = 0.0 if ends else value[after(*at, int(move))]
                    quality[at][move] = rewards[at][move] + further
                value[at] = moves[at] @ quality[at]
                quality[at][moves[at] == 0] = value[at]
    return value, quality


def write(writer: Writer, responses: int, rng: np.random.Generator) -> Written:
    """Samples responses to one problem or many, which are all alike."""
    steps = 3 * len(writer.moves)  # a derivation (or the answer) each, before it at most a restatement and a repair
    columns = np.full((4, responses, steps), -1)
    derived, error, restated = np.zeros((3, responses), int)
    going, right = np.ones(responses, bool), np.zeros(responses, bool)
    for s in range(steps):
        if not going.any():
            break
        cumulative = writer.moves[derived, error, restated].cumsum(-1)
        # The last allowed move takes what rounding leaves of the sum.
        move = (rng.random(responses)[:, None] * cumulative[:, -1:] >= cumulative).sum(-1)
        columns[:, going, s] = np.stack([move, derived, error, restated])[:, going]
        answers = going & (move == ANSWER)
        right |= answers & (error == 0)
        going = going & (move != ANSWER)
        restated = np.where(move == RESTATE, 1, np.where(move == REPAIR, restated, 0))
        derived = derived + going * np.isin(move, (RIGHT, FALSE))
        error = np.where(move == FALSE, 1, np.where(move == REPAIR, 0, error))
    return Written(columns[0], columns[1], columns[2], columns[3], right)
