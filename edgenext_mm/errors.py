"""The error that the tools report without a traceback."""


class UserError(ValueError):
    """A mistake of the user. The message gives what was given, what is accepted, and the fix."""


def caused_by(error: Exception, message: str) -> UserError:
    """Makes a :class:`UserError` from another error, which it keeps as its cause.

    Args:
        error: The cause. Its message is appended, and its type unless it is a ``UserError``.
        message: What failed.
    """
    kind = '' if isinstance(error, UserError) else f'{type(error).__name__}: '
    caused = UserError(f'{message}: {kind}{" ".join(str(error).split())[:500]}')
    caused.__cause__ = error
    return caused
