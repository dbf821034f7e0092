"""The commands of `python -m kis_core`, by topic: each module adds its own to the parser.

A command is called with its arguments and a progress line, and yields the lines of its output as they come true.
"""
