"""A result as one HTML file that opens from disk, with no server and no network.

`contents` says what is in it, as JSON: facts, the matrices of every layer (`packing`), and what is known of the layers
(`layers`), edits and runs (`edits`) by the library's own functions, numbers already written as text. `page` puts that
into the template beside it, whose script draws and looks up, and computes nothing of its own.
"""

from kis_core.report.contents import ReportError, too_large
from kis_core.report.page import file_name, html, write

__all__ = ["ReportError", "file_name", "html", "too_large", "write"]
