"""Countdown: make a target of all given numbers. Every move can be rated exactly, and many lead nowhere."""

from stepjax.config.countdown import CountdownConfig
from stepjax.tasks.countdown.reader import CountdownReader
from stepjax.tasks.countdown.task import TASK, Countdown

__all__ = ["TASK", "Countdown", "CountdownConfig", "CountdownReader"]
