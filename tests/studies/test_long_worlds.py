"""The world of policies that may restate until they are cut off: values, credit, gradients, labels, monitors."""

import dataclasses

import numpy as np
import pytest

from stepjax.options import from_dict, recipe, stream
from stepjax.runs.alarms import PREFIX
from stepjax.runs.monitors import monitors, proxy_gap
from stepjax.studies import correction_study, simple_study, step_labels
from stepjax.studies.credit_writer import ANSWER, FALSE, REPAIR, RESTATE, RIGHT, Phase
from stepjax.studies.crediting import crediting
from stepjax.studies.drawn_completions import Completed
from stepjax.studies.label_cost_study import label_error, spearman
from stepjax.studies.learned_critic import LearnedCritic
from stepjax.studies.long_training import Round, gradient_of, paid, rows_of, train
from stepjax.studies.long_writer import KIND, RATES, LongWriter, LongWritten, make_long_writer, outcome_rewards, write
from stepjax.studies.padding_monitors import LASTING, Watch, first_fall, spelled, watched
from stepjax.studies.table_prm import classes, exact_table, f1_on, fit, mistaken, right_f1_on, two_classes

M = {RIGHT: 0, FALSE: 1, RESTATE: 5, REPAIR: 9, ANSWER: 10}
"""A move of each kind."""


def written_of(kinds: list[list[int]], limit: int) -> LongWritten:
    """Responses of these kinds of moves, with the states that they lead to."""
    move = np.full((len(kinds), limit), -1)
    derived, error = np.full((2, *move.shape), -1)
    right, finished = np.zeros((2, len(kinds)), bool)
    for b, row in enumerate(kinds):
        d = e = 0
        for s, kind in enumerate(row):
            move[b, s], derived[b, s], error[b, s] = M[kind], d, e
            finished[b], right[b] = kind == ANSWER, kind == ANSWER and not e
            d += kind in (RIGHT, FALSE)
            e = 1 if kind == FALSE else 0 if kind == REPAIR else e
    return LongWritten(move, derived, error, finished, right)


def test_values_are_means_of_many_responses():
    rng = np.random.default_rng(0)
    writer = make_long_writer(3, rng)
    writer = dataclasses.replace(writer, limit=5)  # many are cut off
    paid_for = rng.normal(size=writer.moves.shape)
    written = write(writer, 60_000, rng)
    assert 0.05 < 1 - written.finished.mean() < 0.9
    assert written.right.mean() == pytest.approx(writer.accuracy, abs=0.01)
    earned = np.where(written.there, paid_for[written.derived, written.error, written.move], 0.0)
    earned[~written.finished, writer.limit - 1] = 0.0  # a step that was cut off earns nothing
    value, quality = writer.values(paid_for)
    assert earned.sum(1).mean() == pytest.approx(value[0, 0, 0], abs=5 * earned.sum(1).std() / 245)
    at = (written.derived[:, 2] == 1) & (written.error[:, 2] == 1) & (written.move[:, 2] == M[FALSE])
    ahead = earned[at, 2:].sum(1)
    assert ahead.mean() == pytest.approx(quality[2, 1, 1, M[FALSE]], abs=5 * ahead.std() / np.sqrt(len(ahead)))


def test_the_rounds_of_a_response_and_its_ratings():
    written = written_of([[RIGHT, RESTATE, FALSE, RESTATE, REPAIR, ANSWER], [FALSE, RIGHT, ANSWER]], 6)
    assert written.rating.tolist() == [[1, 0, -1, -1, 1, 1], [-1, -1, -1, 0, 0, 0]]
    assert written.error_after[0].tolist() == [0, 0, 1, 1, 0, 0] and written.error_after[1, :3].tolist() == [1, 1, 1]


@pytest.fixture(scope="module")
def summed():
    """Options and program of scores that are summed over the response, not whitened, λ = 1."""
    config = recipe()
    config.ppo.streams = {"process": stream(signal="prm", horizon="response", neutral=-0.5, lam=1.0, whiten=False)}
    options = dataclasses.replace(from_dict(config).ppo, samples=4)
    return options, crediting(options, "policy_weight")


