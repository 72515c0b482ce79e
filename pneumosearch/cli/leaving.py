"""What is put in order before the program ends, however it ends."""

from contextlib import ExitStack
from typing import Final

#: Closed by `main` before it prints an error.
leaving: Final = ExitStack()
