r"""Final answers: `#### 42`, `\boxed{…}`, what is equal, what is not, and that nothing hangs."""

import time

import pytest
from answers.graded import HOSTILE, MATH
from hypothesis import given, settings
from hypothesis import strategies as st

from stepjax.answers.grading import final_answer, grade, group_answers, same_answer


@pytest.mark.parametrize(
    ("text", "answer", "boxed"),
    [
        ("so\n#### 42", "42", False),
        ("#### 41\nno:\n#### 42 \nbye", "42", False),
        ("####42", "42", False),
        ("####", "", False),
        (r"\boxed{42}", "42", True),
        (r"\fbox{42}", "42", True),
        (r"\boxed {\frac{1}{2}}.", r"\frac{1}{2}", True),
        (r"\boxed{\{1\}}", r"\{1\}", True),
        (r"\boxed{\left\{ 1 \right.}", r"\left\{ 1 \right.", True),
        (r"$\boxed 42$ is it", "42", True),
        (r"\boxed{1} and \boxed{2}", "2", True),
        (r"\boxed{1} and \boxed{2", "", True),
        (r"#### $\boxed{5}$", "5", True),
        ("\\boxed{5}\n#### 6", "6", False),
        ("#### Conclusion\n\\boxed{5}", "5", True),
        ("The answer is 42.", "42.", False),
        ("so\n**Answer: 42**\n", "42", False),
        ("**Final Answer:** 42", "42", False),
        ("Answer: 42\n#### 43", "43", False),
        ("#### Answer: 42", "42", False),
        (r"\boxed{5} <answer> 42 </answer>", "42", False),
        ("<answer>42", "", False),
        (r"<answer>\boxed{42}</answer>", "42", True),
        ("#### 42 <|im_end|>", "42", False),
    ],
)
def test_the_last_mark_decides(text, answer, boxed):
    assert final_answer(text) == (answer, boxed)


@pytest.mark.parametrize(
    "text",
    ["", "42", "It is 42, the answer.", "I answered 42.", "### 42", "##### 42", r"\boxedsomething{42}", "boxed{42}"],
)
def test_without_a_mark_there_is_no_answer(text):
    assert final_answer(text) is None
    assert not grade(text, "42")


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        *(("42", "42"), ("42.0", "42"), ("42.", "42"), ("$42", "42"), ("$1,234.50", "1234.5"), ("1,234", "1234")),
        *(("-5", "-5"), ("−5", "-5"), ("-$5", "-5"), ("$-5", "-5"), ("+5", "5"), ("50%", "50"), ("50 %", "50")),
        *(("42 apples", "42"), ("42 dollars per hour.", "42"), ("5 m", "5"), ("5cm", "5"), ("18 square feet", "18")),
        *(("18 m2", "18"), ("18 m^2", "18"), ("18 cm ^ 3", "18")),
        *(("1/2", "0.5"), (".5", "1/2"), ("1 1/2", "1.5"), ("007", "7"), ("**42**", "42"), ("x = 42", "42")),
        *((r"\$42", "42"), ("$42$", "42"), (r"\frac{1}{2}", "0.5"), ("42", "42 apples"), ("-1 1/2", "-1.5")),
        *(("42", "#### 42"), ("42", r"\boxed{42}"), ("72", "48+24=<<48+24=72>>72\n#### 72")),
    ],
)
def test_plain_numbers_that_are_equal(line, answer):
    assert grade(f"so\n#### {line}", answer)


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        *(("420", "42"), ("4", "42"), ("142", "42"), ("-42", "42"), ("42.1", "42"), ("4 2", "42"), ("42 43", "42")),
        *(
            ("42 or 43", "42"),
            ("42, 43", "42"),
            ("42 or so", "42"),
            ("42 million", "42"),
            ("42k", "42"),
            ("42M", "42"),
            ("42 x", "42"),
        ),
        *(("2x", "2"), ("2+3", "5"), ("about 42", "42"), ("42 = 43", "42"), ("43 = 42", "42"), ("1/3", "0.3333")),
        *(("0.5", "50"), ("1,2", "12"), ("10,00", "1000"), ("1/0", "1"), ("", "42"), ("4e1", "40"), ("five", "5")),
        *(("5 and a half", "5"), ("42", ""), ("٤٢", "42"), ("0", "")),
        *(("42 remainder 3", "42"), ("42 choose 2", "42"), ("42 apples 3", "42"), ("42 doubled", "42")),
        *(("42 lakh", "42"), ("42 grand", "42"), ("42 mil", "42"), ("42 reciprocal", "42"), ("42 wrong", "42")),
    ],
)
def test_plain_numbers_that_are_not(line, answer):
    assert not grade(f"The answer is {answer}, or\n#### {line}", answer)


