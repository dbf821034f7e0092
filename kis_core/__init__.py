"""Knowledge superposition in language models: measure it, see it, and see what it does to edits.

The library behind the dashboard, after "Knowledge in Superposition" (Hu et al., arXiv 2408.07413). It knows
nothing of the dashboard and can be used from a notebook or a cluster job; `kis_core.analysis` is
the front door.
"""

__version__ = "0.1.0"
