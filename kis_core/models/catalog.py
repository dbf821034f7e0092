"""The models the program knows by name, the embedded demo family and those of the Hub, and where they lie.

Those of the Hub stand in `catalog.csv`: small ones that a laptop runs, two of which come in Python packages, then the
models that Hu et al. (arXiv 2408.07413) studied, then others of their kind.
Parameters and shapes follow from the published configurations, and a test builds every one of them to see it.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kis_core import progress
from kis_core.demo.family import FAMILY
from kis_core.demo.known import FactBase
from kis_core.demo.known import find as in_fact_base
from kis_core.facts.fact import Fact
from kis_core.facts.known import KnownFacts
from kis_core.files.paths import is_file
from kis_core.machine import DTYPE_BYTES
from kis_core.models import gguf
from kis_core.models.download import hub_files, no_name
from kis_core.models.files import ModelError, ModelFiles, NotHere
from kis_core.models.gguf import GgufFile
from kis_core.models.layers import editable_layers

DEMO = "Demo family"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9][\w./-]{0,199}")  # commit, tag or branch; it becomes part of a path
DEFAULT = "demo-gpt2-128"  # shows heavy tails and full recall, and is computed in seconds


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model of the catalogue.

    Attributes:
        name: what users type.
        family: for grouping and colour.
        source: Hugging Face id, or PACKAGE/FILE.gguf of a file in a Python package; the name itself for an embedded
            model.
        parameters, layers, width, mlp_width: size, L, d and d_m.
        gated: a licence has to be accepted on the Hub first.
        files: those of an embedded model; None for one of the Hub.
        context: the longest sequence, in tokens, it was built for; 0 where nobody said.
        dtype: the numbers its weights are stored in.
        revision: the commit of the Hub that is read; None for the newest.
        paper: was studied in the paper.
        safetensors: whether the Hub has its weights in the one format that is read here.
        package: the Python package whose installation brings it, as pip names it; else empty.
        licence: that its weights are given under.
        quantisation: the format that its weights are quantised in; empty where they are not.
        title: what it is called where a model is chosen; empty for its name.
    """

    name: str
    family: str
    source: str
    parameters: int
    layers: int
    width: int
    mlp_width: int
    gated: bool = False
    files: ModelFiles | None = None
    context: int = 0
    dtype: str = "float32"
    revision: str | None = None
    paper: bool = False
    safetensors: bool = True
    package: str = ""
    licence: str = ""
    quantisation: str = ""
    title: str = ""

    @property
    def editable_layers(self) -> range:
        """The layers that can be edited."""
        return editable_layers(self.layers)

    @property
    def download_bytes(self) -> int:
        """About how much the Hub sends, 0 where nothing is; masks stored with some GPTs add a few per cent."""
        return 0 if self.files or self.package else self.parameters * DTYPE_BYTES[self.dtype]


def _read_hub() -> tuple[ModelEntry, ...]:
    with (Path(__file__).parent / "catalog.csv").open(encoding="utf-8", newline="") as stream:
        return tuple(
            ModelEntry(
                name=row["name"],
                family=row["family"],
                source=row["source"],
                parameters=int(row["parameters"]),
                layers=int(row["layers"]),
                width=int(row["width"]),
                mlp_width=int(row["mlp_width"]),
                gated=row["gated"] == "yes",
                context=int(row["context"]),
                dtype=row["dtype"],
                revision=row["revision"] or None,
                paper=row["paper"] == "yes",
                safetensors=row["safetensors"] == "yes",
                package=row["package"],
                licence=row["licence"],
                quantisation=row["quantisation"],
                title=row["title"],
            )
            for row in csv.DictReader(stream)
        )


_HUB = _read_hub()
PAPER = tuple(entry for entry in _HUB if entry.paper)


