"""What a process makes of the others' pulses: lost, failed, late, and told to stop."""

import json
import threading
import time

import pytest

from stepjax.distributed.stop import Stop
from stepjax.distributed.watch import FOLDER, LOST, Watch, activity


class Service:
    """The coordination service, in a dict."""

    def __init__(self):
        self.values: dict[str, str] = {}
        self.broken = False

    def key_value_set(self, key, value, overwrite):
        if self.broken:
            raise RuntimeError("UNAVAILABLE: connection reset")
        self.values[key] = value

    def key_value_dir_get(self, folder):
        return [(k, v) for k, v in self.values.items() if k.startswith(folder)]


class Ended:
    def __init__(self):
        self.calls: list[tuple[int, str]] = []
        self.event = threading.Event()

    def __call__(self, status, reason):
        self.calls.append((status, reason))
        self.event.set()


@pytest.fixture
def watched():
    service, ended, stop = Service(), Ended(), Stop(2)
    made = []

    def make(timeout=0.4, stall=0.0):
        watch = Watch(service, 0, 2, coordinator="host:1", timeout=timeout, stall=stall, stop=stop, end=ended)
        made.append(watch)
        watch.start()
        return watch

    yield service, ended, stop, make
    for watch in made:
        watch.close()


def peer(service, beat=1, **values):
    known = {"host": "b", "pid": 7, "doing": "PPO round 3", "waiting": True, "since": 0.0, "stop": None, "step": None}
    service.values[f"{FOLDER}1"] = json.dumps(known | {"beat": beat} | values)


def living(service, seconds, until=lambda: False, **values):
    """Process 1 gives signs of life, for so long or until a condition holds."""
    end = time.monotonic() + seconds
    beat = 0
    while time.monotonic() < end and not until():
        beat += 1
        peer(service, beat, **values)
        time.sleep(0.02)


def test_a_silent_process_is_lost_by_name(watched):
    service, ended, _, make = watched
    make()
    living(service, 0.8)
    assert not ended.calls, "it is alive"
    assert ended.event.wait(3)
    status, reason = ended.calls[0]
    assert status == LOST
    assert reason.startswith("process 1 (pid 7 on b) is lost: no heartbeat for")
    assert reason.endswith("last at PPO round 3")


def test_a_process_that_is_done_may_be_silent(watched):
    service, ended, _, make = watched
    watch = make()
    peer(service, done=True)
    assert not ended.event.wait(1.0)
    watch.publish(done=True)
    assert watch.every("done")


def test_a_failed_process_says_why(watched):
    service, ended, _, make = watched
    make(timeout=5)
    peer(service, end=[2, "the disk is full"])
    assert ended.event.wait(3)
    assert ended.calls[0] == (2, "process 1 (pid 7 on b) ended: the disk is full")


def test_a_reason_that_names_a_process_is_handed_on_as_it_is(watched):
    service, ended, _, make = watched
    make(timeout=5)
    peer(service, end=[LOST, "process 3 (pid 9 on d) is lost: no heartbeat for 60 s"])
    assert ended.event.wait(3)
    assert ended.calls[0][1] == "process 3 (pid 9 on d) is lost: no heartbeat for 60 s"


def test_a_straggler_is_named(watched):
    service, ended, _, make = watched
    make(timeout=5, stall=0.6)
    with activity.wait():
        living(service, 5, ended.event.is_set, waiting=False, since=2.0)
    assert ended.calls and ended.calls[0][0] == LOST
    assert ended.calls[0][1] == "process 1 (pid 7 on b) has kept the others waiting for 2 s, at PPO round 3"


def test_nobody_is_blamed_while_this_process_works(watched):
    service, ended, _, make = watched
    make(timeout=5, stall=0.3)
    living(service, 1.0, waiting=False, since=2.0)
    assert not ended.calls


def test_a_device_that_hangs_is_told_as_such(watched):
    service, ended, _, make = watched
    make(timeout=5, stall=0.5)
    with activity.wait():
        living(service, 5, ended.event.is_set, waiting=True, since=2.0)
    assert "a device or a link hangs" in ended.calls[0][1]


def test_a_lost_service_is_the_loss_of_process_0(watched):
    service, ended, _, make = watched
    make(timeout=20)
    living(service, 5, lambda: f"{FOLDER}0" in service.values)
    service.broken = True
    assert ended.event.wait(5)
    assert ended.calls[0][0] == LOST
    assert "which coordinates the run at host:1, is lost: UNAVAILABLE" in ended.calls[0][1]


def test_a_call_that_hangs_beside_a_broken_collective_is_a_lost_service(watched):
    service, ended, _, make = watched
    hold = threading.Event()
    watch = make(timeout=20)
    service.key_value_set = lambda *_: hold.wait(10)
    watch.suspect()
    assert ended.event.wait(8)
    hold.set()
    assert "no answer for" in ended.calls[0][1]


def test_a_request_to_stop_comes_from_another_process(watched):
    service, _, stop, make = watched
    make(timeout=5)
    with stop.region(4):
        living(service, 0.3)
        assert not stop.at(5)
        living(service, 5, lambda: stop.reason is not None, stop="SIGTERM", step=7)
        assert stop.reason == "process 1: SIGTERM"
        assert not stop.at(6) and stop.at(7), "the latest of both processes' steps"
