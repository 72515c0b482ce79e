"""Machines of our own on this one: network namespaces at a switch, each of which can be unplugged."""

import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

NETWORK = "198.18.0"  # of RFC 2544, for tests: routed nowhere


class NoHosts(Exception):
    """Network namespaces cannot be made here."""


@contextmanager
def network() -> Iterator["Hosts"]:
    """Make a switch without machines; all is removed at the end. Raises `NoHosts` where that cannot be."""
    if sys.platform != "linux" or not all(map(shutil.which, ("ip", "unshare", "nsenter"))):
        raise NoHosts("no network namespaces: wants Linux, ip and unshare")
    with ExitStack() as stack:
        try:
            hosts = Hosts(stack)
        except subprocess.CalledProcessError as error:
            raise NoHosts(f"no network namespaces: wants root ({error.stderr.decode().strip()})") from error
        yield hosts


class Hosts:
    """A switch and machines at it: each has a network, a name and process numbers of its own.

    Args:
        stack: Takes note of what is to be removed.
    """

    def __init__(self, stack: ExitStack) -> None:
        self.stack, self.mark = stack, secrets.token_hex(2)
        self.switch = self._namespace("switch")
        self._inside(self.switch, "ip", "link", "add", "switch", "type", "bridge")
        self._inside(self.switch, "ip", "link", "set", "switch", "up")

    def add(self, number: int) -> str:
        """Plug in a machine, whose address ends with its number; return the name of its network namespace."""
        name, plug = self._namespace(f"host{number}"), f"plug{number}"
        _run("ip", "link", "add", plug, "netns", self.switch, "type", "veth", "peer", "name", "eth0", "netns", name)
        self._inside(self.switch, "ip", "link", "set", plug, "master", "switch", "up")
        self._inside(name, "ip", "address", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            self._inside(name, "ip", "link", "set", device, "up")
        return name

    def plugged(self, number: int, *, is_in: bool) -> None:
        """Pull the plug of a machine, or put it back."""
        self._inside(self.switch, "ip", "link", "set", f"plug{number}", "up" if is_in else "down")

    def start(
        self, host: str, folder: Path, *arguments: str, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start a command of ours on a machine, in a folder that is made; its children die with it."""
        inside = f'hostname {host} && exec {sys.executable} -m pneumosearch "$@"'
        command = ["ip", "netns", "exec", host, "unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        folder.mkdir(exist_ok=True)
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [*command, "sh", "-c", inside, "sh", *arguments], cwd=folder, stdout=log, stderr=log, env=environment
            )
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process

    def _namespace(self, name: str) -> str:
        name = f"{name}-{self.mark}"
        _run("ip", "netns", "add", name)
        self.stack.callback(_run, "ip", "netns", "delete", name)
        return name

    def _inside(self, namespace: str, *command: str) -> None:
        _run("ip", "netns", "exec", namespace, *command)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
