"""Fixtures of the page of edits."""

from tests.pages.edit_tools import alone, kept, model, own_bench, small

__all__ = ["alone", "kept", "model", "own_bench", "small"]