def test_credit_is_what_follows_minus_the_exact_value(summed):
    options, program = summed
    rng = np.random.default_rng(1)
    writer = dataclasses.replace(make_long_writer(3, rng), limit=6)
    prm = rng.dirichlet(np.ones(3), writer.moves.shape)
    written = write(writer, 32, rng)
    scores = np.where(written.there[..., None], prm[written.derived, written.error, written.move], 0.0)
    weight = np.asarray(program(*rows_of(writer, written, scores, prm, options)))[:, 1:]
    pays = paid(prm, options.streams["process"])
    value = writer.values(pays)[0]
    assert not written.finished.all()
    for b in range(32):
        count = int(written.there[b].sum())
        of = [pays[written.derived[b, s], written.error[b, s], written.move[b, s]] for s in range(count)]
        if not written.finished[b]:
            of[-1] = 0.0
        for s in range(count):
            expected = sum(of[s:]) - value[s, written.derived[b, s], written.error[b, s]]
            assert weight[b, s] == pytest.approx(expected, abs=1e-4)
        assert not weight[b, count:].any()


def test_the_mean_gradient_equals_a_plain_loop_and_raises_what_is_paid(summed):
    options, program = summed
    rng = np.random.default_rng(2)
    writer = make_long_writer(2, rng)
    written = write(writer, 16, rng)
    weight = np.where(written.there, rng.normal(size=written.move.shape), 0.0)
    expected = np.zeros(writer.moves.shape)
    for b in range(16):
        for s in np.flatnonzero(written.there[b]):
            at = written.derived[b, s], written.error[b, s]
            expected[at] -= weight[b, s] * writer.moves[at] / 16
            expected[at][written.move[b, s]] += weight[b, s] / 16
    np.testing.assert_allclose(gradient_of(writer, written, weight), expected, atol=1e-12)
    rounds = list(train(writer, exact_table(3), options, program, rounds=60, responses=32, rate=0.05, rng=rng))
    assert len(rounds) == 61 and rounds[0].writer is writer
    assert rounds[-1].writer.accuracy > 0.9 > rounds[0].writer.accuracy
    assert (rounds[-1].writer.moves[writer.moves == 0] == 0).all()


def test_moves_that_are_tied_keep_their_shares_and_the_others_learn(summed):
    options, program = summed
    rng = np.random.default_rng(9)
    writer = make_long_writer(2, rng, Phase(0.3, 0.1, 0.05, 0.05, needless=0.2))
    tied = np.isin(KIND, (RIGHT, FALSE))
    rounds = train(writer, exact_table(3), options, program, rounds=60, responses=32, rate=0.05, rng=rng, tied=tied)
    last = list(rounds)[-1].writer
    before, after = (w.moves[:2][..., tied] / w.moves[:2][..., tied].sum(-1, keepdims=True) for w in (writer, last))
    np.testing.assert_allclose(after, before, atol=1e-9)
    repair = np.equal(KIND, REPAIR)
    assert (last.moves[1:, 1][:, repair] > 0.5).all() and (last.moves[:2, 0][:, repair] < 0.1).all()


def test_repairs_are_counted_by_whether_an_error_stood():
    written = written_of([[REPAIR, FALSE, FALSE, REPAIR, FALSE, ANSWER], [RIGHT, REPAIR, FALSE, ANSWER]], 6)
    assert correction_study.repairs_of(written) == (3, 1, 2)
    assert written.rating[0, :4].tolist() == [0, -1, -1, 1], "a needless repair is neutral"


def test_ratings_of_each_step_by_itself_know_no_standing_error():
    prm = correction_study.rated(correction_study.LOCAL)
    assert (prm[:, 1, M[RIGHT]] == [0, 0, 1]).all() and (prm[:, 1, M[ANSWER]] == [0, 0, 1]).all()
    assert (prm[:, 0, M[FALSE]] == [1, 0, 0]).all() and (prm[:, 1, M[REPAIR]] == [0, 1, 0]).all()
    own = correction_study.rated(correction_study.LOCAL_PAID)
    assert (own[:, 1, M[REPAIR]] == [0, 0, 1]).all() and (own[:, 0, M[REPAIR]] == [0, 1, 0]).all()
    assert (np.delete(own, M[REPAIR], 2) == np.delete(prm, M[REPAIR], 2)).all()
    paid_for = correction_study.rated(correction_study.PAID)
    assert (paid_for[:, 1, M[REPAIR]] == [0, 0, 1]).all() and (paid_for[:, 1, M[RIGHT]] == [1, 0, 0]).all()


