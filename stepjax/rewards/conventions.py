"""Input formats of public process reward models: their text, the token of a step's score, and the head.

A convention is one row of `CONVENTIONS`. Its layout (`conventions_layout.py`) turns a problem and its steps into tokens
and says at which token the score of each step is read, so that one forward pass gives the scores of all steps.
"""

from dataclasses import dataclass

MARKED_CHAT, MARKED_TEXT, TURNS, SEPARATED = "marked_chat", "marked_text", "turns", "separated"
TWO_LAYER, LINEAR, VALUE, TOKENS = "two_layer", "linear", "value", "tokens"


@dataclass(frozen=True)
class Convention:
    """One published way to score steps.

    Attributes:
      name: as `config.prm.convention` calls it.
      layout: how problem and steps become tokens:
        marked_chat  a chat of system, problem, and one answer in which `marker` follows each step; read at the marker.
        marked_text  problem, a space, and lines `STEP marker`; read at the marker.
        turns        a chat in which each step is a user's turn and `marker` the answer to it; the problem stands before
                     the first step. Read at the token before each answer, which predicts it.
        separated    problem and a line end, then each step and the separator, every piece encoded by itself; read at
                     the separator's last token.
      head: what is read there:
        two_layer    `score.0`, ReLU, `score.2`: logits of bad and good.
        linear       `score`, a token classifier: logits of bad and good.
        value        `v_head.summary`: the log-odds of good.
        tokens       the language model's logits of the tokens `bad` and `good`.
      marker: see `layout`.
      system: the system prompt; empty: the chat template's own default.
      numbering: the text before step k (from 1) where the step does not begin with such a number itself.
      separator: the text that ends a step, where the layout is separated; `config.prm.separator` replaces it.
      lines: a line is a step to the model: the lines of a step are ended one by one, and the last one's score counts.
      begin: whether the tokenizer's begin-of-text token comes first: "text" (the token's text is written before the
        problem), "id" (its id is put there) or "" (as the tokenizer or chat template has it).
      good, bad: texts of one token each, head `tokens` only; encoded together, as "good bad", where `spaced`.
    """

    name: str
    layout: str
    head: str
    marker: str = ""
    system: str = ""
    numbering: str = ""
    separator: str = ""
    lines: bool = False
    begin: str = ""
    good: str = ""
    bad: str = ""
    spaced: bool = False


CONVENTIONS: dict[str, Convention] = {
    c.name: c
    for c in (
        # Qwen2.5-Math-PRM-7B and -72B, Qwen2.5-Math-7B-PRM800K: `Qwen2ForProcessRewardModel` [Zhang 2025, 2501.07301].
        Convention(
            "qwen",
            MARKED_CHAT,
            TWO_LAYER,
            marker="<extra_0>",
            system="Please reason step by step, and put your final answer within \\boxed{}.",
        ),
        # math-shepherd-mistral-7b-prm [Wang 2023, 2312.08935]; "ки" is a token that mathematics in English never has.
        Convention(
            "math_shepherd",
            MARKED_TEXT,
            TOKENS,
            marker="ки",
            numbering="Step {}: ",
            good="+",
            bad="-",
            spaced=True,
        ),
        # Llama3.1-8B-PRM-Mistral-Data and -Deepseek-Data [Xiong 2024, RLHFlow/RLHF-Reward-Modeling, math-rm].
        Convention("rlhflow", TURNS, TOKENS, marker="+", good="+", bad="-"),
        # Skywork-o1-Open-PRM-Qwen-2.5-1.5B and -7B [SkyworkAI/skywork-o1-prm-inference].
        Convention("skywork", SEPARATED, VALUE, separator="\n", lines=True, begin="text"),
        # What TRL's PRMTrainer trains, with its default separator: a `…ForTokenClassification` of two labels.
        Convention("trl", SEPARATED, LINEAR, separator="\n", begin="id"),
    )
}
