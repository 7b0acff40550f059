"""Every option: its default, its unit, its meaning. This package is the only place where options are declared.

One file a section; `whole.py` puts them together. A config file is a Python file with `get_config()` that returns
`stepjax.options.recipe()` with some fields changed; `--config.a.b=value` on the command line changes one more
(`stepjax.options` reads both).
"""

from stepjax.config.bench import BenchOptions
from stepjax.config.data import DataOptions
from stepjax.config.environment import ENVIRONMENT_NAMES, EnvironmentOptions
from stepjax.config.eval import EvalOptions
from stepjax.config.export import ExportOptions
from stepjax.config.implicit import ImplicitOptions
from stepjax.config.improve import ImproveOptions
from stepjax.config.label import JudgeOptions, LabelOptions, OmegaOptions
from stepjax.config.log import LogOptions
from stepjax.config.mesh import DistributedOptions, MeshOptions
from stepjax.config.model import LoRAOptions, ModelOptions
from stepjax.config.optimizer import OptimizerOptions
from stepjax.config.policies import POLICIES
from stepjax.config.ppo import PPOOptions
from stepjax.config.prm import PRMOptions
from stepjax.config.prompt import PromptOptions
from stepjax.config.register_chain import RegisterChainConfig
from stepjax.config.sample import SampleOptions
from stepjax.config.search import PRM_SCORERS, SearchOptions
from stepjax.config.sft import SFTOptions
from stepjax.config.streams import StreamOptions
from stepjax.config.task import TASK_NAMES, FilesOptions, JsonlOptions, MathOptions, TaskOptions, TokenizerOptions
from stepjax.config.whole import REMOVED, Config, default_option, options_of, resumable_options

__all__ = [
    "ENVIRONMENT_NAMES",
    "POLICIES",
    "PRM_SCORERS",
    "REMOVED",
    "TASK_NAMES",
    "BenchOptions",
    "Config",
    "DataOptions",
    "DistributedOptions",
    "EnvironmentOptions",
    "EvalOptions",
    "ExportOptions",
    "FilesOptions",
    "ImplicitOptions",
    "ImproveOptions",
    "JsonlOptions",
    "JudgeOptions",
    "LabelOptions",
    "LoRAOptions",
    "LogOptions",
    "MathOptions",
    "MeshOptions",
    "ModelOptions",
    "OmegaOptions",
    "OptimizerOptions",
    "PPOOptions",
    "PRMOptions",
    "PromptOptions",
    "RegisterChainConfig",
    "SFTOptions",
    "SampleOptions",
    "SearchOptions",
    "StreamOptions",
    "TaskOptions",
    "TokenizerOptions",
    "default_option",
    "options_of",
    "resumable_options",
]
