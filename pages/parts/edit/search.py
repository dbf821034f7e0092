"""Under an edit: how its value is searched for, and how the search went."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kis_core import charts
from kis_core.results.result import Result
from kis_core.simulator import Forecast, Simulator
from kis_core.wording import counted, number
from pages.parts.edit.choice import Chosen, how_of, python_lines
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, figure
from pages.parts.frame import state
from pages.parts.frame.page import View, split
from pages.parts.frame.text import plain

HELP = {
    "steps": "Updates of δ by Adam, at most. ROME’s code makes one fewer than the steps in its settings, because its "
    "last round only looks at the loss: 20 there are 19 here.",
}


def search(view: View, result: Result, bench: Simulator, chosen: Chosen, forecast: Forecast | None) -> None:
    """Hyper-parameters on the left, the losses they led to on the right."""
    left, right = split(1, 1, key="split-search")
    with left:
        _settings(bench)
    with right:
        if forecast is None or chosen.request is None:
            st.info("The search’s losses are shown here once it is done.", icon=":material/show_chart:")
            return
        value = bench.value(chosen.request)
        how = chosen.request.how
        figure(
            view,
            result,
            drawing(charts.losses, value.losses, stop=how.stop_loss),
            FigureText(
                title="Loss of the value search",
                caption=f"{counted(len(value.losses) - 1, 'step')} of Adam; the dashed line is enough. ‖δ‖ = "
                f"{number(forecast.edit.size, '.1f')}, "
                f"new object {number(value.probability, '.1%')} in the contexts.",
                help="Meng et al. (arXiv 2202.05262), section 3.1: the loss is −log p of the new object, mean over the "
                "contexts and a token, plus weight decay and, if asked for, the drift of “{subject} is a”.",
                data=lambda: pd.DataFrame({"step": range(len(value.losses)), "loss": value.losses}),
                code=f"{python_lines(chosen, perform=False)}losses = bench.value(request).losses",
                layer=view.layer,
                brief=True,
            ),
            key="losses",
        )


def _settings(bench: Simulator) -> None:
    recipe, now = bench.recipe, how_of(bench)
    usual = recipe.hyperparameters
    st.caption(f"Hyper-parameters to start from: {plain(recipe.source)}, there for layer {recipe.layer}.")

    def changed(name: str, default: float) -> None:
        kept = {key: number for key, number in state.get("how") if key != name}
        value = float(st.session_state[f"how-{name}"])
        state.choose("how", tuple(sorted((kept | ({name: value} if value != default else {})).items())))

    numbers = (  # what `Hyperparameters` takes
        ("steps", "Steps", 1, 1000, 5),
        ("learning_rate", "Learning rate", 0.0001, 10.0, 0.05),
        ("weight_decay", "Weight decay", 0.0, 100.0, 0.25),
        ("clamp", "Clamp: ‖δ‖ at most × ‖v₀‖", 0.01, 100.0, 0.5),
        ("kl", "Factor of the drift (KL)", 0.0, 100.0, 0.0625),
        ("prefixes", "Random prefixes", 0, 100, 1),
        ("seed", "Seed of the prefixes", 0, 999_999, 1),
    )
    columns = st.columns(2)
    for place, (name, label, least, most, step) in enumerate(numbers):
        kind = type(step)
        default = kind(usual.prefixes[0][0] if usual.prefixes else 0) if name == "prefixes" else getattr(usual, name)
        value = now.get(name, default)
        value = value[0][0] if isinstance(value, tuple) else value
        st.session_state[f"how-{name}"] = kind(min(max(value, least), most))
        columns[place % 2].number_input(
            label,
            least,
            most,
            step=step,
            format="%g" if kind is float else "%d",
            key=f"how-{name}",
            on_change=changed,
            args=(name, float(default)),
            help=HELP.get(name),
        )
    switches = (
        ("everywhere", "While searching, δ acts everywhere", "As the edit will: on every token by its share. ROME’s "
        "code "
         "adds δ at the subject’s last token alone, and the edit then moves its own sentence’s other tokens "
         "unforeseen."),
        ("mean_key", "Mean key on the left side", "As ROME’s code does, rather than the prompt’s own key as in eq. "
        "2. The "
         "shift at fact j is then no longer P[e, j] δ. Where the mean key has next to nothing of the prompt’s own, "
         "that one is taken all the same, and a warning says so."),
    )  # fmt: skip
    for name, label, text in switches:
        default = getattr(usual, name)
        st.session_state[f"how-{name}"] = bool(now.get(name, default))
        st.toggle(label, key=f"how-{name}", help=text, on_change=changed, args=(name, float(default)))
