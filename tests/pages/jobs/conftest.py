"""Fixtures of pages of models and jobs."""

from tests.pages.small_hub import hub, quick

__all__ = ["hub", "quick"]
