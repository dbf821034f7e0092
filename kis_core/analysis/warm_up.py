"""Imports that an analysis will need, made at a moment of the caller's choosing: they take seconds."""

from __future__ import annotations


def import_all() -> None:
    """Import what loading and running a model needs."""
    import transformers.modeling_utils  # and with it more than a thousand modules that loading would import
    import transformers.models.auto.modeling_auto
    import transformers.models.auto.tokenization_auto  # noqa: F401

    from kis_core import keys  # noqa: F401
    from kis_core.covariance import passes  # noqa: F401
