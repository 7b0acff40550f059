"""Tiny torch models of the public conventions, and their scores computed the way the published code computes them.

Run as a script it writes the golden file, which stands in where torch is absent:
`python tests/rewards/prm_references.py`. Weights are drawn by NumPy, so that the file holds scores alone.
"""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from rewards.small_tokenizers import byte_level, metaspace

GOLDEN = Path(__file__).parent / "golden_prm_scores.json"

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}

# Separators that merge with what is before them (".\n\n"), characters of several bytes (also split over tokens),
# a last step that nothing ends, an empty first word, digits and signs that look like the labels.
SOLUTIONS = [
    ("How many eggs are left?", ["Step 1: She eats three.", "Step 2: 16 - 3 = 13 ≥ 0.", "Step 3: The answer is: 13"]),
    ("Löse x + 2 = 4 für 5 €", ["größer als π.", "x = 4 - 2 = 2 + 0", "😀 also \\boxed{2}"]),
    ("One step?", ["Only one, without an end"]),
    ("Lines", ["first line\nsecond line.", "(a) x\ny + - ки", "größ"]),
]


def tokenizer_of(name):
    return {
        "qwen": byte_level,
        "math_shepherd": metaspace,
        "rlhflow": lambda: byte_level("llama"),
        "skywork": byte_level,
        "trl": metaspace,
    }[name]()


FAMILY = {"qwen": "Qwen2", "math_shepherd": "Mistral", "rlhflow": "Llama", "skywork": "Qwen2", "trl": "Llama"}


def tensors(name) -> dict[str, np.ndarray]:
    """The checkpoint's tensors by their published names, drawn from a seed."""
    vocab, d, f, kv = len(tokenizer_of(name)), 32, 48, 16
    shapes = {"model.embed_tokens.weight": (vocab, d), "model.norm.weight": (d,)}
    for i in range(SHAPE["num_hidden_layers"]):
        at = f"model.layers.{i}."
        shapes |= {
            at + "input_layernorm.weight": (d,),
            at + "post_attention_layernorm.weight": (d,),
            at + "self_attn.q_proj.weight": (d, d),
            at + "self_attn.k_proj.weight": (kv, d),
            at + "self_attn.v_proj.weight": (kv, d),
            at + "self_attn.o_proj.weight": (d, d),
            at + "mlp.gate_proj.weight": (f, d),
            at + "mlp.up_proj.weight": (f, d),
            at + "mlp.down_proj.weight": (d, f),
        }
        if FAMILY[name] == "Qwen2":
            shapes |= {at + f"self_attn.{p}_proj.bias": (n,) for p, n in (("q", d), ("k", kv), ("v", kv))}
    shapes |= {
        "qwen": {"score.0.weight": (d, d), "score.0.bias": (d,), "score.2.weight": (2, d), "score.2.bias": (2,)},
        "math_shepherd": {"lm_head.weight": (vocab, d)},
        "rlhflow": {"lm_head.weight": (vocab, d)},
        "skywork": {"lm_head.weight": (vocab, d), "v_head.summary.weight": (1, d), "v_head.summary.bias": (1,)},
        "trl": {"score.weight": (2, d), "score.bias": (2,)},
    }[name]
    rng = np.random.default_rng(sum(map(ord, name)))
    return {
        key: (key.endswith("norm.weight") + 0.3 * rng.normal(size=shape)).astype(np.float32)
        for key, shape in shapes.items()
    }


def config_of(name) -> dict:
    family = FAMILY[name]
    architecture = {
        "qwen": "Qwen2ForProcessRewardModel",
        "skywork": "Qwen2ForPrmModel",
        "trl": "LlamaForTokenClassification",
    }.get(name, f"{family}ForCausalLM")
    extra = {"sliding_window": None} if family == "Mistral" else {"head_dim": 8} if family == "Llama" else {}
    return {
        **SHAPE,
        **extra,
        "model_type": family.lower(),
        "architectures": [architecture],
        "vocab_size": len(tokenizer_of(name)),
        "rope_theta": 10_000.0,
        "hidden_act": "silu",
        "torch_dtype": "float32",
    }


