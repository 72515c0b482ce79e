"""The Jinja templates of pages and model cards; it is ours that no control character of a name reaches a page."""

from base64 import b64encode
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from pneumosearch.errors import printable


def template(name: str) -> Template:
    """Return a template of `_utils/templates`. Rendering it without a value that it uses is an error.

    Args:
        name: File name. Values are escaped in HTML templates and not in Markdown templates.
    """
    environment = Environment(
        loader=PackageLoader("pneumosearch._utils"),
        autoescape=name.endswith(".html"),
        undefined=StrictUndefined,
        finalize=_writable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)


def _writable(value: Any) -> Any:
    """Replace control characters and invalid characters; new lines stay."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\n".join(printable(line) for line in value.expandtabs().split("\n"))


def data_uri(content: bytes, mimetype: str = "image/png") -> str:
    """Return content as a data URI, for pages without other files."""
    return f"data:{mimetype};base64,{b64encode(content).decode()}"
