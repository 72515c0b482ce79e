"""The command line as a user types it: in a process of its own, or in this one where only the words matter."""

import contextlib
import io
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any
from unittest import mock


class Terminal:
    """A folder to work in, without settings from outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("PNEUMOSEARCH")}
        self.environment |= {"COLUMNS": "160", "XDG_CACHE_HOME": str(folder / "home")}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "pneumosearch", *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """Output and errors of a command in a process of its own, as a user has it."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=600)
        assert process.returncode == code, err
        return out, err

    def json(self, *arguments: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.run(*arguments, "--json")[0])
        return value

    def call(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """The same without a process, for what a command says and its exit code; a start takes a second or more."""
        out, err = _stream(), _stream()
        with (
            mock.patch.object(sys, "argv", ["pneumosearch", *arguments]),
            mock.patch.object(sys, "excepthook", sys.excepthook),  # which Typer replaces
            mock.patch.dict(os.environ, self.environment, clear=True),
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            found = _exit_code()
        said, told = (stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]
        assert found == code, told
        return said, told

    def called_json(self, *arguments: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.call(*arguments, "--json")[0])
        return value


def _stream() -> io.TextIOWrapper:
    """A stream that takes what a terminal takes, and no text that cannot be encoded."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)


def _exit_code() -> int:
    """Run the program on `sys.argv`; as Python does, 1 and a traceback for an error that nobody caught."""
    from pneumosearch.cli import main

    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    except Exception:  # noqa: BLE001  any may come, and is shown
        traceback.print_exc()
        return 1
    return 0
