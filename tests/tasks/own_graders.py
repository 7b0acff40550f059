"""Graders as users write them: right, wrong, raising, slow."""

import os
import re
import sys
import time

import numpy as np

calls = []
number = 42


def longer(response, answer):
    print("a user's print is no verdict")
    calls.append(response)
    return np.bool_(len(response) > len(answer))


def reads_input(response, answer):
    return sys.stdin.read() == "" and response == answer


def raising(response, answer):
    return {"a": 1}[response]  # the line that is told


def undecided(response, answer):
    return "yes"


def leaving(response, answer):
    os._exit(3)


def sleeping(response, answer):
    time.sleep(60 if "slow" in response else 0)
    return response == answer


def backtracking(response, answer):
    return re.fullmatch("(a+)+", response) is not None
