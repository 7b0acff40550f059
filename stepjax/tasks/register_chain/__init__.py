"""RegisterChain: small register programs whose every step can be judged exactly, with noisy demonstrations."""

from stepjax.config.register_chain import RegisterChainConfig
from stepjax.tasks.register_chain.parser import RegisterJudgement, first_error, judge_steps, prefix_correct
from stepjax.tasks.register_chain.task import RegisterChain
from stepjax.tasks.register_chain.tokenizer import build_tokenizer

__all__ = [
    "RegisterChain",
    "RegisterChainConfig",
    "RegisterJudgement",
    "build_tokenizer",
    "first_error",
    "judge_steps",
    "prefix_correct",
]
