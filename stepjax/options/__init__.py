"""From files and command lines to a `Config`: ml_collections underneath, one clear line for every mistake."""

from stepjax.options.parse import find_config, no_more, parse
from stepjax.options.recipes import from_dict, recipe, stream

__all__ = ["find_config", "from_dict", "no_more", "parse", "recipe", "stream"]
