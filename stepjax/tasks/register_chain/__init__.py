"""RegisterChain: small register programs whose every step can be rated exactly, with noisy demonstrations."""

from stepjax.config.register_chain import RegisterChainConfig
from stepjax.tasks.register_chain.parser import RegisterRating, rate_steps
from stepjax.tasks.register_chain.task import TASK, RegisterChain
from stepjax.tasks.register_chain.tokenizer import build_tokenizer

__all__ = [
    "TASK",
    "RegisterChain",
    "RegisterChainConfig",
    "RegisterRating",
    "build_tokenizer",
    "rate_steps",
]
