"""Fixtures of the page of edits one after another."""

from tests.pages.lifelong_runs import film, opened, quick, runs, seen

__all__ = ["film", "opened", "quick", "runs", "seen"]
