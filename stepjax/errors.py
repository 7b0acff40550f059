"""The error a user can mend: shown as one line, without a traceback, with exit status 2."""


class UserError(Exception):
    """Bad input from outside (an option, a file, a checkpoint): says what, where and what to do, in one line."""


class NonFiniteError(UserError):
    """A loss or a gradient became NaN or infinite: the run stops before anything non-finite is saved."""


class Stopped(Exception):
    """The run was told to stop, and all that it did is saved."""
