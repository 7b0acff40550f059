"""The three classes of a step, in the order of a process reward model's outputs.

A rating r of −1, 0, +1 is class r + 1.
"""

CLASSES = ("bad", "neutral", "good")
BAD, NEUTRAL, GOOD = range(len(CLASSES))