@pytest.mark.parametrize(
    ("box", "answer"),
    [
        *((r"\dfrac12", r"\frac{1}{2}"), (r"\tfrac 1 2", r"\frac12"), (r"\frac{1}{2}", "0.5"), (r"1\frac12", "3/2")),
        *((r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac\pi2)"), (r"90^\circ", "90"), ("90", r"90^{\circ}")),
        *((r"\text{Evelyn}", "Evelyn"), ("Even", r"\text{even}"), (r"\text{(C)}", "C"), (r"\textbf{(C)}", "(C)")),
        *(
            ("x=5", "5"),
            ("5", "x=5"),
            ("f(x)=x^2", "x^{2}"),
            (r"\theta=\pi", r"\pi"),
            (r"(2,\infty)", r"x \in (2,\infty)"),
        ),
        *(
            (r"10,\!080", "10080"),
            ("10{,}080", r"10,\!080"),
            ("11111", r"11,\! 111"),
            (r"\$18.90", "18.9"),
            (r"5.4 \text{ cents}", "5.4"),
        ),
        *((r"864 \mbox{ inches}^2", "864"), (r"30\%", "30"), (r"\sqrt2", r"\sqrt{2}"), ("52_8", "52_{8}")),
        *(
            ("30 degrees", r"30^\circ"),
            (r"x=4,x=5", "4,5"),
            ("k=1, m=2", "1, 2"),
            ("x_2=1,x_1=2", "2,1"),
            (r"x=3\lor x=-4", "3,-4"),
            (r"p\land q", r"p \land q"),
            (r"\(42\)", "42"),
            ("y = 2x + 3", "2x+3"),
        ),
        (r"\begin{pmatrix} -7 \\ 16 \end{pmatrix}", r"\begin{pmatrix}-7\\16\end{pmatrix}"),
    ],
)
def test_equal_in_another_spelling(box, answer):

    assert grade(rf"Hence $\boxed{{{box}}}$.", answer)


@pytest.mark.parametrize(
    ("box", "answer"),
    [
        *(("-2+7i", "7i-2"), (r"\frac{2\sqrt{3}}{6}", r"\frac{\sqrt3}{3}"), ("2+3", "5"), ("2,1", "1,2")),
        *(("ab+2a+5b+10", "(a+5)(b+2)"), (r"1-\sqrt5, 1+\sqrt5", r"1 \pm \sqrt{5}"), (r"\sqrt{4}", "2")),
        (r"\begin{bmatrix} 0.5 \\ 2 \end{bmatrix}", r"\begin{pmatrix} 1/2 \\ 2 \end{pmatrix}"),
        (r"(12,102) \cup (2,12)", r"(2,12) \cup (12,102)"),
        *((r"5\text{ light years}", "5"), (r"5\text{ red apples}", r"5\text{ apples}"), (r"5\text{ inches}", "5")),
    ],
)
def test_equal_as_mathematics(box, answer):
    assert grade(rf"Hence $\boxed{{{box}}}$.", answer)


LONGER_UNITS = (("light years", "years"), ("nautical miles", "miles"), ("kg m", "kg"), ("square inches", "inches"))


@pytest.mark.parametrize(
    ("box", "answer"),
    [
        *(("(2,1)", "(1,2)"), ("1,2", "(1,2)"), ("(1,2)", r"\{1,2\}"), ("[3,4)", "(3,4)"), ("(3,4]", "(3,4)")),
        *(("1=5", "5"), ("5=5", "5"), ("x=5=5", "5"), ("y=5", "x=5"), (r"5\approx 4", "5"), (r"5\equiv5", "5")),
        *(("x<5", "5"), ("5 6", "11"), (r"2\quad 3", "5"), ("52", "52_8"), ("52_9", "52_8"), ("stew", "west")),
        *((r"\text{seat}", r"\text{east}"), ("B", r"\text{(C)}"), ("1.414214", r"\sqrt2"), ("4,5", "4"), ("4", "4,5")),
        *((r"\text{The answer is 5}", "5"), (r"5 \text{ or } 6", "5"), (r"1-\sqrt{5}", r"1 \pm \sqrt{5}"), ("5x", "5")),
        *((r"5\text{ apples and }6\text{ pears}", "5"), ("", "5"), ("x=", "x"), ("a", "b"), ("6-5i", "6+5i")),
        *(("k=1,m=2", "2,1"), ("2,1", "k=1,m=2"), ("x+1=x+2", "x+1=x+3"), ("x-x=1", "2x-2x=2"), ("0x>1", "0x>2")),
        *((r"p\land q", r"p\lor q"), (r"p\lor q", "p,q"), (r"1\wedge 2", r"1\vee 2"), (r"p\land q", r"q\land p")),
        *((r"x=1\text{ or }y=2", "x=1,y=2"), (r"x=1\lor y=2", r"x=1\land y=2"), (r"x=1\text{ or }y=2", "(1,2)")),
        *(
            ("A or B", "A and B"),
            ("A, B", "A or B"),
            (r"\text{red or blue}", r"\text{red, blue}"),
            ("\\$12 cents", "12"),
        ),
        *((rf"5\text{{ {more}}}", rf"5\text{{ {less}}}") for more, less in LONGER_UNITS),
        *((rf"5\text{{ {less}}}", rf"5\text{{ {more}}}") for more, less in LONGER_UNITS),
        *(("(2,102)", r"(2,12) \cup (12,102)"), (r"\frac{1}{0}", "1"), (r"\frac{14}{5}", r"\frac{14}{3}")),
    ],
)
def test_unequal(box, answer):
    assert not grade(rf"{answer} or $\boxed{{{box}}}$.", answer)


def test_math_solutions_are_right():

    for row in MATH:
        assert grade(row["solution"], row["answer"]), row["answer"]
        assert grade(row["solution"], rf"\boxed{{{row['answer']}}}"), row["answer"]
        assert not grade(row["solution"] + r" \boxed{}", row["answer"])
        assert not grade(row["solution"] + rf" \boxed{{{row['answer']}", row["answer"])


def test_math_answers_of_other_problems_are_wrong():
    for row, other in zip(MATH, MATH[1:] + MATH[:1], strict=True):
        assert not grade(rf"{row['answer']} \boxed{{{other['answer']}}}", row["answer"]), (
            other["answer"],
            row["answer"],
        )


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_answers_end_soon_and_are_wrong(text):
    for response in (rf"\boxed{{{text}}}", f"#### {text}"):
        started = time.perf_counter()
        verdict = grade(response, "7")
        # A few hundredths of a second on an idle machine; a machine that runs other tests, too, takes longer.
        assert time.perf_counter() - started < 2
        assert not verdict


def test_responses_are_grouped_by_what_their_answers_are_worth():
    boxes = ["0.5", r"\frac12", "2", "", "1/2", "x+1", "1+x", "2.0", r"\text{east}", "seat", "{" * 400]
    responses = [rf"\boxed{{{box}}}" for box in boxes] + ["no mark", "#### 2"]
    assert group_answers(responses) == [0, 0, 1, -1, 0, 2, 2, 1, 3, 4, -1, -1, 1]
    assert group_answers([]) == []


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=80), st.text(max_size=20))
def test_any_text_is_graded(text, answer):
    for response in (text, f"#### {text}"):
        assert grade(response, answer) in (True, False)


