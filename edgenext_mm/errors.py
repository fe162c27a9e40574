"""The one kind of error that the tools report without a traceback."""


class UserError(ValueError):
    """A mistake of the user's, told in one paragraph: what was given, what is accepted, and the
    way out."""