def save_checkpoint(name, folder: Path) -> Path:
    """A Hugging Face folder as the hub holds it: config, weights, tokenizer."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_of(name)))
    save_file(tensors(name), str(folder / "model.safetensors"), metadata={"format": "pt"})
    tokenizer_of(name).save_pretrained(str(folder))
    return folder


def reference_scores(name, problem, steps) -> list[float]:
    """P(good) of each step as the published inference code has it."""
    import torch

    tokenizer, model, weights = tokenizer_of(name), _backbone(name), _torch(tensors(name))
    with torch.no_grad():
        if name == "qwen":  # the model card's make_step_rewards
            system = "Please reason step by step, and put your final answer within \\boxed{}."
            messages = [
                {"role": "system", "content": system},
                {"role": "user", "content": problem},
                {"role": "assistant", "content": "<extra_0>".join(steps) + "<extra_0>"},
            ]
            chat = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
            ids = torch.tensor([tokenizer.encode(chat)])
            x = model(input_ids=ids).last_hidden_state
            x = torch.relu(x @ weights["score.0.weight"].T + weights["score.0.bias"])
            x = x @ weights["score.2.weight"].T + weights["score.2.bias"]
            marked = ids == tokenizer.encode("<extra_0>")[0]
            return torch.softmax(x, -1)[marked][:, 1].tolist()
        if name == "math_shepherd":  # the model card's example
            candidates = tokenizer.encode("+ -")[1:]
            tag = tokenizer.encode("ки")[-1]
            numbered = [s if s.startswith("Step ") else f"Step {k}: {s}" for k, s in enumerate(steps, 1)]
            ids = torch.tensor([tokenizer.encode(f"{problem} " + "\n".join(f"{s} ки" for s in numbered))])
            logits = model(input_ids=ids).last_hidden_state @ weights["lm_head.weight"].T
            scores = logits[:, :, candidates].softmax(-1)[:, :, 0]
            found = scores[ids == tag].tolist()
            # The published code takes every such token for a step's end; one inside of a step's text is none.
            inside = [k for k, s in enumerate(numbered) for _ in range(s.count(" ки"))]
            for k in reversed(inside):
                del found[k]
            return found
        if name == "rlhflow":  # prm_evaluate.py: one pass a step
            candidates = [tokenizer.encode("+")[-1], tokenizer.encode("-")[-1]]
            chat, found = [], []
            for k, step in enumerate(steps):
                chat.append({"role": "user", "content": f"{problem} {step}" if k == 0 else step})
                chat.append({"role": "assistant", "content": "+"})
                text = tokenizer.apply_chat_template(chat, tokenize=False)
                ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
                logits = model(input_ids=ids).last_hidden_state @ weights["lm_head.weight"].T
                found.append(float(logits[:, -3, candidates].softmax(-1)[0, 0]))
            return found
        if name == "skywork":  # io_utils.prepare_input; every line is a step there
            ids = tokenizer.encode(tokenizer.bos_token + problem + "\n")
            end, places = tokenizer.encode("\n")[-1], []
            for step in steps:
                for line in step.split("\n"):
                    ids += tokenizer.encode(line) + [end]
                places.append(len(ids) - 1)
            hidden = model(input_ids=torch.tensor([ids])).last_hidden_state
            value = hidden @ weights["v_head.summary.weight"].T + weights["v_head.summary.bias"]
            return torch.sigmoid(value)[0, places, 0].tolist()
        if name == "trl":  # PRMTrainer.tokenize_row
            ids = [tokenizer.bos_token_id] + tokenizer(problem, add_special_tokens=False)["input_ids"]
            separator, places = tokenizer.encode("\n", add_special_tokens=False), []
            for step in steps:
                ids += tokenizer(step, add_special_tokens=False)["input_ids"] + separator
                places.append(len(ids) - 1)
            logits = model(input_ids=torch.tensor([ids])).last_hidden_state @ weights["score.weight"].T
            return (logits + weights["score.bias"]).softmax(-1)[0, places, 1].tolist()
    raise KeyError(name)


def _torch(arrays):
    import torch

    return {key: torch.from_numpy(value.copy()) for key, value in arrays.items()}


def _backbone(name):
    """transformers' decoder without a head, float32, with these weights."""
    import transformers

    config = config_of(name)
    family = FAMILY[name]
    kind = getattr(transformers, f"{family}Config")
    model = getattr(transformers, f"{family}Model")(
        kind(**{k: v for k, v in config.items() if k not in ("model_type", "architectures", "torch_dtype")})
    )
    inner = {k.removeprefix("model."): v for k, v in _torch(tensors(name)).items() if k.startswith("model.")}
    model.load_state_dict(inner)
    return model.eval().float()


def main() -> None:
    golden = {name: [reference_scores(name, *solution) for solution in SOLUTIONS] for name in FAMILY}
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
