"""Under an edit: how its value is searched for, and how the search went."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kis_core import charts
from kis_core.editing import anchor
from kis_core.simulator import Simulator
from kis_core.wording import counted, number
from pages.parts.edit.choice import chosen_settings
from pages.parts.edit.view import EditView
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, figure
from pages.parts.frame import state
from pages.parts.frame.page import split
from pages.parts.frame.text import plain

STEPS_HELP = (
    "Updates of δ by Adam, at most. ROME’s code makes one fewer than the steps in its settings, because its last round "
    "only looks at the loss: 20 there are 19 here."
)
NAS_HELP = (
    f"Norm-anchor scaling (arXiv 2602.02543): v* = v₀ + δ is rescaled to the mean ‖v*‖ of {anchor.EDITS} other edits "
    "of the unedited model, which are searched for once. So values do not grow as edits damage the model."
)
SWITCHES = (
    (
        "everywhere",
        "While searching, δ acts everywhere",
        "As the edit will: on every token by its share. ROME’s code adds δ at the subject’s last token alone; the edit "
        "then also moves the other tokens of its own sentence, which the search did not see.",
    ),
    (
        "mean_key",
        "Mean key on the left side",
        "As ROME’s code does, rather than the prompt’s own key as in eq. 2. The shift at fact j is then no longer "
        "P[e, j] δ. Where the mean key has next to nothing of the prompt’s own, that one is taken all the same, and a "
        "warning says so.",
    ),
    ("nas", "Rescale the value (NAS)", NAS_HELP),
)


def search(view: EditView) -> None:
    """Hyper-parameters on the left, the losses they led to on the right."""
    left, right = split(1, 1, key="split-search")
    with left:
        _settings(view.bench)
    with right:
        if view.forecast is None or view.chosen.request is None:
            st.info("The search’s losses are shown here once it is done.", icon=":material/show_chart:")
            return
        value = view.bench.value(view.chosen.request)
        size, probability = number(view.forecast.edit.size, ".1f"), number(value.probability, ".1%")
        figure(
            view,
            drawing(charts.losses, value.losses, stop=view.chosen.request.how.stop_loss),
            FigureText(
                title="Loss of the value search",
                caption=f"{counted(len(value.losses) - 1, 'step')} of Adam; the search stops below the dashed line. "
                f"‖δ‖ = {size}, new object {probability} in the contexts.",
                help="Meng et al. (arXiv 2202.05262), section 3.1: the loss is −log p of the new object, mean over the "
                "contexts and a token, plus weight decay and, if its factor is not 0, the drift of “{subject} is a”.",
                data=lambda: pd.DataFrame({"step": range(len(value.losses)), "loss": value.losses}),
                code=f"{view.python_lines(perform=False)}losses = bench.value(request).losses",
                brief=True,
            ),
            key="losses",
        )


def _settings(bench: Simulator) -> None:
    recipe, now = bench.recipe, chosen_settings(bench)
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
            help=STEPS_HELP if name == "steps" else None,
        )
    for name, label, text in SWITCHES:
        default = getattr(usual, name)
        st.session_state[f"how-{name}"] = bool(now.get(name, default))
        st.toggle(label, key=f"how-{name}", help=text, on_change=changed, args=(name, float(default)))
