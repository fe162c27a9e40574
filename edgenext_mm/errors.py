"""The one kind of error that the tools report without a traceback."""


class UserError(ValueError):
    """A mistake of the user's, told in one paragraph: what was given, what is accepted, and the
    way out."""


def caused_by(error: Exception, message: str) -> UserError:
    """An error that says what failed and why; its traceback shows where."""
    kind = '' if isinstance(error, UserError) else f'{type(error).__name__}: '
    caused = UserError(f'{message}: {kind}{" ".join(str(error).split())[:500]}')
    caused.__cause__ = error
    return caused