@settings(deadline=None, max_examples=40)
@given(st.text(alphabet=r"\{}()[]^_,=+-*/!.0123456789xy frac sqrt", max_size=40))
def test_any_latex_is_graded(text):
    assert grade(rf"\boxed{{{text}}}", r"\sqrt{x}-17y") is False


@settings(deadline=None, max_examples=200)
@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
def test_whole_numbers_are_equal_only_to_themselves(number, other):
    for line in (str(number), f"{number:,}", f"${number:,}", f"{number}.00", f"{number} units"):
        assert grade(f"#### {line}", str(number))
        assert grade(f"#### {line}", str(other)) == (number == other)
        assert same_answer(line, str(number), boxed=True)


@pytest.mark.parametrize(
    ("response", "answer", "right"),
    [
        (r"x=\boxed{3} or x=\boxed{-4}", "3,-4", True),
        (r"x=\boxed{3} or x=\boxed{-4}", r"\{-4,3\}", True),
        (r"First \boxed{3}; so \boxed{3} and \boxed{-4}", "3,-4", True),
        (r"\boxed{2}, \boxed{3} or \boxed{-4}", "3,-4", False),
        (r"\boxed{3} and \boxed{4", "3,4", False),
        (r"\boxed{3} and \boxed{4}", "(3,4)", False),
        (r"\boxed{3} and \boxed{4}", "3", False),
        (r"\boxed{1}" * 100 + r"\boxed{2}", "1,2", False),
    ],
)
def test_a_box_for_each_of_several_answers(response, answer, right):
    """All boxes count then, so that no guess can hide among them."""
    assert grade(response, answer) == right
