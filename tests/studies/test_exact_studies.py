"""The arithmetic of the exact studies: the law, gradients, critics of turns, what is blamed, thresholds."""

import dataclasses

import numpy as np
import pytest

from stepjax.studies.attempts import threshold
from stepjax.studies.credit_rows import lay_out, width_of
from stepjax.studies.credit_writer import (
    ANSWER,
    FALSE,
    REPAIR,
    RESTATE,
    RIGHT,
    Written,
    make_independent_writer,
    make_writer,
    write,
    writer_of,
)
from stepjax.studies.gradient_sums import GradientSums
from stepjax.studies.pushed import Pushed, groups_of
from stepjax.studies.registry import STUDIES, load
from stepjax.studies.seeds_study import spread, type_of
from stepjax.studies.simple_runs_study import first_reached
from stepjax.studies.stall_study import KINDS
from stepjax.studies.variance_study import law


def written_of(moves: list[list[int]]) -> Written:
    """Responses of these moves, with the states that they lead to."""
    move = np.array(moves)
    derived, error, restated = np.zeros((3, *move.shape), int)
    for b, row in enumerate(moves):
        at = [0, 0, 0]
        for s, m in enumerate(row):
            derived[b, s], error[b, s], restated[b, s] = at
            at[2] = 1 if m == RESTATE else at[2] if m == REPAIR else 0
            at[0] += m in (RIGHT, FALSE)
            at[1] = 1 if m == FALSE else 0 if m == REPAIR else at[1]
    return Written(move, derived, error, restated, np.zeros(len(move), bool))


def test_the_law():
    assert [law(k, 1.0) for k in (2, 8, 32)] == [1.5, 4.5, 16.5]
    expected = np.mean([(1 - 0.95 ** (12 * k)) / (1 - 0.95**12) for k in range(1, 5)])
    assert law(4, 0.95) == pytest.approx(expected)


def test_the_exact_gradient_is_the_derivative_of_a_right_answers_chance():
    writer, rng = make_writer(2, "early", np.random.default_rng(0)), np.random.default_rng(1)
    for at in [(0, 0, 0), (1, 1, 0), (1, 0, 1), (2, 1, 1)]:
        for move in np.flatnonzero(writer.moves[at]):
            chances = []
            for h in (1e-4, -1e-4):
                moves = writer.moves.copy()
                moves[at][move] *= np.exp(h)
                moves[at] /= moves[at].sum()
                chances.append(writer_of(moves, moves, rng).value[0, 0, 0])
            assert writer.gradient[at][move] == pytest.approx((chances[0] - chances[1]) / 2e-4, rel=1e-4, abs=1e-9)


def test_sums_of_gradients_equal_a_plain_loop():
    rng = np.random.default_rng(2)
    writer = make_writer(2, "early", rng)
    sums, gradients, estimates = GradientSums(writer), [], []
    for _ in range(2):
        written = write(writer, 40, rng)
        chosen = (written.move >= 0) & (written.move != ANSWER)
        error = np.where(written.move == FALSE, -1.0, 0.2)  # of the move, so that there is a mean gradient
        weight = np.where(chosen, error + 0.1 * rng.normal(size=chosen.shape), 0.0)
        sums.add(written, weight, chosen)
        for b in range(40):
            gradient = np.zeros(writer.moves.shape)
            for s in np.flatnonzero(chosen[b]):
                at = written.derived[b, s], written.error[b, s], written.restated[b, s]
                gradient[at] -= weight[b, s] * writer.moves[at]
                gradient[at][written.move[b, s]] += weight[b, s]
                estimates.append(weight[b, s])
            gradients.append(gradient.ravel())
    assert sums.variance == pytest.approx(np.var(estimates))
    of_each = np.var(gradients, axis=0, ddof=1).sum()
    assert sums.gradient_variance == pytest.approx(of_each)
    mean = np.mean(gradients, axis=0)
    np.testing.assert_allclose(sums.mean, mean)
    figures = sums.figures(sums)
    assert figures["ratio"] == figures["gradient_ratio"] == 1.0
    exact = writer.gradient.ravel()
    assert figures["cosine"] == pytest.approx(mean @ exact / np.linalg.norm(mean) / np.linalg.norm(exact))
    assert sums.responses == pytest.approx(of_each / (mean @ mean - of_each / 80))


