"""Numbers of steps and responses lie on the tokens that earn them."""

import numpy as np

from stepjax.rewards.by_token import by_token


def test_rewards_lie_on_the_last_tokens():
    index = np.array([[-1, 0, 0, 2, 2, -1], [-1, 0, -1, 1, -1, -1], [-1] * 6, [-1, 0, 0, -1, -1, -1]])
    end = np.array([[0, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 0], [0] * 6, [0, 0, 1, 0, 0, 0]], bool)
    steps = [np.array(r, np.float32) for r in ([1, 2, 3], [4, 5], [], [])]
    found = by_token(steps, index, end)
    wanted = np.zeros((4, 6), np.float32)
    wanted[0, 2], wanted[0, 4], wanted[1, 1], wanted[1, 3] = 1, 3, 4, 5  # step 1 of row 0 has no token of its own
    np.testing.assert_array_equal(found, wanted)
    found = by_token([np.float32(x) for x in (7, 8, 9, 6)], index, end)
    wanted = np.zeros((4, 6), np.float32)
    wanted[0, 4], wanted[1, 3], wanted[3, 2] = 7, 8, 6
    np.testing.assert_array_equal(found, wanted)


def test_entries_of_several_numbers_and_unknown_ones():
    index = np.array([[-1, 0, 0, 1], [-1, 0, 1, 1], [-1, 0, 0, 1]])
    end = np.array([[0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 1, 1]], bool)
    found = by_token([np.array([[1, 2], [3, 4]]), None, np.array([5, 6])], index, end, columns=(2,))
    wanted = np.zeros((3, 4, 2), np.float32)
    wanted[0, 2], wanted[0, 3], wanted[2, 3] = (1, 2), (3, 4), (5, 6)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, wanted)
