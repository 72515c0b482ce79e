"""Hostile inputs, drawn: study files, image files and folders, stored trials and command lines. One seed, one input."""

import io
import json
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

STUDIES: Final = Path(__file__).parents[2] / "studies"
NASTY: Final = (
    *("", " ", "\0", "\x1b[2J\x1b[31m", "\r\n", "=1+1", "@SUM(A1)", "-2+3", "../../etc/passwd", "a/b", "~", "."),
    *("<script>alert(1)</script>", "'; DROP TABLE trials; --", "{{ 7*7 }}", "[bold]x[/bold]", "[/]", "%s%n", "\u202e"),
    *("é" * 200, "x" * 5000, "\N{PILE OF POO}", "nan", "1e400", "NaN", "None", "true", "0x10", "١٢"),
)
NUMBERS: Final = (0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e308, 5e-324, float("inf"), float("nan"))


def text(draw: random.Random) -> str:
    """Return text that a careless program trips over."""
    if draw.random() < 0.6:
        return draw.choice(NASTY)
    return "".join(chr(draw.choice((draw.randrange(32), draw.randrange(127, 160), draw.randrange(32, 127),
                                    draw.randrange(0x2000, 0x2100)))) for _ in range(draw.randrange(40)))  # fmt: skip


def value(draw: random.Random, depth: int = 3) -> Any:
    """Return a value as JSON has it, of any shape."""
    kind = draw.randrange(7 if depth else 4)
    if kind == 0:
        return text(draw)
    if kind == 1:
        return draw.choice(NUMBERS)
    if kind in (2, 3):
        return draw.choice((None, True, False, 3, 0.25))
    if kind == 4:
        return [value(draw, depth - 1) for _ in range(draw.randrange(4))]
    return {text(draw): value(draw, depth - 1) for _ in range(draw.randrange(4))}


