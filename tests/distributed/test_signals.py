"""Signals that a thread hears: SIGTERM and Ctrl-C at any moment, and what a fork does with them."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from stepjax.distributed.signals import INTERRUPTED, heard, second_interrupt_ends


def asking(name: str, asked: list[str], event: threading.Event):
    def ask() -> None:
        asked.append(name)
        event.set()

    return ask


def test_a_signal_is_heard_by_a_thread_and_the_old_handlers_come_back():
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(n) for n in numbers]
    asked: list[str] = []
    for number in numbers:
        event = threading.Event()
        with heard({n: asking(n.name, asked, event) for n in numbers}):
            os.kill(os.getpid(), number)
            assert event.wait(5)
    assert asked == ["SIGTERM", "SIGINT"]
    assert [signal.getsignal(n) for n in numbers] == before


def test_other_signals_are_left_alone():
    asked, caught, event = [], [], threading.Event()
    old = signal.signal(signal.SIGUSR1, lambda *_: caught.append(1))
    try:
        with heard({signal.SIGTERM: asking("SIGTERM", asked, event)}):
            os.kill(os.getpid(), signal.SIGUSR1)
            assert caught
            os.kill(os.getpid(), signal.SIGTERM)  # what is heard comes in order
            assert event.wait(5)
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert len(caught) == 1 and asked == ["SIGTERM"]


def test_in_another_thread_nothing_is_changed():
    found = []

    def work():
        with heard({signal.SIGTERM: lambda: None}):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


def test_an_inner_listener_hears_alone_and_the_outer_one_again_after_it():
    asked: list[str] = []
    events = [threading.Event() for _ in range(3)]
    with heard({signal.SIGTERM: asking("outer", asked, events[0])}):
        with heard({signal.SIGTERM: asking("inner", asked, events[1])}):
            os.kill(os.getpid(), signal.SIGTERM)
            assert events[1].wait(5)
        assert not events[0].is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert events[0].wait(5)
    assert asked == ["inner", "outer"]


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_to_a_fork_ends_it_and_is_not_heard_by_its_parent(number: signal.Signals) -> None:
    """A terminal's Ctrl-C goes to a run and its forks, and counts once; a pool ends its workers by SIGTERM."""
    asked, event = [], threading.Event()
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        with heard({number: asking("outer", asked, event)}), heard({number: asking("inner", asked, event)}):
            for _ in range(20):
                child = os.fork()
                if child == 0:
                    time.sleep(5)
                    os._exit(0)
                os.kill(child, number)  # before the child has run a line of Python, as a rule
                assert os.WTERMSIG(os.waitpid(child, 0)[1]) == number
            assert not event.wait(0.3) and not asked
            os.kill(os.getpid(), number)
            assert event.wait(5) and asked == ["inner"]
    finally:
        signal.signal(signal.SIGINT, before)


BUSY = """
import signal, sys, time
from stepjax.distributed.signals import second_interrupt_ends
with second_interrupt_ends():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("stopping", flush=True)
        # As a call that does not return to Python: a compilation, say.
        signal.signal(signal.SIGINT, lambda *_: None)
        time.sleep(60)
"""


def test_the_second_interrupt_ends_a_process_that_is_busy():
    process = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and process.stderr
    try:
        for word in ("ready\n", "stopping\n"):
            assert process.stdout.readline() == word
            process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        assert process.wait(30) == INTERRUPTED and time.monotonic() - begun < 5
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()


def test_an_interrupt_that_a_callback_drops_is_sent_again():
    """As in jax's callback of the garbage collector, which runs at any time."""

    def press(phase, found):
        gc.callbacks.remove(press)
        signal.raise_signal(signal.SIGINT)

    hook, begun = sys.unraisablehook, time.monotonic()
    with second_interrupt_ends(), pytest.raises(KeyboardInterrupt):
        gc.callbacks.append(press)
        gc.collect()
        time.sleep(60)
        pytest.fail("the interrupt was lost")
    assert sys.unraisablehook is hook and time.monotonic() - begun < 40  # it ended the sleep
