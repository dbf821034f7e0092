"""Fixtures of the page of edits one after another."""

from tests.pages.lifelong_runs import opened, quick, runs, seen, trace

__all__ = ["opened", "quick", "runs", "seen", "trace"]