def test_a_table_learns_mean_labels_and_the_average_where_it_saw_none():
    written = written_of([[RIGHT, ANSWER], [RIGHT, ANSWER], [FALSE, ANSWER]], 3)
    labels = classes(written.rating)
    labels[1, 1] = np.nan  # not labelled
    prm = fit(2, written, labels)
    average = np.array([2, 0, 3]) / 5
    np.testing.assert_allclose(prm[0, 0, M[RIGHT]], (np.array([0, 0, 2]) + average) / 3)
    np.testing.assert_allclose(prm[1, 0, M[ANSWER]], (np.array([0, 0, 1]) + average) / 2)
    np.testing.assert_allclose(prm[0, 0, M[RESTATE]], average)
    assert f1_on(exact_table(2), written) == right_f1_on(exact_table(2), written) == 1.0


def test_errors_of_judges_have_the_share_that_was_asked_for():
    rng = np.random.default_rng(3)
    rating = rng.integers(-1, 2, (200, 100))
    said = mistaken(rating, 0.2, rng)
    assert (said != rating).mean() == pytest.approx(0.2, abs=0.01) and set(np.unique(said)) == {-1, 0, 1}
    writer = make_long_writer(8, rng)
    written = write(writer, 64, rng)
    blind = step_labels.judged(0.3, always=True)
    labels = [blind(writer, written, np.random.default_rng(4)).labels for _ in range(2)]
    np.testing.assert_array_equal(*labels)
    cells = {}
    for at, label in zip(
        zip(*(x[written.there] for x in (written.derived, written.error, written.move)), strict=True),
        labels[0][written.there],
        strict=True,
    ):
        assert cells.setdefault(at, label.argmax()) == label.argmax(), "the same move is judged the same"
    wrong = np.mean([label != RATES[e, m] + 1 for (_, e, m), label in cells.items()])
    assert 0.15 < wrong < 0.45


def test_labels_of_completions_follow_the_values():
    rng = np.random.default_rng(5)
    writer = make_long_writer(3, rng)
    written = write(writer, 4000, rng)
    chance = step_labels.after(writer, written)
    before_last = written.there.copy()
    before_last[np.arange(4000), written.there.sum(1) - 1] = False
    soft = step_labels.completed("soft", 8)(writer, written, rng)
    hard = step_labels.completed("hard", 8)(writer, written, rng)
    assert soft.completions == hard.completions == 8 * before_last.sum() / 4000
    at = before_last & (written.error_after == 1)
    assert soft.labels[at][:, 2].mean() == pytest.approx(chance[at].mean(), abs=0.01)
    assert hard.labels[at][:, 2].mean() == pytest.approx((1 - (1 - chance[at]) ** 8).mean(), abs=0.02)
    last = written.there & ~before_last
    np.testing.assert_array_equal(soft.labels[last][:, 2], np.broadcast_to(written.right[:, None], last.shape)[last])
    signs = step_labels.completed("advances", 4000)(writer, written, rng).labels.argmax(-1) - 1
    falls = before_last & (written.error == 0) & (written.error_after == 1)
    assert (signs[falls] == -1).mean() > 0.99


def test_binary_search_finds_the_first_step_from_which_nothing_is_right():
    moves = np.zeros((4, 2, len(KIND)))
    moves[:3, :, M[RIGHT]] = moves[3, :, M[ANSWER]] = 1.0  # never repairs: after an error no completion is right
    writer = LongWriter(moves, 12)
    kinds = [[RIGHT, FALSE, RIGHT, ANSWER], [FALSE, RIGHT, RIGHT, ANSWER], [RIGHT, RIGHT, RIGHT, ANSWER]]
    written = written_of(kinds, 12)
    assert outcome_rewards(4)[3].tolist() == [[0.0] * 10 + [1.0], [0.0] * 11]
    found = step_labels.searched(8)(writer, written, np.random.default_rng(0))
    assert found.labels[:, :4, 2].tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]]
    assert found.completions == 8 * 4 / 3, "two questions for each of the two wrong answers"
    there = written.there
    assert label_error(found.labels, written.error_after, there) == 0.0
    assert label_error(two_classes(np.ones(there.shape)), written.error_after, there) == pytest.approx(7 / 12)


