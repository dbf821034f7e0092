"""Library: what is computed, where it came from, and whether it is intact; with export, import and deletion."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial

import pandas as pd
import streamlit as st

from kis_core import report
from kis_core.errors import KisError, NotOffered
from kis_core.facts import BUILTIN_SETS, FactSet, saved
from kis_core.facts import load as load_facts
from kis_core.library import bundles, inventory
from kis_core.library.inventory import BETWEEN, MOMENTS, RESULT, RUN, Shelved
from kis_core.read_only import read_only, without_folders
from kis_core.results import archive
from kis_core.results.result import Result
from kis_core.store.store import default_root
from kis_core.wording import counted, ranges
from pages.parts.figures.grid import grid
from pages.parts.frame import state
from pages.parts.frame.page import frame, split
from pages.parts.frame.provenance import HASH, origin
from pages.parts.frame.public import not_offered
from pages.parts.frame.text import named, plain, volume
from pages.parts.jobs import results
from pages.parts.jobs.background import settle_imports, store
from pages.parts.jobs.running import running

DOWNLOAD_BYTES = 500_000_000  # a browser's download passes through the server's memory
UPLOAD_MEGABYTES = 500  # and so does an upload; no more than `server.maxUploadSize`, which has the last word
ROWS_AT_ONCE, LARGEST_TABLE = 14, 560  # more rows than that scroll, within so many pixels
DESCRIBED = 12  # of the chosen rows, with all that is known of them
NAMES = {RESULT: "superposition P", MOMENTS: "second moment C", RUN: "run of edits", BETWEEN: "intermediate results"}
SHIPPED = "shipped with the program"
EMPTY = "Nothing is computed yet. Open **Superposition** to compute P, or import a bundle from another machine below."
_values = partial(counted, singular="value")


def main() -> None:
    """The page."""
    frame("Library")
    st.subheader("What is computed, and what it takes on disk", anchor=False)
    _show_message()
    running("library")
    try:
        rows = inventory.shelf(store())
        if rows:
            _chosen(_table(rows))
        else:
            st.info(EMPTY, icon=":material/inventory_2:")
        st.divider()
        left, right = split(1.2, 1)
        with left:
            _import()
        with right:
            _disk(rows)
    except NotOffered as error:
        st.info(plain(str(error)), icon=":material/public:")
    except (KisError, OSError) as error:
        st.error(plain(without_folders(str(error))), icon=":material/error:")


def _table(rows: list[Shelved]) -> list[Shelved]:
    """All rows; returns the selected ones."""
    models = {row.model for row in rows}
    frame = pd.DataFrame(
        {
            "what": [NAMES[row.what] for row in rows],
            "model": [named(row.model, models) for row in rows],
            "of": [row.facts if row.what == RESULT else row.name if row.what == RUN else "" for row in rows],
            "bytes": [row.bytes for row in rows],
            "layers": [ranges(row.layers) for row in rows],
            "text": [_text_behind(row) for row in rows],
            "written": [datetime.fromtimestamp(row.written) for row in rows],
        }
    )
    if any(row.shipped for row in rows):
        frame["from"] = [SHIPPED if row.shipped else "computed or imported here" for row in rows]
    drawn = hashlib.sha256(repr([row.id for row in rows]).encode()).hexdigest()[:HASH]
    event = grid(
        frame,
        hide_index=True,
        height="content" if len(rows) <= ROWS_AT_ONCE else LARGEST_TABLE,
        on_select="rerun",
        selection_mode="multi-row",
        key=f"shelf-{drawn}",  # a table of other rows is another one, or the selection would slip to a neighbour
        columns={
            "what": st.column_config.TextColumn("what", width=120),
            "model": st.column_config.TextColumn("model", width=118),
            "of": st.column_config.TextColumn("facts, or run", width=110),
            "bytes": st.column_config.NumberColumn("size", format="bytes", width=76),
            "layers": st.column_config.TextColumn("layers", width=64),
            "text": st.column_config.TextColumn("text behind C", width=166),
            "written": st.column_config.DatetimeColumn("computed", format="D MMM YYYY, HH:mm", width=130),
            "from": st.column_config.TextColumn("where it is from", width=186),
        },
    )
    return [rows[at] for at in event["selection"]["rows"] if at < len(rows)]


def _text_behind(row: Shelved) -> str:
    return " · ".join(filter(None, (row.corpus, f"{row.tokens:,} tokens" if row.tokens else "")))


def _chosen(rows: list[Shelved]) -> None:
    if not rows:
        more = "open" if read_only() else "verify, export, delete or open"
        st.info(f"Select rows to see where they came from, and to {more} them.", icon=":material/check_box:")
        return
    keys = [key for row in rows for key in row.keys]
    own = [key for row in rows if not row.shipped for key in row.keys]  # the others are neither deleted nor exported
    behind = inventory.moments_behind(store(), keys) - set(keys)
    along = (
        bool(behind)
        and not read_only()
        and st.toggle(
            f"Together with C behind them ({volume(_size_of(behind))})",
            key="along",
            help="To compute C again takes the model and the text. A C that other results need is not deleted.",
        )
    )
    moments = sorted(behind) if along else []
    with st.container(horizontal=True, gap="small"):
        single = inventory.described(store(), rows[0].keys[0]) if len(rows) == 1 else None
        if single is not None:
            _open_button(rows[0], single)
        if not read_only():
            if single is not None:
                _report_button(rows[0], single)
            _act(rows, keys, own, moments)
    if st.session_state.get("deleting") == [row.id for row in rows]:
        _confirm_deletion([row for row in rows if not row.shipped], own, along)
    for row in rows[:DESCRIBED]:
        _provenance(row)
    if len(rows) > DESCRIBED:
        st.caption(f"and {len(rows) - DESCRIBED:,} more")


def _act(rows: list[Shelved], keys: list[str], own: list[str], moments: list[str]) -> None:
    """The buttons for what takes long or changes the store."""
    if st.button("Verify", icon=":material/verified:", help="Reads every byte and compares it with its checksum."):
        _verify(rows, [*keys, *moments])
    if own or moments:
        _export([*own, *moments])
        if st.button("Delete", icon=":material/delete:"):
            st.session_state["deleting"] = [row.id for row in rows]


def _size_of(keys: set[str]) -> int:
    return sum(item.bytes for key in keys if (item := store().find(key)))


def _open_button(row: Shelved, result: Result) -> None:
    if st.button("Open", icon=":material/open_in_new:", type="primary"):
        state.look_again()
        state.show(row.model, result.request.c_settings)
        for choice, value in {"facts": _name_of(result), "pair": None, "window": None}.items():
            state.choose(choice, value)
        state.go("pages/superposition.py")


def _report_button(row: Shelved, described: Result) -> None:
    """Take home a result as one HTML file; it is made when it is asked for."""

    def made() -> str:
        result = archive.read(row.keys[0], store())
        if result is None:
            raise KisError(f"P of {row.model} is gone from the store, or damaged; compute it anew.")
        settle_imports()  # edits import torch
        return report.html(result, store())

    too_large = report.too_large(len(described.layers), len(described.facts))
    st.download_button(
        "Report",
        made,
        report.file_name(described),
        "text/html",
        icon=":material/article:",
        on_click="ignore",
        disabled=bool(too_large),
        key="report",
        help=too_large
        or "One HTML file that opens from disk, with no server and no network: the matrix to click through, the "
        "distributions and angles of every layer, and the edits and runs that are stored of it.",
    )


def _name_of(result: Result) -> str:
    """What the pages call the facts of a result; a result holds its facts, so they are kept if they are not here."""
    facts = result.facts
    for name in state.fact_sets():
        source = name if name in BUILTIN_SETS else str(saved.path_of(default_root(), name))
        with suppress(KisError):
            if load_facts(source).fingerprint == facts.fingerprint:
                return name
    return saved.save(default_root(), FactSet(str(facts.name), facts.facts))


def _verify(rows: list[Shelved], keys: Sequence[str]) -> None:
    bar = st.progress(0.0, text=f"Reading {_values(len(keys))}")

    def seen(done: int) -> None:
        bar.progress(done / len(keys))

    lost = set(inventory.verify(store(), keys, seen))
    if not lost:
        _leave_message("success", f"{_values(len(keys))} read: all intact.")
    else:
        whose = sorted({f"{NAMES[row.what]} {_description(row)}" for row in rows if lost & set(row.keys)})
        _leave_message(
            "warning",
            f"{len(lost):,} of {_values(len(keys))} damaged or missing, and set aside: "
            f"{plain('; '.join(whose) or 'C behind them')}. What is lost is computed again when it is next needed.",
        )
        _forget()
    st.rerun()


def _export(keys: list[str]) -> None:
    portable = [key for key in keys if not inventory.of_this_machine(key)]
    size = _size_of(set(portable))
    small = size <= DOWNLOAD_BYTES

    def packed() -> io.BytesIO:
        stream = io.BytesIO()
        bundles.export(store(), portable, stream)
        stream.seek(0)
        return stream

    st.download_button(
        f"Export {volume(size)}",
        packed,
        "library.zip",
        "application/zip",
        icon=":material/download:",
        on_click="ignore",
        disabled=not small or not portable,
        key="export-library",
        help="One file for another machine, where Import puts it in place. The whole library, of any size: "
        "`python -m kis_core export --out FILE`",
    )
    if not small:
        st.caption(f"A browser takes {volume(DOWNLOAD_BYTES)} at most: `python -m kis_core export --out FILE`")


def _confirm_deletion(rows: list[Shelved], keys: list[str], along: bool) -> None:
    going = set(keys) | (inventory.moments_alone_behind(store(), set(keys)) if along else set())
    what = "; ".join(f"{NAMES[row.what]} {_description(row)}".strip() for row in rows[:DESCRIBED])
    more = f" and {len(rows) - DESCRIBED:,} more" if len(rows) > DESCRIBED else ""
    with st.container(border=True):
        st.markdown(
            f"**Delete {_values(len(going))}, {volume(_size_of(going))}?** {plain(what)}{more}. All of it can be "
            f"computed again from the model and the text; that takes time."
        )
        with st.container(horizontal=True, gap="small"):
            if st.button(f"Delete {_values(len(going))}", type="primary", key="delete-now"):
                del st.session_state["deleting"]
                freed = _size_of(going)
                gone = inventory.delete(store(), keys, with_moments=along)
                _forget()
                _leave_message("success", f"{_values(gone)} deleted; {volume(freed)} are free again.")
                st.rerun()
            if st.button("Keep", key="delete-not"):
                del st.session_state["deleting"]
                st.rerun()


def _provenance(row: Shelved) -> None:
    if row.what == RESULT and (result := inventory.described(store(), row.keys[0])):
        with suppress(KeyError, TypeError, ValueError, IndexError, AttributeError):  # it came from a stranger
            source = result.provenance
            versions = ", ".join(f"{name} {version}" for name, version in source["versions"].items())
            st.caption(
                f"**{NAMES[RESULT]}** {plain(origin(result, None))}  \n"
                f"computed on {plain(str(source['device']))} in {plain(str(source['dtype']))} · weights SHA-256 "
                f"{plain(str(source['weights_sha256'])[: 2 * HASH])}… · {plain(versions)}"
            )
            return
    weights = plain(f" · weights SHA-256 {row.weights[: 2 * HASH]}…") if row.weights else ""
    size = f"{_values(len(row.keys))}, {volume(row.bytes)}"
    came_along = f" · {SHIPPED}, computed on {plain(row.shipped)}" if row.shipped else ""
    st.caption(f"**{NAMES[row.what]}** {plain(_description(row))} · {size}{weights}{came_along}")


def _description(row: Shelved) -> str:
    if row.what == BETWEEN:
        return "kept to be quicker next time; deleting them costs only time"
    layers = f"layers {ranges(row.layers)}" if row.layers else ""
    name = row.name if row.what == RUN else ""
    parts = (row.model or "of an unknown model", row.facts, name, layers, _text_behind(row))
    return " · ".join(filter(None, parts))


def _import() -> None:
    st.markdown("**Import.** A bundle made by Export, or by `python -m kis_core export` on a cluster.")
    if not_offered("Importing"):
        return
    size = UPLOAD_MEGABYTES
    uploaded = st.file_uploader("A bundle", type=["zip"], max_upload_size=size, label_visibility="collapsed")
    st.caption("Larger ones: `python -m kis_core import FILE`. Copying the cache folder works as well.")
    if uploaded is None or not st.button(f"Import {volume(uploaded.size)}", type="primary", icon=":material/upload:"):
        return
    bar = st.progress(0.0, text=bundles.IMPORT_STAGE)

    def seen(_: str, done: int, total: int) -> None:
        bar.progress(done / total if total else 1.0)

    try:
        imported = bundles.load(store(), uploaded, report=seen)
    except KisError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    _forget()
    _leave_message("success", f"{_values(imported.count)} imported; {imported.skipped:,} were here already.")
    st.rerun()


def _disk(rows: list[Shelved]) -> None:
    taken = inventory.disk(store())
    st.markdown(f"**Disk.** The cache folder takes {volume(taken.total)}.")
    sizes = {what: sum(row.bytes for row in rows if row.what == what and not row.shipped) for what in NAMES}
    listed = "".join(f"\n- {NAMES[what]}: {volume(size)}" for what, size in sizes.items() if size)
    damaged, orphans = volume(taken.damaged), volume(taken.orphans)
    st.markdown(f"{listed}\n- damaged, set aside: {damaged}\n- left by killed processes: {orphans}")
    if came_along := sum(row.bytes for row in rows if row.shipped):
        st.caption(f"Besides, {volume(came_along)} came with the program; they are only read, and cannot be deleted.")
    clearable = 0 if read_only() else taken.damaged + taken.orphans
    if clearable and st.button(f"Clear {volume(clearable)}", icon=":material/mop:"):
        _leave_message("success", f"{volume(inventory.clear(store()))} are free again.")
        st.rerun()


def _forget() -> None:
    """Drop what this server remembers of the store."""
    st.cache_data.clear()
    results.forget_all()


def _leave_message(kind: str, text: str) -> None:
    """Let a message be shown once the page is drawn anew."""
    st.session_state["library-message"] = (kind, text)


def _show_message() -> None:
    kind, text = st.session_state.pop("library-message", ("", ""))
    if kind:
        show, icon = (st.success, "check_circle") if kind == "success" else (st.warning, "warning")
        show(text, icon=f":material/{icon}:")


main()