def damaged(draw: random.Random, content: bytes) -> bytes:
    """Return the content cut, doubled, or with bytes changed, put in or taken out."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 5, 50))):
        at = draw.randrange(len(data) + 1)
        how = draw.randrange(5)
        if how == 0 and at < len(data):
            data[at] = draw.randrange(256)
        elif how == 1:
            data[at:at] = draw.randbytes(draw.randrange(1, 9))
        elif how == 2:
            del data[at : at + draw.randrange(1, 30)]
        elif how == 3:
            data[at:at] = data[at : at + 200]
        elif draw.random() < 0.2:
            del data[at:]
    return bytes(data)


def study_file(draw: random.Random) -> bytes:
    """Return the bytes of a study file: a real one with damage, lines of others, odd values, or nothing of the kind."""
    lines = draw.choice(sorted(STUDIES.glob("*.toml"))).read_text(encoding="utf-8").splitlines()
    for _ in range(draw.randrange(4)):
        at = draw.randrange(len(lines))
        key = lines[at].partition("=")[0] if "=" in lines[at] else text(draw)
        odd = draw.choice(
            (json.dumps(text(draw)), str(draw.choice(NUMBERS)), json.dumps(value(draw)), "inf", "[" * 500)
        )
        lines[at] = draw.choice(
            (f"{key} = {odd}", f"[{text(draw)}]", lines[at] * 2, f"{key} = {{ low = {odd}, high = 1 }}")
        )
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    return damaged(draw, content) if draw.random() < 0.4 else content


def _picture(draw: random.Random) -> Image.Image:
    width, height = (draw.choice((1, 2, 31, 64, 300)) for _ in range(2))
    mode = draw.choice(("L", "RGB", "RGBA", "CMYK", "P", "1", "LA", "I;16", "I", "F", "YCbCr", "HSV"))
    if mode == "I;16":
        pixels = np.random.default_rng(draw.randrange(99)).integers(0, 65536, (height, width), dtype=np.uint16)
        return Image.fromarray(pixels)
    return Image.effect_noise((width, height), 80).convert(mode)


def image_file(draw: random.Random) -> bytes:
    """Return the bytes of an image file of any kind and size, whole or damaged, or of none at all."""
    if draw.random() < 0.15:
        return draw.choice(
            (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", draw.randbytes(500), b"<svg></svg>", huge(draw))
        )
    out, picture = io.BytesIO(), _picture(draw)
    form = draw.choice(("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM"))
    options: dict[str, Any] = {}
    if draw.random() < 0.3:
        exif = Image.Exif()
        exif[0x0112] = draw.choice((1, 3, 6, 8, 99))
        options["exif"] = exif
    if form in ("GIF", "WEBP", "PNG") and draw.random() < 0.3:
        options |= {"save_all": True, "append_images": [picture.copy() for _ in range(3)]}
    try:
        picture.save(out, form, **options)
    except (OSError, ValueError, TypeError, KeyError):  # a kind of pixel that the format has not
        out = io.BytesIO()
        picture.convert("RGB").save(out, "PNG")
    return damaged(draw, out.getvalue()) if draw.random() < 0.6 else out.getvalue()


def huge(draw: random.Random) -> bytes:
    """Return a small PNG file whose header promises a huge image."""
    width, height = draw.choice(((60_000, 60_000), (2**31 - 1, 1), (9_400, 9_400), (1, 2**31 - 1), (0, 5)))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * min(10_000_000, (width + 1) * height))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(*part) for part in ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def image_folder(draw: random.Random, folder: Path) -> None:
    """Fill a data folder with image files of odd content and name, and with things that are no files at all."""
    for split in ("train", "val", "test"):
        for kind in ("NORMAL", "PNEUMONIA"):
            place = folder / split / kind
            place.mkdir(parents=True)
            for number in range(draw.randrange(1, 4)):
                (place / f"person{number}_virus_{draw.randrange(9)}.jpeg").write_bytes(image_file(draw))
            name = os.fsencode(text(draw).replace("/", "_").replace("\0", "_"))[:200] + draw.choice((b"", b"\xff\xfe"))
            odd = os.path.join(os.fsencode(place), name + b".png")
            draw.choice(_ODD_THINGS)(odd)


def _loop(path: bytes) -> None:
    os.symlink(path, path)


_ODD_THINGS: Final[tuple[Callable[[bytes], object], ...]] = (
    os.mkfifo,
    os.mkdir,
    _loop,
    lambda path: os.symlink(b"/dev/zero", path),
    lambda path: os.symlink(b"nowhere", path),
    lambda path: Path(os.fsdecode(path)).write_bytes(b"\x89PNG"),
)


def attributes(draw: random.Random, real: dict[str, Any]) -> dict[str, Any]:
    """Return a stored trial's attributes, damaged: values of other types, parts missing or added, at any depth."""
    changed: dict[str, Any] = json.loads(json.dumps(real))
    for _ in range(draw.choice((1, 1, 2, 4))):
        at: Any = changed
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = draw.choice(keys)
            if isinstance(at[key], (dict, list)) and at[key] and draw.random() < 0.7:
                at = at[key]
                continue
            if draw.random() < 0.3:
                del at[key]
            else:
                at[key] = value(draw)
            break
    if draw.random() < 0.2:
        changed[text(draw)] = value(draw)
    return changed


#: Commands that end at once, whatever they are given, as nothing that they name is there.
COMMANDS: Final = ("study", "report", "predict", "export", "confirm", "data", "baseline", "worker", "rerun", "")
_OPTIONS: Final = (
    *("--name", "--storage", "--results", "--data", "--seed", "--trials", "--format", "--output", "--html", "--top"),
    *("--seeds", "--timeout", "--grace", "--model", "--explain", "--json", "--sampler", "--pruner", "--artifacts"),
    *("--workers", "--executor", "--ray-address", "--threshold", "--debug", "--dry-run", "-h", "--version", "--epochs"),
    *("audit", "phantoms", "--images"),
)
_URLS: Final = (
    *("sqlite:///nowhere/x.db", "sqlite:////", "sqlite:///x?a=\0", "://", "redis://h", "file:///x"),
    *("postgresql://u:HUSH77@127.0.0.1:1/x", "mysql://u:HUSH77@127.0.0.1:1/x", "grpc://127.0.0.1:1"),
    "s3://HUSH77:HUSH77@b/x",
)


def command_line(draw: random.Random) -> list[str]:
    """Return the arguments of a command: its own options, others', and what was never one."""
    arguments = [draw.choice(COMMANDS)]
    for _ in range(draw.randrange(6)):
        arguments.append(
            draw.choice((draw.choice(_OPTIONS), text(draw), str(draw.choice(NUMBERS)), draw.choice(_URLS)))
        )
    arguments = [argument for argument in arguments if argument or draw.random() < 0.5]
    return [*arguments, *(("--data", "nowhere") if arguments and arguments[0] in ("study", "baseline") else ())]
