"""A training loop of your own: sample, pay, credit, update. Half a minute on a CPU: `python examples/own_loop.py`.

A policy of 7,000 parameters, random at first, learns to count: a step is a line, good if it holds one digit that is
larger by one than the line before. No config and no work directory; yours: the model, the problems, the reward.
"""

# %% A tokenizer and a policy
import jax
import jax.numpy as jnp
import numpy as np
import optax
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from stepjax.credit import segment_gae
from stepjax.learners import ppo_loss
from stepjax.models import DecoderConfig, Definition, LanguageModel
from stepjax.rewards import on_response_end, on_step_ends
from stepjax.rollout import generate
from stepjax.steps import StepSplitter

LETTERS = ["</s>", "Ċ", *"0123456789", "<pad>"]  # Ċ: a newline, as byte-level vocabularies write it
letters = Tokenizer(models.BPE({letter: i for i, letter in enumerate(LETTERS)}, []))
letters.pre_tokenizer, letters.decoder = pre_tokenizers.ByteLevel(False, use_regex=False), decoders.ByteLevel()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, pad_token="<pad>", eos_token="</s>")
splitter = StepSplitter(tokenizer, "\n")
config = DecoderConfig(13, layers=1, width=32, heads=2, kv_heads=2, head_dim=16, mlp=64, entries=12)  # never <pad>
policy = Definition(lambda rngs: LanguageModel(config, rngs))
PROMPTS, SAMPLES, NEW_TOKENS, MOST_STEPS = [tokenizer.encode(f"{i}\n") for i in range(4)], 16, 16, 16


# %% Pay: a score a step and a score a response, on the host
def successor(step):
    return str(int(step) + 1) if step.isdigit() else ""


def pay(rows):
    steps, scores = [], np.zeros((rows.tokens.shape[0], MOST_STEPS), np.float32)
    for row, tokens, mask in zip(scores, np.asarray(rows.tokens), np.asarray(rows.mask), strict=True):
        steps.append([step.removesuffix("\n") for step in splitter.texts(tokens, mask)])
        before = [tokenizer.decode(tokens[:2]).strip(), *steps[-1]]
        row[: len(steps[-1])] = [s == successor(b) for b, s in zip(before, steps[-1], strict=False)]
    return steps, scores, scores[:, :4].mean(axis=1)  # a response: the share of good ones among its first four steps


# %% Credit: a step's score within the step; the response's over all of it, or the policy would stop after a good step
@jax.jit
def credit(rows, scores, outcome):
    steps, mask, nothing = splitter.split(rows.tokens, rows.mask), rows.mask, jnp.zeros(rows.tokens.shape)
    by_step, _ = segment_gae(on_step_ends(scores, steps), nothing, mask, steps.end, gamma=1.0, lam=1.0)
    ends = on_response_end(outcome, mask)
    whole, _ = segment_gae(ends, nothing, mask, steps.end, gamma=1.0, lam=1.0, boundary_discount=1.0)
    centred = [x - jnp.sum(x) / jnp.sum(mask) for x in (by_step, whole)]  # no critic: the mean is the baseline
    return jnp.where(mask, centred[0] + 3 * centred[1], 0.0)


# %% Update
optimizer = optax.adam(5e-3)


@jax.jit
def update(params, state, rows, advantages):
    gradients, metrics = jax.grad(lambda p: ppo_loss(policy, p, rows, advantages, entropy=0.04), has_aux=True)(params)
    changes, state = optimizer.update(gradients, state)
    return optax.apply_updates(params, changes), state, metrics


# %% The loop
def train(rounds=60):
    params = jax.jit(policy.init)(jax.random.key(0))
    state, history = optimizer.init(params), []
    for i in range(rounds):
        rows = generate(policy, params, PROMPTS, jax.random.key(i), new_tokens=NEW_TOKENS, eos=0, samples=SAMPLES)
        steps, scores, outcome = pay(rows)
        advantages = credit(rows, scores, outcome)
        for _ in range(2):
            params, state, metrics = update(params, state, rows, advantages)
        good = (scores > 0).sum() / max(sum(map(len, steps)), 1)
        history.append({"good": float(good), "steps": steps, "advantages": np.asarray(advantages), "rows": rows})
        if i % 10 == 9:
            print(f"round {i + 1}: {good:.0%} of the steps are good, entropy {metrics['entropy']:.2f}; {steps[0]}")
    return history


if __name__ == "__main__":
    train()
