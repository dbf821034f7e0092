"""How the value of an edit is searched for: the published settings of a model and method, or what suits its size."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from kis_core.editing.edit import EditError
from kis_core.models import catalog
from kis_core.models.layers import editable_layers

ROME_PREFIXES = ((10, 5), (10, 10))
MEMIT_PREFIXES = ((5, 10),)
"""Of MEMIT's and AlphaEdit's code, which begins them with The, Therefore, Because, I and You; here the model begins."""
WIDE = 512  # residual width from which published models begin; below it are the demo family and tests
LARGE = 1024  # residual width of the smallest model that settings were published for
EARLY = 0.2  # of the layers: where ROME's published choices lie, rounded (0.15 to 0.35)


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Of the value optimisation (Meng et al., arXiv 2202.05262, section 3.1, and its code).

    v₀ is what δ is added to: the down-projection's output for ROME and its kin and for PMET, the residual stream after
    the layer for MEMIT, AlphaEdit and EMMET.

    Attributes:
        steps: updates of δ by Adam, at most. The authors' loop of 20 steps makes 19: its last round only looks at the
            loss. Published settings are given here by their updates.
        learning_rate: of Adam.
        weight_decay: factor of ‖δ‖ / ‖v₀‖².
        kl: factor of the divergence of what is said of "{subject} is a"; 0 leaves it out.
        clamp: ‖δ‖ is at most this many times ‖v₀‖.
        prefixes: (how many, how long) of the random beginnings the prompt is also read after.
        stop_loss: the search ends early once the loss is below it.
        mean_key: ROME's left side takes the mean key over all these contexts, as its code does, rather than the
            prompt's own key k_e, as eq. 2 does; MEMIT and its kin edit the mean of k_e and of the mean after
            prefixes, as theirs does.
        everywhere: while it is searched for, δ acts on every token by its share, as the edit will. ROME's code adds it
            at the subject's last token alone; the edit then also moves other tokens of its own sentence, which the
            search did not see.
        seed: of the prefixes.
        nas: a value that was found is rescaled to the norm that values have in the unedited model (norm-anchor scaling,
            Liu et al., arXiv 2602.02543; `editing.anchor`).
    """

    steps: int = 25
    learning_rate: float = 0.1
    weight_decay: float = 0.5
    kl: float = 0.0
    clamp: float = 4.0
    prefixes: tuple[tuple[int, int], ...] = ((3, 5),)
    stop_loss: float = 0.05
    mean_key: bool = False
    everywhere: bool = False
    seed: int = 0
    nas: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefixes", tuple((int(n), int(length)) for n, length in self.prefixes))
        if not (isinstance(self.steps, int) and 1 <= self.steps <= 1000):
            raise EditError(f"whole steps from 1 to 1000; {self.steps} were asked for")
        if not (0 < self.learning_rate <= 10 and 0 <= self.weight_decay <= 100 and 0 <= self.kl <= 100):
            raise EditError("the learning rate has to lie in (0, 10], weight decay and KL factor in [0, 100]")
        if not (0 < self.clamp <= 100 and 0 <= self.stop_loss <= 100):
            raise EditError("the clamp has to lie in (0, 100], the loss to stop at in [0, 100]")
        if any(not (0 <= n <= 100 and 1 <= length <= 100) for n, length in self.prefixes):
            raise EditError("prefixes: 0 to 100 of them, 1 to 100 tokens long")

    def to_json(self) -> dict[str, Any]:
        """As JSON; `nas` stands there where it is on, since the keys of what is stored are older than it."""
        known = asdict(self) | {"prefixes": [list(pair) for pair in self.prefixes]}
        return known if self.nas else {name: value for name, value in known.items() if name != "nas"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to start from for a model.

    Attributes:
        hyperparameters: of the search.
        layer: to edit.
        source: where these come from, in words.
    """

    hyperparameters: Hyperparameters
    layer: int
    source: str


def _as_run(
    looks: int,
    *,
    learning_rate: float = 0.5,
    weight_decay: float = 0.5,
    kl: float = 0.0625,
    clamp: float,
    prefixes: tuple[tuple[int, int], ...] = ROME_PREFIXES,
) -> Hyperparameters:
    """Settings of the authors' loop, which looks at the loss `looks` times and makes one update fewer."""
    return Hyperparameters(looks - 1, learning_rate, weight_decay, kl, clamp, prefixes, mean_key=True)


ROME = "ROME's code"
EASY_EDIT = "EasyEdit's ROME settings"
PUBLISHED = {
    "gpt2-medium": Recipe(_as_run(20, clamp=3), 8, ROME),
    "gpt2-large": Recipe(_as_run(20, clamp=4), 12, ROME),
    "gpt2-xl": Recipe(_as_run(20, clamp=4), 17, ROME),
    "gpt-j-6b": Recipe(_as_run(20, clamp=4), 5, ROME),
    "llama-2-7b": Recipe(_as_run(25, weight_decay=1e-3, clamp=4), 5, EASY_EDIT),
    "llama-3-8b": Recipe(_as_run(25, weight_decay=1e-3, clamp=4), 5, EASY_EDIT),
    "mistral-7b-v0.1": Recipe(_as_run(25, weight_decay=1e-3, clamp=4), 5, EASY_EDIT),
}
"""Of ROME, r-ROME and C = I, by catalogue name."""

MEMIT = "MEMIT's code"
ALPHA_EDIT = "AlphaEdit's code"
SMALL_CLAMP, NORMED_CLAMP = 1.5, 0.5
"""Of models below `LARGE`, and of those with a norm after the MLP. With ROME's 4 as many edits take, and damage several
times as many other answers; where a norm follows, half of ‖v₀‖ is enough (docs/edits.md)."""
NORMED = "Gemma"  # the family, from its second generation on

PUBLISHED_SPREAD = {
    "gpt2-xl": Recipe(_as_run(20, clamp=0.75, prefixes=MEMIT_PREFIXES), 17, MEMIT),
    "gpt-j-6b": Recipe(_as_run(25, clamp=0.75, prefixes=MEMIT_PREFIXES), 8, MEMIT),
    "llama-3-8b": Recipe(_as_run(25, learning_rate=0.1, clamp=0.75, prefixes=MEMIT_PREFIXES), 8, ALPHA_EDIT),
}
"""Of MEMIT and AlphaEdit (arXiv 2210.07229 and 2410.02355), by catalogue name; the layer is the last of their range,
for which values are searched for. MEMIT with past keys has these as well."""

EMMET = "EMMET's code"
PMET = "PMET's code"
PUBLISHED_OF = {
    "emmet": {
        "gpt2-xl": Recipe(_as_run(20, clamp=0.75, prefixes=MEMIT_PREFIXES), 17, EMMET),
        "gpt-j-6b": Recipe(_as_run(25, clamp=0.75, prefixes=MEMIT_PREFIXES), 5, EMMET),
        "llama-2-7b": Recipe(_as_run(25, weight_decay=1e-3, clamp=4, prefixes=MEMIT_PREFIXES), 5, EMMET),
    },
    "pmet": {
        "gpt-j-6b": Recipe(_as_run(30, learning_rate=0.2, kl=1, clamp=0.75, prefixes=MEMIT_PREFIXES), 8, PMET),
        "llama-2-7b": Recipe(_as_run(20, clamp=1, prefixes=MEMIT_PREFIXES), 8, "EasyEdit's PMET settings"),
    },
}
"""Of methods that have their own (arXiv 2403.14236 and 2308.08742), by method and catalogue name."""


def recipe(model: str, *, width: int, layers: int, spreads: bool = False, method: str = "") -> Recipe:
    """What to start from for a model: what was published for it, or else what suits its size.

    Args:
        model: catalogue name, Hub id or folder.
        width: d.
        layers: L.
        spreads: for a method that spreads an edit over layers: MEMIT, AlphaEdit and their kin.
        method: its name, as some have settings of their own.
    """
    entry = catalog.find(model)
    table = PUBLISHED_OF.get(method, PUBLISHED_SPREAD if spreads else PUBLISHED)
    published = table.get(entry.name) if entry else None
    if published and published.layer in editable_layers(layers):
        return published
    if width < WIDE:
        small = Hyperparameters(steps=60, learning_rate=0.5, everywhere=True)  # on their scale: docs/edits.md
        return Recipe(small, 0, "found on the demo family")
    layer = min(round(EARLY * layers), max(editable_layers(layers), default=0))
    if spreads:
        return Recipe(_as_run(20, clamp=0.75, prefixes=MEMIT_PREFIXES), layer, "MEMIT's; none published for this model")
    if entry and entry.family == NORMED:
        return Recipe(_as_run(20, clamp=NORMED_CLAMP, prefixes=MEMIT_PREFIXES), layer, "found on Gemma 3 270M")
    if width < LARGE:
        return Recipe(_as_run(20, clamp=SMALL_CLAMP, prefixes=MEMIT_PREFIXES), layer, "found on SmolLM2-135M")
    return Recipe(_as_run(20, clamp=4), layer, "ROME's; none published for this model")
