"""The statistics of a model's layers: which there are, and whether they fit the model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from kis_core.covariance.rome_files import files
from kis_core.covariance.rome_files.archive import StatisticsError
from kis_core.files.paths import Stamp, is_file, stamp


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
                raise StatisticsError(
                    f"Two files of layer {layer}: {paths[layer]} and {file}. Give a folder with one file a layer."
                )
            paths[layer] = file
        if not paths:
            raise StatisticsError(
                f"No statistics of ROME’s at {path}. Give a file named as ROME names it, such as "
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
        """A stand-in for the fingerprint, which takes a pass over big files.

        Raises:
            StatisticsError: a file is gone.
        """
        try:
            return stamp(self.paths.values())
        except OSError as error:
            raise StatisticsError(f"Statistics of {self.name} are no longer there: {error}") from error

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
        """Check by their headers that the files fit a model; no matrix is read.

        Args:
            layers: L, the model's number of layers.
            mlp_width: d_m.
            module_of: path of a layer's down-projection in the model.
            model: its name, for the message.
            weights: fingerprint of its weights, which a file's provenance must have; None to skip this.
            wanted: layers that need a file.

        Raises:
            StatisticsError: they do not fit; says in which way.
        """
        if missing := sorted(set(wanted) - self.paths.keys()):
            raise StatisticsError(f"{self.name} has no statistics of layer {_listed(missing)}; {self._layers}.")
        for layer, path in self.paths.items():
            head = files.header(path)
            if head.width != mlp_width:
                misfit = f"C of keys of length {head.width}; {model} has {mlp_width}"
            elif layer >= layers:
                misfit = f"C of layer {layer}; {model} has layers 0 to {layers - 1}"
            elif head.module != module_of(layer):
                misfit = f"C of {head.module}; {model} has its down-projection at {module_of(layer)}"
            elif weights is not None and head.provenance.get("weights_sha256", weights) != weights:
                misfit = f"C of other weights than those of {model} here, by its provenance"
            else:
                continue
            raise StatisticsError(f"{path.name} holds {misfit}.{_guess(path, model)}")

    def moment(self, layer: int) -> files.Statistic:
        """C of a layer.

        Raises:
            StatisticsError: there is no file of it, or it cannot be read.
        """
        if layer not in self.paths:
            raise StatisticsError(f"{self.name} has no statistics of layer {layer}; {self._layers}.")
        return files.read(self.paths[layer])

    @property
    def _layers(self) -> str:
        return f"it has those of layer {_listed(self.paths)}"


def recognises(source: str | Path) -> bool:
    """Whether a path names statistics rather than text: an `.npz` file, or a folder with one named as ROME names it."""
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
    """The model that the file may be of: in ROME's folders, its name stands two above the file."""
    name = path.parent.parent.name
    return f" Is it of {name}?" if path.parent.name.endswith("_stats") and name != model.replace("/", "_") else ""
