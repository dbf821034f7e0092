"""Models of the Hugging Face Hub: their folder in its local cache, downloaded there if it is to be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kis_core import progress
from kis_core.errors import refuse_if_read_only
from kis_core.models.files import CONFIGURATION, WEIGHTS, Gated, ModelError, ModelFiles, NotHere

STAGE = "Downloading the model"
NEEDED = ("*.json", WEIGHTS, "*.model", "*.txt")
NEVER = ("*/*", "consolidated*")  # other formats and precisions, and Mistral's weights once more under its own names


def hub_files(
    name: str, revision: str | None, *, download: bool, report: progress.Report = progress.silent
) -> ModelFiles:
    """The files of an id of the Hub in its local cache.

    Raises:
        ModelError, NotHere, Gated: see `catalog.locate`.
        Cancelled: `report` called the download off.
    """
    from huggingface_hub import constants, snapshot_download

    constants.HF_HUB_DISABLE_XET = True  # its own threads swallow what a report raises: no Cancel would end them
    with _errors_of_the_hub(name, revision, download):
        folder = snapshot_download(
            name,
            revision=revision,
            allow_patterns=list(NEEDED),
            ignore_patterns=list(NEVER),
            local_files_only=not download,
            tqdm_class=_told_to(report),
        )
    return ModelFiles(Path(folder))


def hub_configuration(name: str, revision: str | None, *, download: bool = True) -> Path:
    """The configuration alone of an id of the Hub: a few kilobytes, downloaded if they are to be.

    Raises:
        ModelError, NotHere, Gated: see `catalog.locate`.
    """
    from huggingface_hub import hf_hub_download

    with _errors_of_the_hub(name, revision, download):
        return Path(hf_hub_download(name, CONFIGURATION, revision=revision, local_files_only=not download))


def no_name(name: str) -> ModelError:
    """The error for what is no name of a model at all."""
    return ModelError(
        f"{name[:120]!r} is neither a folder nor a GGUF file on this machine nor a model name. `python -m kis_core "
        f"models` lists the names; a local transformers folder or a GGUF file works too."
    )


def _told_to(report: progress.Report) -> Any:
    """A progress bar of the Hub's that draws nothing and tells of bytes instead; a report that cancels ends it.

    Of the bars that the Hub makes, over files, bytes received and bytes written, it is the last that tells.
    """
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    class ReportingBar(tqdm):  # the Hub's carries no types
        """One bar; its total grows with every file that is begun."""

        def __init__(self, *args: Any, **options: Any) -> None:
            self._tells = options.get("unit") == "B" and not str(options.get("name")).endswith(".transfer")
            super().__init__(*args, **options | {"disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            """Bytes were written."""
            if self._tells:
                self.n += int(n or 0)
                report(STAGE, self.n, max(int(self.total or 0), self.n))

    return ReportingBar


@contextmanager
def _errors_of_the_hub(name: str, revision: str | None, download: bool) -> Iterator[None]:
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # of HTTPError
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if download:
        refuse_if_read_only("Fetching anything from the Hub")
    try:
        yield
    except HFValidationError as error:
        raise no_name(name) from error
    except GatedRepoError as error:  # a subclass of RepositoryNotFoundError: it has to come first
        raise Gated(name) from error
    except RevisionNotFoundError as error:
        raise ModelError(f"{name} has no revision {revision!r}.") from error
    except LocalEntryNotFoundError as error:
        at = f" at revision {revision}" if revision else ""
        if not download:
            raise NotHere(f"{name} is not on this machine{at}; “Compute” on the page Models downloads it.") from error
        raise ModelError(
            f"{name} is not on this machine{at} and cannot be downloaded now. Connect to the network, or give the "
            f"folder of a local copy; the demo models work offline (`python -m kis_core models`)."
        ) from error
    except EntryNotFoundError as error:
        raise ModelError(
            f"{name} has no {CONFIGURATION} on the Hub, so it is not a whole transformers model; an adapter has to be "
            f"merged with its model first."
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"There is no model {name!r} on the Hugging Face Hub, nor in the catalogue.") from error
    except (HTTPError, OSError) as error:  # the Hub's own errors, a connection that broke, a disk that is full
        raise ModelError(
            f"{name} could not be downloaded ({type(error).__name__}). Try again, or give a folder."
        ) from error
