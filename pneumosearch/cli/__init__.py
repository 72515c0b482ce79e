"""The command line: parses, calls the library, and turns errors into one line and an exit code."""

from pneumosearch.cli.app import main

__all__ = ["main"]
