"""Processes that are told to stop end the same step, whoever hears of it first and whenever."""

import random
import threading
import time

import pytest

from stepjax.distributed.stop import Stop


def test_alone_it_stops_at_the_next_step():
    stop = Stop()
    with stop.region(3) as inside:
        assert inside is stop and stop.inside
        assert not stop.at(4)
        stop.request("SIGTERM")
        stop.request("a second one")
        assert stop.reason == "SIGTERM"
        assert stop.at(5)
    assert not stop.inside


class Run:
    """Processes as threads: a barrier stands for the collectives of a step, a dict for the service."""

    def __init__(self, processes: int, seed: int):
        self.rng = random.Random(seed)
        self.stops = [Stop(processes) for _ in range(processes)]
        self.barrier = threading.Barrier(processes)
        self.board: dict[int, tuple[str | None, int | None]] = {}
        self.ended: dict[int, int] = {}
        self.over = threading.Event()

    def train(self, p: int, pauses: list[float]) -> None:
        stop = self.stops[p]
        with stop.region(0):
            for step, pause in enumerate(pauses, 1):
                time.sleep(pause)
                self.barrier.wait(10)
                if step < len(pauses) and stop.at(step):
                    self.ended[p] = step
                    return
            self.ended[p] = len(pauses)

    def pulse(self, p: int, pause: float) -> None:
        stop = self.stops[p]
        while not self.over.is_set():
            self.board[p] = stop.reason, stop.published()
            for reason, _ in list(self.board.values()):
                if reason:
                    stop.request(reason)
            stop.agree([self.board.get(q, (None, None))[1] for q in range(len(self.stops))])
            time.sleep(pause)


@pytest.mark.parametrize("seed", range(8))
def test_all_stop_at_the_same_step(seed):
    rng = random.Random(seed)
    processes, steps = rng.randint(2, 4), 40
    run = Run(processes, seed)
    threads = [
        threading.Thread(target=run.train, args=(p, [rng.uniform(0, 0.01) for _ in range(steps)]))
        for p in range(processes)
    ]
    pulses = [threading.Thread(target=run.pulse, args=(p, rng.uniform(0.002, 0.03))) for p in range(processes)]
    for thread in threads + pulses:
        thread.start()
    time.sleep(rng.uniform(0, 0.15))
    run.stops[rng.randrange(processes)].request("SIGTERM")
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "a process waits for ever"
    run.over.set()
    for thread in pulses:
        thread.join(5)
    assert len(run.ended) == processes and len(set(run.ended.values())) == 1
    assert next(iter(run.ended.values())) < steps, "told early, it went to the end"
