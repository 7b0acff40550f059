"""Any records that the schema admits, for property tests."""

from hypothesis import strategies as st

from stepjax.data.schema import KINDS, LabelledSolution

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
COUNTS = st.none() | st.integers(0, 2**31 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def solutions(draw) -> LabelledSolution:
    steps = draw(st.lists(TEXT, max_size=5))

    def column(entry):
        return draw(st.lists(entry, min_size=len(steps), max_size=len(steps)) | st.just([]))

    texts = {name: draw(TEXT) for name in ("problem", "answer", "source", "place", "id", "labeller", "group")}
    return LabelledSolution(
        steps=tuple(steps),
        kind=draw(st.sampled_from(KINDS)),
        ratings=column(st.none() | st.sampled_from([-1, 0, 1])),
        values=column(st.none() | st.floats(0, 1)),
        first_error=draw(st.none() | st.integers(-1, len(steps) - 1)) if steps else draw(st.none() | st.just(-1)),
        correct=draw(st.none() | st.booleans()),
        generation=draw(st.none() | st.integers(-5, 1000)),
        completions=column(COUNTS),
        tokens=column(COUNTS),
        extra=draw(st.dictionaries(TEXT, JSON, max_size=3)),
        **texts,
    )
