"""Builds libecholoop with cargo and puts it into the wheel, beside the Python files.

The rule: the wheel holds the library of the sources next to it. ``ECHOLOOP_LIBRARY`` names one that
is built already. A source archive carries the Rust workspace in its folder ``workspace``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NAME = "libecholoop.dylib" if sys.platform == "darwin" else "libecholoop.so"
WORKSPACE = ("Cargo.toml", "Cargo.lock", "crates", "tests", "include")


class LibraryHook(BuildHookInterface):  # type: ignore[type-arg]
    """The build hook that hatchling calls."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the library to a wheel, and the Rust sources to a source archive."""
        root = Path(self.root)
        embedded = root / "workspace"
        workspace = embedded if embedded.is_dir() else root.parent
        if self.target_name == "sdist":
            for part in filter(lambda part: (workspace / part).exists(), WORKSPACE):
                build_data["force_include"][str(workspace / part)] = f"workspace/{part}"
            return
        library = Path(os.environ.get("ECHOLOOP_LIBRARY") or build(workspace)).resolve()
        if version == "editable":
            shutil.copy2(library, root / "src" / "echoloop" / NAME)
        else:
            build_data["force_include"][str(library)] = f"echoloop/{NAME}"
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
        build_data["pure_python"] = False


def build(workspace: Path) -> str:
    """Runs cargo and returns the path of the library, as cargo tells it."""
    cargo = os.environ.get("CARGO") or shutil.which("cargo")
    if not cargo or not (workspace / "Cargo.toml").is_file():
        raise SystemExit("echoloop: needs cargo and the Rust sources, or ECHOLOOP_LIBRARY=FILE")
    command = [cargo, "build", "--release", "-p", "echoloop-capi"]
    command.append("--message-format=json-render-diagnostics")
    said = subprocess.run(command, cwd=workspace, check=True, stdout=subprocess.PIPE).stdout
    files = [name for line in said.splitlines() for name in json.loads(line).get("filenames") or ()]
    return str(next(name for name in files if Path(name).name == NAME))
