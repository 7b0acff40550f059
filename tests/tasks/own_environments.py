"""Environments that go wrong in the ways that a user's class may: the problem's answer says how."""

import os
import re
import subprocess
import sys
import time

from stepjax.tasks.turns import Reply


class Mixed:
    """Counts its turns; `wait` seconds a reply."""

    call = ""

    def __init__(self, wait: float = 0.0):
        self.wait, self.count = wait, 0

    def reset(self, problem):
        self.kind = problem.answer
        if self.kind == "reset":
            return 7
        return "hello" if self.kind == "greets" else None

    def step(self, text):
        self.count += 1
        print("an environment may print")
        match self.kind:
            case "raise":
                raise ValueError("no\nway")
            case "leave":
                sys.exit(3)
            case "exit":
                os._exit(3)
            case "type":
                return 7
            case "reward":
                return Reply("x", float("nan"))
            case "text":
                return Reply(b"x")
            case "sleep":
                time.sleep(1000)
            case "spin":  # holds the interpreter: no other thread of the process runs
                re.match(r"(a+)+$", "a" * 40 + "b")
        time.sleep(self.wait)
        return Reply(f"{self.count}:{text}", 0.5, done=self.count == 4)


class Parent:
    """Starts a process of its own, and writes its number."""

    def __init__(self, path: str):
        self.path = path

    def reset(self, problem):
        child = subprocess.Popen(["sleep", "1000"])
        with open(self.path, "w") as file:
            file.write(str(child.pid))

    def step(self, text):
        return Reply("", 0.0, done=True)


class NoStep:
    def reset(self, problem):
        return None


class Asks:
    def __init__(self, wanted):
        pass


MOODS = ("done", "raised", "malformed", "late", "lost", "long")


class Moody:
    """Plays guess the number, but fails in the way that the answer says."""

    call = "\n"

    def __init__(self):
        self.turns = 0

    def reset(self, problem):
        self.mood = MOODS[int(problem.answer) % len(MOODS)]

    def step(self, text):
        self.turns += 1
        if self.turns < 2:
            return Reply("higher\n", -0.1)
        match self.mood:
            case "raised":
                raise RuntimeError("moody")
            case "malformed":
                return "higher"
            case "late":
                time.sleep(1000)
            case "lost":
                os._exit(5)
            case "long":
                return Reply("higher\n" * 9)
        return Reply(reward=1.0, done=True)
