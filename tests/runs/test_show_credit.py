"""`stepjax show credit`: the rewards, values, advantages and weights of a config, as a person sees them."""

import pytest

from stepjax import cli


def shown(capsys, *argv) -> str:
    assert cli.main(["show", "credit", *argv]) == 0
    return capsys.readouterr().out


def table(text: str, response: int) -> list[dict[str, str]]:
    """The rows of a response by the header's words."""
    lines = text.split("\n\n")[response].splitlines()
    header = lines[1].split()
    return [dict(zip(header, line.split(), strict=False)) for line in lines[2:]]


def test_grpo_by_hand(capsys):
    """Two right, one wrong and a truncated response: mean 2/3 and standard deviation 1/√3 of the three."""
    text = shown(capsys, "--config=rules/grpo")
    assert text.startswith("4 made-up responses in groups of 4;")
    assert [line for line in text.splitlines() if line.startswith("response")] == [
        "response 1, right", "response 2, wrong", "response 3, right", "response 4, truncated",
    ]  # fmt: skip
    weights = [{row["weight"] for row in table(text, number) if row["step"] != "–"} for number in (1, 2, 3, 4)]
    assert weights == [{"+0.577"}, {"-1.155"}, {"+0.577"}, {"0"}]
    first = table(text, 1)
    assert [row["token"] for row in first if row["turn"] == "–"] == ["<12"], "the environment's token has no credit"
    assert [row["outcome"] for row in first][-1] == "+1.000" and {row["outcome"] for row in first[:-1]} == {"0", "–"}


def test_a_critic_has_a_column_and_what_does_not_train_says_so(capsys):
    text = shown(capsys, "--config=rules/spo_chain", "--config.streams.outcome.whiten=False")
    assert "groups of 1" in text
    for row in table(text, 1):
        if row["p"] != "–":
            assert (row["weight"] == "not") == (float(row["p"]) > 0.9)
    assert {row["value"] for row in table(text, 1)} > {"+0.500", "+0.520"}


@pytest.mark.parametrize(("argv", "said"), [
    (["--config.streams.process.hold=True"], "config.ppo.streams.process: hold: a token is one action anyway"),
    (["--config.streams.process.times=outcom"], "config.ppo.streams: stream 'process': times: no stream 'outcom'"),
    (["--config.streams.process.baseline=mean"], "config.ppo.samples: must be 2 or more, not 1: the baseline of the"),
    (["--config.streams.process.baseline=men"], "must be one of nothing, none, critic, others, mean, not 'men'"),
    (["--config.ratio=turn", "--config.loss=dppo"], "config.ppo.ratio=turn: loss=dppo bounds each token by itself"),
    (["--config.train_on=('low:0.2',)"], "config.ppo.train_on: no such choice 'low:0.2'"),
    (["--config=rules/pap"], "--config=rules/pap: no such file (did you mean 'rules/papo'?)"),
])  # fmt: skip
def test_what_makes_no_sense_is_said_in_one_line(argv, said, capsys):
    assert cli.main(["show", "credit", *argv]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
