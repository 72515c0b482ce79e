"""The templates of pages and model cards, ready to be filled."""

from base64 import b64encode
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from pneumosearch.errors import printable


def template(name: str) -> Template:
    """Load a template of `_utils/templates`; a value that it wants and is not given raises.

    Args:
        name: Of its file. What fills an HTML page is escaped; Markdown is left as it is.
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
    """Replace characters that a reader's program would act on or cannot have; new lines stay."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\n".join(printable(line) for line in value.expandtabs().split("\n"))


def data_uri(content: bytes, mimetype: str = "image/png") -> str:
    """Return a picture as an address that holds it, for pages that need no other file."""
    return f"data:{mimetype};base64,{b64encode(content).decode()}"