@cache
def demo() -> tuple[ModelEntry, ...]:
    """The embedded models, sized from their own files."""
    entries = []
    for member in FAMILY:
        files = ModelFiles(member.folder)
        if not (config := files.configuration):
            continue
        entries.append(
            ModelEntry(
                member.name,
                DEMO,
                member.name,
                files.parameters(),
                config.get("n_layer") or config["num_hidden_layers"],
                member.width,
                member.mlp_width,
                files=files,
                context=config.get("n_positions") or config["max_position_embeddings"],
                dtype=config.get("dtype") or config["torch_dtype"],
            )
        )
    return tuple(entries)


def hub() -> tuple[ModelEntry, ...]:
    """The entries of the Hub and of Python packages: small models first, then those of the paper, then the others."""
    return _HUB


def entries() -> tuple[ModelEntry, ...]:
    """Everything in the catalogue, the demo family first."""
    return demo() + hub()


def find(name: str) -> ModelEntry | None:
    """The entry of that name or Hugging Face id, if there is one."""
    return next((entry for entry in entries() if name in (entry.name, entry.source)), None)


def is_demo(name: str) -> bool:
    """Whether a model is one of the demo family."""
    entry = find(name)
    return entry is not None and entry.family == DEMO


def known_facts(model: str, facts: Sequence[Fact]) -> KnownFacts:
    """What else a model knows beside the facts looked at.

    The demo family knows its whole fact base. Of any other model nothing is known beforehand: paraphrases, neighbours
    and objects then come from the base if the facts are of it, or else from the facts themselves.
    """
    if is_demo(model):
        return FactBase(facts, apart=True)
    return FactBase(facts, apart=False) if any(map(in_fact_base, facts)) else KnownFacts(facts)


def available() -> tuple[ModelEntry, ...]:
    """The entries whose weights are on this machine: the demo family, installed packages, the Hub's local cache."""
    return demo() + tuple(entry for entry in hub() if _is_here(entry))


def _is_here(entry: ModelEntry) -> bool:
    if entry.package:
        return gguf.in_package(entry.source) is not None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE

    if not Path(HF_HUB_CACHE).is_dir():
        return False
    path = try_to_load_from_cache(entry.source, "config.json", revision=entry.revision)
    with suppress(ModelError):  # its index leads out of its folder
        return isinstance(path, str) and bool(ModelFiles(Path(path).parent).weights())
    return False


def locate(
    name: str, *, revision: str | None = None, download: bool = True, report: progress.Report = progress.silent
) -> ModelFiles:
    """The files of a model: an embedded one, a local folder or GGUF file, or the Hub's local copy of an id.

    Args:
        name: of an entry, a folder, a GGUF file, or a Hugging Face id.
        revision: commit, tag or branch of the Hub; None for the entry's own, or else the newest.
        download: whether to get from the Hub what is not here.
        report: called as a download proceeds.

    Raises:
        ModelError: nothing of that name; says where it looked and what to do.
        NotHere: it is not on this machine, and was not to be downloaded; or it is in a package that is not installed.
        Gated: its licence has to be accepted first.
    """
    if entry := find(name):
        if entry.files:
            return entry.files
        name, revision = entry.source, revision or entry.revision
    if files := on_disk(name):
        return files.checked()
    if entry and entry.package:
        raise NotHere(
            f"{entry.name} comes with the Python package {entry.package}, which is not installed here: `make real` "
            f"installs it."
        )
    if not HUB_ID.fullmatch(name):
        raise no_name(name)
    if revision and not REVISION.fullmatch(revision):
        raise ModelError(
            f"{revision[:120]!r} is not a revision of {name}: give a commit, a tag or a branch of the Hub."
        )
    return hub_files(name, revision, download=download, report=report).checked()


def on_disk(name: str) -> ModelFiles | None:
    """The files of a local folder or GGUF file, or PACKAGE/FILE.gguf of an installed package, if that is named."""
    if os.path.isdir(name):  # not Path.is_dir, which raises for a name no file system takes
        return ModelFiles(Path(name).resolve())
    if not name.lower().endswith(gguf.ENDING):
        return None
    path = Path(name).resolve() if is_file(Path(name)) else gguf.in_package(name)
    return GgufFile(path) if path else None
