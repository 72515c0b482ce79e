"""The templates of pages and model cards, ready to be filled."""

from base64 import b64encode
from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


def template(name: str, *, finalize: Callable[[Any], Any] | None = None) -> Template:
    """Load a template of `report/templates`; a value that it wants and is not given raises.

    Args:
        name: Of its file. What fills an HTML page is escaped; Markdown is left as it is.
        finalize: Applied to each value before it is written, where given.
    """
    environment = Environment(
        loader=PackageLoader("pneumosearch.report"),
        autoescape=name.endswith(".html"),
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)


def data_uri(content: bytes, mimetype: str = "image/png") -> str:
    """Return a picture as an address that holds it, for pages that need no other file."""
    return f"data:{mimetype};base64,{b64encode(content).decode()}"
