"""Stream lists to compare with a run's own: the usual ways to turn step scores into rewards.

All but the first two credit over the whole response. The scores are the process reward model's: "g/n/b" is the expected
reward with +1, 0, −1 for good, neutral and bad; "sigmoid" is P(not bad), as of a two-class model to which neutral steps
are correct. Clip, delta and min-form shape g/n/b.
"""

from stepjax.config import StreamOptions

Streams = dict[str, StreamOptions]


def _one(**options: object) -> Streams:
    return {"stream": StreamOptions(**{"lam": 1.0, "whiten": False, "critic": False, **options})}  # type: ignore[arg-type]


COMPARISONS: dict[str, Streams] = {
    "step g/n/b": _one(signal="prm", horizon="step"),
    "step sigmoid": _one(signal="prm", horizon="step", neutral=1.0, bad=0.0),
    "sum sigmoid": _one(signal="prm", horizon="response", neutral=1.0, bad=0.0),
    "sum g/n/b": _one(signal="prm", horizon="response"),
    "clip": _one(signal="prm", horizon="response", shaping=("clip:0.5",)),
    "delta": _one(signal="prm", horizon="response", shaping=("delta",)),
    "clip+delta": _one(signal="prm", horizon="response", shaping=("clip:0.5", "delta")),
    "min-form": _one(signal="prm", horizon="response", shaping=("min_form:0.1",)),
    "outcome": _one(signal="outcome", horizon="response", bad=0.0),
}
"""Each is a stream list as in a config, by the name that tables show."""
