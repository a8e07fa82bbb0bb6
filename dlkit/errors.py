"""The one exception that means the user's input was wrong, and the one warning that the user should read."""


class UserError(Exception):
    """A mistake in what the user gave us, told in one line: what is wrong, and what to do instead.

    The command line prints the message alone and exits with code 2. Library callers may catch it like any exception.
    """


class Notice(UserWarning):
    """What the user should know though nothing is wrong, in one line. The command line prints the message alone."""
