"""The one ancestor of errors whose message is written for the user."""


class KisError(Exception):
    """Something the user can act on: the message says where, what was found, and what to do."""