def test_rank_correlation():
    x, y = [0.1, 0.4, 0.2, 0.9], [3.0, 2.0, 5.0, 1.0]
    order = [np.argsort(np.argsort(v)) for v in (x, y)]
    assert spearman(x, y) == pytest.approx(np.corrcoef(*order)[0, 1])
    assert np.isnan(spearman([1.0, 1.0], [0.0, 1.0]))


@pytest.mark.parametrize("restates", [1.0, 30.0])
def test_the_monitors_are_those_of_a_run(restates):
    rng = np.random.default_rng(6)
    writer = make_long_writer(4, rng)
    moves = writer.moves * np.where(KIND == RESTATE, restates, 1.0)
    writer = dataclasses.replace(writer, moves=moves / moves.sum(-1, keepdims=True))
    written = write(writer, 64, rng)
    assert written.finished.mean() > 0.9 if restates == 1 else written.finished.mean() < 0.9
    scores = np.where(written.there[..., None], rng.dirichlet(np.ones(3), written.move.shape), 0.0)
    of = Round(writer, written, scores)
    responses = spelled(of)
    expected = monitors(responses, notes=False)
    expected["proxy_gap"] = proxy_gap(scores, written.rating, written.there, responses)
    ratings = [rating.rating for response in responses for rating in response.step_ratings]
    expected["neutral"] = ratings.count(0) / len(ratings)
    found = watched(of)
    assert found == {PREFIX + name: pytest.approx(value) for name, value in expected.items()}


def test_falls_are_lasting_and_alarms_lead_them():
    up, down = [0.5, 0.8], [0.7] * LASTING
    assert first_fall([*up, *down]) == 2 and first_fall([*up, *down[1:]]) is None
    assert first_fall([*up, 0.7, 0.8, *down, 0.9]) == 4
    assert first_fall([0.5] * 30) is None
    watch = Watch()
    watch.right = [0.9] * 30 + [0.1] * 10
    assert watch.fell == 30 and np.isnan(watch.lead)
    watch.rang = 12
    assert watch.lead == 18.0
    watch.rang = 31
    assert np.isnan(watch.lead)


def test_a_critic_that_learns_goes_half_of_the_way_to_the_mean_return_of_each_state():
    rng = np.random.default_rng(7)
    written = write(make_long_writer(3, rng), 24, rng)
    returns = rng.normal(size=(24, 2, written.move.shape[1]))
    critic = LearnedCritic(4, 2)
    for _ in range(2):
        critic.learn(written, returns)
    for n in range(2):
        for state in np.ndindex(4, 2):
            at = written.there & (written.derived == state[0]) & (written.error == state[1])
            expected = 0.75 * returns[:, n][at].mean() if at.any() else 0.0
            assert critic.values[n][state] == pytest.approx(expected)


def test_completions_are_right_as_often_as_the_values_say_and_their_steps_are_counted():
    rng = np.random.default_rng(8)
    writer = make_long_writer(2, rng)
    options = simple_study.options_of("vineppo")
    completed = Completed(options, rng)
    written = write(writer, 4000, rng)
    share = completed(writer, written)["stream/progress"]
    last = step_labels.is_last(written)
    np.testing.assert_array_equal(share[last], written.right)
    open_ = written.there & ~last
    chance = step_labels.after(writer, written)
    assert share[open_].mean() == pytest.approx(chance[open_].mean(), abs=0.01)
    counts = 9 * share[open_]
    np.testing.assert_allclose(counts, counts.round(), atol=1e-9)
    length = written.there.sum(1)
    followed = length * (length - 1) / 2  # steps behind each step, as these responses went on
    assert completed.steps / 9 / 4000 == pytest.approx(followed.mean(), rel=0.03)
