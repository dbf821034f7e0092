"""`make audit`: what is known of the pinned packages' vulnerabilities; says so where nothing could be found out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
COMMAND = ["--requirement", str(ROOT / "requirements.lock"), "--disable-pip", "--require-hashes", "--format", "json"]
UNREACHED = "Nothing was audited: the database of known vulnerabilities cannot be reached from here"


def verdict(report: str, errors: str) -> tuple[str, int]:
    """What pip-audit's report says, in words, and the exit status.

    Args:
        report: the JSON that it wrote; empty where it failed.
        errors: what it wrote to the standard error.
    """
    try:
        rows: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError):
        last = (errors.strip().splitlines() or ["it wrote no report"])[-1]
        return f"{UNREACHED} (pip-audit: {last}).", 2
    looked_at = [row for row in rows if "vulns" in row]
    if not looked_at:
        return f"{UNREACHED}: it knows none of the {len(rows)} packages.", 2
    found = [(row, flaw) for row in looked_at for flaw in row["vulns"]]
    lines = [f"{row['name']} {row['version']}: {flaw['id']}, mended in {_mended(flaw)}" for row, flaw in found]
    lines += [f"{row['name']}: not looked at ({row['skip_reason']})" for row in rows if row not in looked_at]
    lines.append(f"{len(looked_at)} of {len(rows)} packages looked at, {len(found)} known vulnerabilities.")
    return "\n".join(lines), int(bool(found))


def _mended(flaw: dict[str, Any]) -> str:
    return ", ".join(flaw.get("fix_versions") or ["no version yet"])


def main() -> None:
    """Run pip-audit on the lock file."""
    asked = subprocess.run([sys.executable, "-m", "pip_audit", *COMMAND], capture_output=True, text=True, check=False)
    words, status = verdict(asked.stdout, asked.stderr)
    print(words)  # noqa: T201 - a program of its own
    sys.exit(status)


if __name__ == "__main__":
    main()
