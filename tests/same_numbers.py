"""Are the numbers of two checkouts the same, bit for bit? Every command that computes is run in both.

    python -m tests.same_numbers OTHER_CHECKOUT [FOLDER]

Run it from this checkout. The other one may be an older commit (`git worktree add ../before COMMIT`). Both are run by
this interpreter, each with a cache of its own. Arrays are compared bit for bit, tables and texts to the letter, and so
are the keys under which results are stored. Records of time, version and machine are left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

SMALL, MIDDLE = "demo-gpt2-32", "demo-gpt2-64"
ANALYSED = ["--facts", "builtin", "--corpus", "builtin"]
METHODS = ("rome", "r-rome", "identity", "memit", "alphaedit", "fine-tuning")
COMMANDS = {
    "analyse": ["analyse", "--model", SMALL, *ANALYSED],
    "analyse-middle": ["analyse", "--model", MIDDLE, *ANALYSED, "--tokens", "20000", "--layers", "0,2"],
    "analyse-bfloat16": ["analyse", "--model", SMALL, *ANALYSED, "--tokens", "5000", "--dtype", "bfloat16"],
    "analyse-settled": ["analyse", "--model", SMALL, *ANALYSED, "--tokens", "all", "--settled", "0.05"],
    "covariance": ["covariance", "--model", SMALL, "--corpus", "builtin", "--tokens", "20000"],
    **{
        f"edit-{method}": [
            "edit", "--model", SMALL, "--layer", "0", "--fact", "1", "--target", "French", "--method", method,
        ]
        for method in METHODS[:3]
    },
    "study": ["study", "--models", SMALL, "--edits", "4"],
    **{
        f"lifelong-{method}": [
            "lifelong", "--model", SMALL, "--layer", "0-1" if method in ("memit", "alphaedit") else "0",
            "--method", method, "--edits", "10", "--seed", "0",
        ]
        for method in METHODS
    },
    "lifelong-gentle": [
        "lifelong", "--model", SMALL, "--layer", "0", "--edits", "10", "--draw", "most", "--order", "gentle",
    ],
    "forgetting": [
        "forgetting", "--models", SMALL, "--edits", "10", "--seeds", "1", "--methods", "rome", "--layers", "0",
    ],
}  # fmt: skip
LARGE_SET = """
import numpy, sys
try:
    from kis_core.analysis import large_sets
    from kis_core.request import Request
    from kis_core.store import Store
except ImportError:
    from kis_core import many as large_sets
    from kis_core.request import Request
    from kis_core.store import Store
found = large_sets.run(Request(model="demo-gpt2-32", facts="builtin"), 0, Store())
numpy.savez(sys.argv[1], **large_sets.arrays(found.sweep))
"""
VARYING = ("seconds", "when", "computed", "created", "version", "versions", "device", "machine", "date", "kis_core")


def run(checkout: Path, folder: Path) -> None:
    """Run every command in a checkout; its files lie in a folder a command, its cache in `cache`."""
    cache = {"KIS_CACHE": str(folder / "cache"), "KIS_GALLERY": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **cache, "PYTHONPATH": str(checkout)}
    for name, words in COMMANDS.items():
        out = folder / "files" / name
        command = [sys.executable, "-m", "kis_core", *words, "--out", str(out)]
        subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=subprocess.DEVNULL)
        sys.stdout.write(f"{checkout.name}: {name}\n")
        sys.stdout.flush()
    npz = str(folder / "files" / "large-set.npz")
    subprocess.run([sys.executable, "-c", LARGE_SET, npz], cwd=checkout, env=environment, check=True)


def contents(folder: Path) -> dict[str, str]:
    """A digest of everything in a folder that must be the same, by name."""
    actual: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or path.suffix in {".lock", ".db"} or "cache.db" in name:
            continue
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                for key in arrays.files:
                    array = arrays[key]
                    if array.dtype.kind in "US" and key not in {"subjects", "prompts"}:
                        continue
                    actual[f"{name}:{key}"] = f"{array.dtype} {array.shape} {_sha(array.tobytes())}"
        elif path.suffix == ".json":
            actual[name] = _sha(json.dumps(_lasting(json.loads(path.read_text())), sort_keys=True).encode())
        elif path.suffix in {".csv", ".txt"}:
            actual[name] = _sha(path.read_bytes())
        elif path.parent.name == "matrices" and not path.name.startswith("fingerprint-"):  # those are of paths
            actual[f"stored {path.name.rpartition('-')[0]}"] = _sha(path.read_bytes())
    return actual


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _lasting(value: Any) -> Any:
    """A record without what differs from run to run."""
    if isinstance(value, dict):
        return {key: _lasting(part) for key, part in value.items() if key not in VARYING}
    return [_lasting(part) for part in value] if isinstance(value, list) else value


def main() -> int:
    """Compare; the exit status is 1 where something differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("other", type=Path)
    parser.add_argument("folder", type=Path, nargs="?", help="to keep the files in; what lies there is taken as it is")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        base = (args.folder or Path(temporary)).resolve()
        for name, checkout in (("other", args.other.resolve()), ("this", Path.cwd())):
            if not (base / name).is_dir():
                run(checkout, base / name)
        before, now = contents(base / "other"), contents(base / "this")
    differing = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    for name in differing:
        sys.stdout.write(f"differs: {name}: {before.get(name, 'not there')} | {now.get(name, 'not there')}\n")
    sys.stdout.write(f"{len(before)} things compared, {len(differing)} differ\n")
    return int(bool(differing))


if __name__ == "__main__":
    sys.exit(main())
