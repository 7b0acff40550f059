"""The cache of a rollout, from its devices and sizes: a ring for the longest response, or blocks of a few tokens."""

from dataclasses import dataclass

from stepjax.errors import UserError

SHORT = 640
"""Tokens of prompt and response up to which a CPU reads a whole ring faster than blocks."""

GROWN = 160
"""Tokens of a response above which a ring begins with half of its length."""

PAGES = {"cpu": 128, "tpu": 128}
"""Tokens of a block, by platform; on a TPU those that fill a tile."""

PAGE = 64
"""Of other platforms."""

BRANCH = 32
"""Of rows that may be held: the last tokens of each stay in columns of that many, which those behind it copy."""

BRANCHED = 256
"""Tokens of its own that each row leaves when it is held, where nothing says how many there shall be room for. Rows
that have no more are held whole, without blocks: these would spare no memory, and reading them takes longer."""

HELD = 2048
"""Tokens a slot that there are blocks for, where nothing says how many there shall be."""


@dataclass(frozen=True)
class CacheLayout:
    """Of one device.

    Attributes:
      page: tokens of a block, which is the ring's length, too; 0: no blocks, and a ring for the longest response.
      blocks: how many.
      ample: they suffice for whatever rows decode together.
      growths: how often a ring is doubled until it is whole.
    """

    page: int = 0
    blocks: int = 0
    ample: bool = True
    growths: int = 0

    @property
    def told(self) -> str:
        """In words."""
        if not self.page:
            return "each with a cache for the longest response"
        fit = "enough for any lengths" if self.ample else "responses that find no room are drawn again"
        return f"{self.blocks:,} blocks of {self.page} tokens for them ({fit})"

    @classmethod
    def ring(cls, platform: str, new_tokens: int) -> "CacheLayout":
        """Without blocks."""
        return cls(growths=int(platform == "cpu" and new_tokens > GROWN))

    @classmethod
    def branching(
        cls,
        platform: str,
        *,
        prompt_width: int,
        new_tokens: int,
        rows: int,
        slots: int,
        block: int = 0,
        tokens: int = 0,
    ) -> "CacheLayout":
        """For `rows` rows that may be held, with blocks unless all are short; `block`, `tokens`: as of `choose`."""
        if not block and not tokens and prompt_width + new_tokens <= BRANCHED:
            return cls.ring(platform, new_tokens)
        page = min(block or BRANCH, prompt_width + new_tokens - 2)
        own = -(-(new_tokens - 1) // page)
        longest = (prompt_width + new_tokens - 2) // page
        if not tokens:
            at_once = slots * (longest + -(-min(HELD, new_tokens) // page))
            tokens = page * (at_once + rows * -(-min(BRANCHED, new_tokens) // page))
        if tokens // page < longest + own:
            raise UserError(
                f"config.ppo.cache_tokens: {tokens} tokens a device do not hold one response of the greatest length "
                f"beside what it goes on behind; give at least {(longest + own) * page}"
            )
        return cls(page, tokens // page, ample=False)

    @classmethod
    def choose(
        cls,
        platform: str,
        *,
        prompt_width: int,
        new_tokens: int,
        prompts: int,
        slots: int,
        block: int = 0,
        tokens: int = 0,
        spare: int = 0,
    ) -> "CacheLayout":
        """For `slots` rows that decode together, and the prompts of all rows that wait.

        Args:
          block: tokens of a block; 0: the platform's.
          tokens: that blocks are for, at most; 0: `HELD` a slot, or a quarter of the longest rows, if that is more.
          spare: blocks beside those of the prompts and one row.

        Raises:
          UserError: the tokens do not suffice for the prompts and one row.
        """
        page = block or PAGES.get(platform, PAGE)
        if page >= new_tokens - 1 or (not block and not tokens and prompt_width + new_tokens <= SHORT):
            return cls.ring(platform, new_tokens)
        of_prompts = prompts * ((prompt_width - 1) // page)
        own = -(-(new_tokens - 1) // page)
        most = of_prompts + slots * own + spare
        least = of_prompts + own + spare
        if tokens:
            if tokens // page < least:
                raise UserError(
                    f"config.ppo.cache_tokens: {tokens} tokens a device do not hold the prompts of a round and one "
                    f"response of the greatest length; give at least {least * page}, or lower prompt_tokens or "
                    "max_new_tokens"
                )
            found = min(tokens // page, most)
        else:
            held = max(HELD, (prompt_width + new_tokens) // 4)
            found = min(max(slots * -(-held // page), least), most)
        return cls(page, found, found == most)
