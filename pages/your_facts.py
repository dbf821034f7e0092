"""Your facts: upload a file, see row by row what is wrong with it, and which facts the model answers."""

from __future__ import annotations

from typing import NoReturn, cast

import pandas as pd
import streamlit as st
from streamlit.typing import UploadedFile

from kis_core.errors import KisError
from kis_core.facts import BUILTIN_SETS, FILES, RECORDS, FactSet, parse, saved
from kis_core.facts.containers import CONTAINERS
from kis_core.read_only import read_only
from kis_core.results import export
from kis_core.results.result import Result
from kis_core.store.store import default_root
from kis_core.wording import counted
from pages.parts.figures.grid import grid
from pages.parts.frame import state
from pages.parts.frame.glossary import explain
from pages.parts.frame.page import frame, split
from pages.parts.frame.public import not_offered
from pages.parts.frame.text import plain
from pages.parts.frame.views import View
from pages.parts.jobs.results import result as result_of

MEGABYTES = 20
SHOWN_ROWS = 500
READ = "uploaded-facts"  # of the session: the file that was read last, and what it holds


def main() -> None:
    """The page."""
    view = frame("Your facts")
    st.subheader("Look at facts of your own", anchor=False)
    left, right = split(1, 1)
    with left:
        _upload()
    with right:
        _sets()
    _answered(view, result_of(view.request))


def _upload() -> None:
    if not_offered("Bringing a file of your own"):
        return
    st.markdown("**Bring a file.** It stays on this machine, in the cache folder.")
    uploaded = st.file_uploader(
        f"A file with {'; '.join(RECORDS)}",
        type=[ending for ending in CONTAINERS if ending],
        max_upload_size=MEGABYTES,
        help=f"{', '.join(FILES)}. The prompt stops before the answer; one {{}} in it marks the subject, or the "
        "subject itself stands in it once.",
    )
    template, icon = export.template_csv(), ":material/download:"
    st.download_button("Download a template", template, "facts-template.csv", "text/csv", icon=icon, on_click="ignore")
    if uploaded is None:
        st.session_state.pop(READ, None)
        return
    if uploaded.size > MEGABYTES * 2**20:  # the server takes more, for the Library
        st.error(f"This file is larger than {MEGABYTES} MB. Split it.", icon=":material/error:")
        return
    content = _read(uploaded)
    if isinstance(content, KisError):
        st.error(plain(str(content)), icon=":material/error:")
    else:
        _report(content)


def _read(uploaded: UploadedFile) -> FactSet | KisError:
    """What the file holds, or why it cannot be used: read once an upload, and kept by the session until the next."""
    file, content = st.session_state.get(READ, (None, None))
    if file != uploaded.file_id:
        try:
            content = parse(uploaded.getvalue(), name=uploaded.name)
        except KisError as error:
            content = error
        st.session_state[READ] = (uploaded.file_id, content)
    return cast(FactSet | KisError, content)


def _report(facts: FactSet) -> None:
    issues = len(facts.issues)
    st.success(f"{counted(len(facts), 'fact')} can be used.", icon=":material/check_circle:")
    st.caption(f"Format found: {plain(facts.format)}. {_brought(facts)}")
    if len(facts) > saved.MOST_ON_EVERY_PAGE:
        st.info(
            f"Sets of more than {saved.MOST_ON_EVERY_PAGE:,} facts, up to {saved.MOST_FACTS:,}, are shown on the page "
            f"**Many facts** alone.",
            icon=":material/blur_on:",
        )
    use = f"Use these {len(facts):,} facts" if len(facts) > 1 else "Use this fact"
    if st.button(use, type="primary", icon=":material/play_arrow:"):
        try:
            name = saved.save(default_root(), facts)
        except (KisError, OSError) as error:
            st.error(plain(str(error)), icon=":material/error:")
            return
        _use(name)
    for note in facts.notes:
        st.info(plain(note), icon=":material/info:")
    if issues:
        st.warning(f"{counted(issues, 'row was', 'rows were')} left out:", icon=":material/rule:")
        grid(
            pd.DataFrame([(issue.row, issue.reason) for issue in facts.issues[:SHOWN_ROWS]], columns=["row", "reason"]),
            hide_index=True,
            height=min(240, 38 + 35 * issues),
            columns={"row": st.column_config.NumberColumn(width=60, help="the header of a table is row 1")},
        )
    rows = [(fact.subject, fact.prompt, fact.target, fact.relation) for fact in facts.facts[:SHOWN_ROWS]]
    grid(pd.DataFrame(rows, columns=["subject", "prompt", "target", "relation"]), hide_index=True, height=240)


def _brought(facts: FactSet) -> str:
    """How many facts bring what edits are made and judged by; empty where none brings anything."""
    fields = {"a new object": "new_target", "paraphrases": "paraphrases", "neighbours": "neighbours"}
    counts = {what: sum(bool(getattr(fact, name)) for fact in facts.facts) for what, name in fields.items()}
    brought = [f"{what} with {count:,}" for what, count in counts.items() if count]
    return f"The file brings {', '.join(brought)} of them." if brought else ""


def _use(name: str) -> NoReturn:
    for choice, value in (("facts", name), ("pair", None), ("window", None)):
        state.choose(choice, value)
    st.rerun()


def _sets() -> None:
    st.markdown("**The sets on this machine.** The one in use is chosen on the left.")
    mine = saved.titles(default_root())
    for name, text in BUILTIN_SETS.items():
        st.markdown(f"- **{plain(name)}**: {text}")
    if not mine:
        st.caption("No set of your own yet.")
    for name, title in mine.items():
        row = st.columns([5, 1.3, 1.3], vertical_alignment="center")
        row[0].markdown(f"- **{plain(title)}**")
        if row[1].button("Use", key=f"use-{name}", width="stretch", disabled=state.get("facts") == name):
            _use(name)
        if not read_only() and row[2].button("Delete", key=f"delete-{name}", width="stretch"):
            saved.delete(default_root(), name)
            st.rerun()


def _answered(view: View, result: Result) -> None:
    answered = sum(result.known)
    st.markdown(
        f"**{plain(view.request.model)} answers {answered:,} of the {counted(len(result.facts), 'fact')}** of "
        f"{plain(result.facts.name)}: every token of the answer is its first choice."
    )
    facts = result.facts.facts
    table = pd.DataFrame(
        {
            "known": list(result.known),
            "fact": [fact.text for fact in facts],
            "answer": [fact.target for fact in facts],
            "first": [row[0][0] if row else "" for row in result.answers],
            "probability": [row[0][1] if row else float("nan") for row in result.answers],
            "key": [token.strip() for token in result.key_tokens],
        }
    )
    grid(
        table,
        hide_index=True,
        height=360,
        columns={
            "known": st.column_config.CheckboxColumn("answered", width=80),
            "fact": st.column_config.TextColumn("prompt", width="large"),
            "answer": st.column_config.TextColumn("right answer"),
            "first": st.column_config.TextColumn("the model’s next word"),
            "probability": st.column_config.ProgressColumn("probability", min_value=0, max_value=1, format="percent"),
            "key": st.column_config.TextColumn("key taken at", help=explain("key")),
        },
    )
    st.caption("The switch “Only facts the model answers” on the left keeps those on every page, as the paper does.")


main()