def test_critics_of_turns_are_means_of_many_responses():
    writer = make_writer(4, "early", np.random.default_rng(4))
    paid = np.random.default_rng(5).normal(size=writer.moves.shape)
    expected = writer.expected(paid, ahead=True, turn=2)
    written = write(writer, 40_000, np.random.default_rng(6))
    there = written.move >= 0
    earned = np.where(there, paid[written.derived, written.error, written.restated, written.move], 0.0)
    for turn in (0, 1):  # the sum over the steps of the turn, from its first state on
        within = there & (written.derived // 2 == turn)
        sums = (earned * within).sum(1)
        first = (within & (np.cumsum(within, axis=1) == 1)).argmax(1)
        state = [x[np.arange(len(first)), first] for x in (written.derived, written.error, written.restated)]
        for error in (0, 1):
            of = sums[state[1] == error]
            if len(of):
                off = of.mean() - expected[2 * turn, error, 0]
                assert abs(off) < 4 * of.std() / np.sqrt(len(of)), (turn, error)


def test_errors_are_independent_where_they_should_be():
    writer = make_independent_writer(3, np.random.default_rng(0))
    assert np.array_equal(writer.moves[:, 0, 0], writer.moves[:, 1, 0])
    assert not writer.moves[..., [RESTATE, REPAIR]].any()


def test_a_turn_is_of_derivations():
    layout = lay_out(written_of([[RIGHT, RESTATE, FALSE, ANSWER]]), width_of(2), turn=2)
    assert layout.index[0, :19].tolist() == [-1, *[0] * 6, *[1] * 3, *[2] * 6, -1, 3, 3]
    assert np.flatnonzero(layout.env[0]).tolist() == [16] and layout.length.tolist() == [18]
    assert layout.last[0].tolist() == [6, 9, 15, 18]


def test_what_is_blamed_and_excused():
    moves = [[RIGHT, FALSE, RIGHT, REPAIR, ANSWER], [RIGHT, RIGHT, FALSE, RIGHT, ANSWER]]
    written = written_of(moves)
    groups = {name: [list(np.flatnonzero(row)) for row in of] for name, of in groups_of(written).items()}
    assert groups == {"blamed": [[0], [0, 1]], "clean": [[], []], "excused": [[1], []], "kept": [[], [2]]}
    layout = lay_out(written, width_of(4))
    weight = np.zeros(layout.index.shape)
    weight[0, :4] = -1.0  # three of the six tokens of the first step; its other three get nothing
    weight[1] = 1.0
    weight[0][layout.index[0] == 1] = 0.5
    pushed = Pushed()
    pushed.add(written, layout, weight)
    figures = pushed.figures()
    assert figures["blamed"] == pytest.approx(3 / 18) and figures["excused"] == figures["kept"] == 1.0
    assert np.isnan(figures["clean"]) and figures["no_credit"] == pytest.approx(3 / 24)


def test_thresholds():
    assert threshold(np.array([False, False, False, True])) == 0.75
    assert KINDS["fixed skill"].formula(1, -0.5, -1) == 0.25
    assert KINDS["outcome on top"].formula(1, 0, -1) == pytest.approx(1 / 2.5)
    assert KINDS["outcome alone"].formula(1, 0, -1) == 0.0
    streams = KINDS["outcome on top"].options(1.0, 0.0, -1.0).streams
    assert {name: (o.signal, o.horizon, o.weight) for name, o in streams.items()} == {
        "process": ("verifier", "step", 1.0),
        "outcome": ("outcome", "response", 0.5),
    }
    assert dataclasses.replace(KINDS["outcome alone"], process=1.0).formula(1, 0, -1) == pytest.approx(1 / 3)


def test_types_of_problems():
    assert type_of("a=7;b=a+2;c=b-3;?c", 10) == "+-, plain"
    assert type_of("a=7;b=a+5;c=b-1;?c", 10) == "+-, wraps"
    assert type_of("a=1;d=a+9;b=a-2;c=b-1;?c", 10) == "--, wraps"


def test_the_spread_between_seeds_leaves_the_noise_of_sampling_out():
    rng = np.random.default_rng(0)
    counts = np.full(4000, 200.0)
    same = rng.binomial(200, 0.9, 4000) / 200
    between, beyond = spread(same, counts)
    assert between == pytest.approx(np.sqrt(0.09 / 200), rel=0.05) and beyond < 0.006
    differing = rng.binomial(200, np.clip(rng.normal(0.8, 0.05, 4000), 0, 1)) / 200
    assert spread(differing, counts)[1] == pytest.approx(0.05, rel=0.1)


def test_the_first_rounds_that_are_good_enough():
    assert first_reached([0.95] * 4) is None and first_reached([0.95] * 5) == 5
    assert first_reached([0.5, 0.95, 0.95, 0.95, 0.95, 0.95, 0.5]) == 6
    assert first_reached([0.5, 0.95, 0.95, 0.95, 0.8] * 5) is None


@pytest.mark.parametrize("name", STUDIES)
def test_the_rows_of_a_studys_charts_are_arms_and_no_more_than_are_drawn(name):
    study = load(name)
    assert {*study.lines} <= {arm.row for arm in study.plan(False).arms} and len(study.lines) <= 6
