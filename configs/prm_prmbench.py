r"""A process reward model from scratch on PRMBench's training text: is a step wrong or not?

The data are solutions with planted errors and the originals; there are two classes and no pretrained model. A
byte-level BPE and 0.3 million parameters are trained on 2,100 solutions. With so little text the figures are low;
compare them with those of chance. Problems, not solutions, are divided, so that no held-out problem was seen. Needs
train_*.jsonl of github.com/ssmisya/PRMBench.

    stepjax data --config.source=prmbench --config.path=data/prmbench --config.out=data/prmbench_steps \
        --config.held_out=0.2
    stepjax prm --config=prm_prmbench --config.data=data/prmbench_steps --workdir=runs/prm_prmbench
"""

from stepjax.options import recipe


def get_config():
    config = recipe()
    config.stages = ("prm",)
    config.task.name = "labelled"
    config.tokenizer.vocab = 1024
    config.prm.data = "data/prmbench_steps"

    config.model.layers = 2
    config.model.width = 64
    config.model.heads = 2
    config.model.kv_heads = 2
    config.model.head_dim = 32
    config.model.mlp = 192
    config.model.unroll = 2

    config.prm.from_sft = False
    config.prm.classes = 2
    config.prm.neutral = "good"
    config.prm.reader_layers = 1
    config.prm.updates = 600
    config.prm.rows = 4
    config.prm.row_tokens = 1024
    config.prm.optimizer.lr = 3e-3
    config.prm.optimizer.weight_decay = 0.1
    config.prm.log_every = 50
    config.prm.checkpoint_every = 300
    config.prm.valid_samples = 512
    return config
