"""Which responses go on, and which give up what the cache holds of them."""

from types import SimpleNamespace

import numpy as np
import pytest

from stepjax.errors import UserError
from stepjax.rollout.turn_room import Going, TurnRoom


def room(decoding, held, page=4, slots=4):
    """Of two devices of ten rows each."""
    layout = SimpleNamespace(device=lambda row: row // 10)
    made = SimpleNamespace(decoding=SimpleNamespace(page=page, slots=slots), devices=2, layout=layout)
    return TurnRoom(made, decoding, held)


def test_blocks():
    found = room({}, [])
    assert [found.blocks(n) for n in (1, 4, 5, 8, 9)] == [0, 0, 1, 1, 2]  # the last tokens are in none
    assert [found.takes(start, 10) for start in (0, 1, 5, 8, 9)] == [3, 2, 1, 1, 0]
    assert room({}, [], page=0).blocks(99) == room({}, [], page=0).takes(0, 99) == 0


def test_nothing_goes_on_that_leaves_too_little_for_what_decodes():
    found = room({0: 3, 10: 1}, [])
    ready = [Going(1, 4, 2), Going(2, 2, 2), Going(3, 0, 5), Going(4, 0, 3), Going(11, 4, 2)]
    assert found.going(np.array([5, 6]), ready) == [2, 4, 11]
    assert found.going(np.array([2, 5]), ready) == [] and found.going(None, ready) == [1, 2, 3, 4, 11]


def test_those_that_have_waited_longest_give_up_first_and_those_that_are_ready_last():
    found = room({0: 3, 10: 1}, [5, 1, 7, 12, 6])
    assert found.gone(np.array([3, 1]), [], 2) == [] and found.gone(None, [], 2) == []
    assert found.gone(np.array([2, 1]), [], 2) == [5, 1] and found.gone(np.array([2, 0]), [], 1) == [5, 12]
    ready = [Going(1, 0, 2), Going(5, 0, 2)]
    assert found.gone(np.array([2, 1]), ready, 9) == [7, 6, 5], "the first one that is ready keeps its blocks"


def test_slots_that_are_empty_are_worth_what_others_hold():
    ready = [Going(1, 2, 3)]
    few, many = room({0: 1}, [5]), room({0: 1, 2: 1}, [5])
    assert few.gone(np.array([4, 9]), ready, 1) == [5] and few.gone(np.array([5, 9]), ready, 1) == []
    assert many.gone(np.array([4, 9]), ready, 1) == [], "no slot is empty"


def test_a_response_that_does_not_fit_alone_is_refused():
    with pytest.raises(UserError, match=r"^config\.ppo\.cache_tokens: .*; raise it$"):
        room({10: 1}, [12]).gone(np.array([4, 9]), [Going(1, 2, 3)], 1)
    assert room({0: 1}, []).gone(np.array([4, 9]), [Going(1, 2, 3)], 1) == [], "others will leave room"
