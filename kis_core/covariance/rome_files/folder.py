"""The statistics of a model's layers: which there are, and whether they fit the model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from kis_core.covariance.rome_files import files
from kis_core.covariance.rome_files.archive import StatisticsError
from kis_core.files.paths import is_file

Stamp = tuple[tuple[str, int, int], ...]
"""Path, size in bytes and time of change in ns of every file: new whenever a file was written to."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics files by layer.

    Attributes:
        name: of the file or folder, for people.
        paths: the file of each layer.
    """

    name: str
    paths: Mapping[int, Path]

    @classmethod
    def find(cls, path: Path) -> Statistics:
        """The file, or the files in a folder (ROME's `{dataset}_stats`, or the model's folder above it).

        Raises:
            StatisticsError: there are none, or two of one layer.
        """
        paths: dict[int, Path] = {}
        for file in _candidates(path):
            layer = files.layer_of(files.module_in(file) or (files.header(file).module if file == path else None))
            if layer is None:
                continue
            if layer in paths:
                raise StatisticsError(f"Two files of layer {layer}: {paths[layer]} and {file}. Give a folder of one.")
            paths[layer] = file
        if not paths:
            raise StatisticsError(
                f"No statistics of ROME’s at {path}. Give a file named as ROME does, such as "
                "transformer.h.17.mlp.c_proj_float32_mom2_100000.npz, or a folder of such files."
            )
        return cls(path.resolve().name, dict(sorted(paths.items())))

    @property
    def fingerprint(self) -> str:
        """SHA-256 over layers and contents of the files.

        Raises:
            StatisticsError: a file cannot be read.
        """
        digest = hashlib.sha256()
        try:
            for layer, path in self.paths.items():
                with path.open("rb") as stream:
                    digest.update(f"{layer}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
        except OSError as error:
            raise StatisticsError(f"{path} cannot be read: {error}") from error
        return digest.hexdigest()

    @property
    def stamp(self) -> Stamp:
        """Stands for the fingerprint, which takes a pass over big files.

        Raises:
            StatisticsError: a file is gone.
        """
        try:
            states = [(path.resolve(), path.stat()) for path in self.paths.values()]
        except OSError as error:
            raise StatisticsError(f"Statistics of {self.name} are no longer there: {error}") from error
        return tuple((str(path), state.st_size, state.st_mtime_ns) for path, state in states)

    def check(
        self,
        layers: int,
        mlp_width: int,
        module_of: Callable[[int], str],
        *,
        model: str = "the model",
        weights: str | None = None,
        wanted: Collection[int] = (),
    ) -> None:
        """See that the files fit a model, by what they say about themselves; no matrix is read.

        Args:
            layers: L, how many the model has.
            mlp_width: d_m.
            module_of: path of a layer's down-projection in the model.
            model: its name, for the message.
            weights: fingerprint of its weights, to hold against a file's provenance; None not to.
            wanted: layers that there has to be a file of.

        Raises:
            StatisticsError: they do not; says in which way.
        """
        if missing := sorted(set(wanted) - self.paths.keys()):
            raise StatisticsError(f"{self.name} has no statistics of layer {_listed(missing)}; {self._told}.")
        for layer, path in self.paths.items():
            told = files.header(path)
            if told.width != mlp_width:
                found = f"C of keys of length {told.width}; {model} has {mlp_width}"
            elif layer >= layers:
                found = f"C of layer {layer}; {model} has layers 0 to {layers - 1}"
            elif told.module != module_of(layer):
                found = f"C of {told.module}; {model} has its down-projection at {module_of(layer)}"
            elif weights is not None and told.provenance.get("weights_sha256", weights) != weights:
                found = f"C of other weights than those of {model} here, as its provenance tells"
            else:
                continue
            raise StatisticsError(f"{path.name} holds {found}.{_guess(path, model)}")

    def moment(self, layer: int) -> files.Statistic:
        """C of a layer.

        Raises:
            StatisticsError: there is no file of it, or it cannot be read.
        """
        if layer not in self.paths:
            raise StatisticsError(f"{self.name} has no statistics of layer {layer}; {self._told}.")
        return files.read(self.paths[layer])

    @property
    def _told(self) -> str:
        return f"it has those of layer {_listed(self.paths)}"


def recognises(source: str | Path) -> bool:
    """Whether a path names statistics, and no text: an `.npz` file, or a folder with one named as ROME does."""
    return any(file == Path(source) or files.module_in(file) for file in _candidates(Path(source)))


def _candidates(path: Path) -> list[Path]:
    try:
        if is_file(path):
            return [path] if path.suffix == ".npz" else []
        return sorted(path.glob("*.npz")) or sorted(path.glob("*_stats/*.npz"))
    except (OSError, ValueError):  # a name that no system could hold
        return []


def _listed(layers: Collection[int]) -> str:
    return ", ".join(map(str, layers))


def _guess(path: Path, model: str) -> str:
    """In ROME's folders, the model stands two above the file."""
    told = path.parent.parent.name
    return f" Is it of {told}?" if path.parent.name.endswith("_stats") and told != model.replace("/", "_") else ""
