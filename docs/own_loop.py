"""Step-level credit in a training loop of your own: splitter, step scores, shaping, advantages, update.

    python docs/own_loop.py

Nothing here needs a run, a config or a work directory of stepjax. The responses are made up, and the policy is a table
of bigram logits, so that the script takes seconds on a CPU; each comment "yours:" says what a real loop has there.
"""

import jax
import jax.numpy as jnp
import numpy as np

from stepjax.credit import segment_gae
from stepjax.data.tokenizers import train_bpe
from stepjax.rewards import clip, delta, min_form
from stepjax.steps import StepSplitter
from stepjax.tasks import check_calculations, grade

PROMPT = "Tom has 3 boxes of 8 pencils and gives away 5. How many are left?\n"
ANSWER = "19"
RESPONSES = (
    "There are <<3*8=24>>24 pencils.\n<<24-5=19>>19 are left.\n#### 19",
    "There are <<3*8=26>>26 pencils.\n<<26-5=21>>21 are left.\n#### 21",
    "There are <<3*8=24>>24 pencils.\nPencils are for writing.\n<<24-5=19>>19 are left.\n#### 19",
)
ROUNDS, LEARNING_RATE, CLIP = 10, 5.0, 0.2
OUTCOME_WEIGHT = 0.5


def sample(tokenizer):
    """Tokens int[B, T] of prompts and responses, padded on the right, and the mask of the response tokens.

    yours: the ids that your sampler drew. Never encode a text again: the ids could differ from the sampled ones.
    """
    prompt = tokenizer.encode(PROMPT, add_special_tokens=False)
    ends = [tokenizer.eos_token_id]
    rows = [prompt + tokenizer.encode(text, add_special_tokens=False) + ends for text in RESPONSES]
    width = max(map(len, rows))
    tokens = np.array([row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows])
    columns, lengths = np.arange(width), np.array([len(row) for row in rows])
    return tokens, (columns >= len(prompt)) & (columns < lengths[:, None])


def score_steps(texts):
    """Scores float[B, S] of the steps, and the mask of the steps that exist.

    yours: a process reward model. Here a step earns 1 if its calculations hold, −1 if one does not, 0 without any.
    """
    most = max(map(len, texts))
    scores = np.zeros((len(texts), most), np.float32)
    for row, steps in zip(scores, texts, strict=True):
        row[: len(steps)] = [check_calculations(step) for step in steps]
    return scores, np.arange(most) < np.array([len(steps) for steps in texts])[:, None]


def on_step_ends(scores, steps):
    """Moves the score of each step, `[B, S]`, to the step's last token, `[B, T]`; all other tokens get 0."""
    return jnp.where(steps.end, jnp.take_along_axis(scores, jnp.maximum(steps.index, 0), axis=1), 0.0)


def log_probs_and_values(params, tokens):
    """Of each token, from the token before it: entry `t` belongs to token `t`. yours: policy and critic."""
    before = tokens[:, :-1]
    logprobs = jnp.take_along_axis(jax.nn.log_softmax(params["policy"][before]), tokens[:, 1:, None], axis=-1)[..., 0]
    return tuple(jnp.pad(x, ((0, 0), (1, 0))) for x in (logprobs, params["critic"][before]))


@jax.jit
def update(params, tokens, mask, weight, returns):
    """One PPO step on a round's responses."""
    old_logprobs, _ = log_probs_and_values(params, tokens)

    def loss(params):
        logprobs, values = log_probs_and_values(params, tokens)
        ratio = jnp.exp(logprobs - old_logprobs)
        policy = -jnp.minimum(ratio * weight, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * weight)
        return jnp.sum(jnp.where(mask, policy + 0.5 * (values - returns) ** 2, 0)) / jnp.sum(mask)

    return jax.tree.map(lambda p, g: p - LEARNING_RATE * g, params, jax.grad(loss)(params))


def train():
    """The loop. Returns a row a step: response, text, score, shaped scores, advantages, change of log-probability."""
    tokenizer = train_bpe([PROMPT, *RESPONSES], 400)  # yours: AutoTokenizer.from_pretrained(...)
    tokens, mask = sample(tokenizer)

    # Which step does each token belong to? Computed on the ids and on the device, also inside your jitted function.
    splitter = StepSplitter(tokenizer, "\n")
    steps = splitter.split(tokens, mask)
    texts = [splitter.texts(*row) for row in zip(tokens, mask, strict=True)]

    # Signals: a score a step, and the graded answer on the last token.
    scores, exists = score_steps(texts)
    correct = np.array([grade(response, ANSWER) for response in RESPONSES])
    last = np.arange(tokens.shape[1]) == np.array([np.flatnonzero(row)[-1] for row in mask])[:, None]
    process, outcome = on_step_ends(scores, steps), jnp.where(last & correct[:, None], 1.0, 0.0)

    # Three ways to shape scores before they are summed over the response; step-level credit needs none of them.
    shaped = [clip(scores, exists, eta=0.5), delta(scores, exists), min_form(scores, exists, temperature=0.1)]

    params = {"policy": jnp.zeros((len(tokenizer),) * 2), "critic": jnp.zeros(len(tokenizer))}
    first, _ = log_probs_and_values(params, tokens)
    for number in range(ROUNDS):
        # yours: sample here. The made-up responses stay the same, so the scores above are still theirs.
        _, values = log_probs_and_values(params, tokens)
        # A stream is a signal and a horizon. Discount 0 at step ends: credit stays within the step.
        by_step, returns = segment_gae(process, values, mask, steps.end, gamma=1.0, lam=1.0, boundary_discount=0.0)
        # Discount 1: ordinary GAE over the response. A second critic would serve it; without one the baseline is 0.
        whole = {"gamma": 1.0, "lam": 1.0, "boundary_discount": 1.0}
        of_answer, _ = segment_gae(outcome, jnp.zeros_like(values), mask, steps.end, **whole)
        if number == 0:
            over_response, _ = segment_gae(process, values, mask, steps.end, **whole)
            advantages = [by_step, over_response, of_answer]
        params = update(params, tokens, mask, by_step + OUTCOME_WEIGHT * of_answer, returns)
    final, _ = log_probs_and_values(params, tokens)
    change = final - first

    rows = []
    for b, of_response in enumerate(texts):
        for k, text in enumerate(of_response):
            inside = np.asarray(steps.index[b] == k)
            means = [float(np.asarray(x)[b][inside].mean()) for x in (*advantages, change)]
            rows.append((b, text.strip(), float(scores[b, k]), *(float(x[b, k]) for x in shaped), *means))
    return rows


COLUMNS = ("score", "clip", "delta", "min-form", "A step", "A response", "A answer", "Δ log p")


def main():
    print(f"{'':<34}" + "".join(f"{name:>12}" for name in COLUMNS))
    for response, text, *figures in train():
        print(f"{response} {text:<32}" + "".join(f"{x + 0.0:>12.2f}" for x in figures))


if __name__ == "__main__":
    main()
