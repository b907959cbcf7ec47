"""Mail servers in a real cluster that are deployed as the documentation says: by its own command lines, from the files of examples/.

Contract: as MailService, in a namespace of its own instead of `mail`. The files are copied with the tests' images and mailbox in place of
what a reader puts there; `show` runs a command line of the documentation on the copies, with kubectl on its PATH.
"""

import hashlib
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from example_files import objects

from harness.cluster_client import ClusterClient
from harness.documented import console_blocks
from harness.images import Image, binary_image, debian_image
from harness.mail_cluster import CLIENT_IMAGE, POSTFIX_IMAGE, MailService
from harness.polling import poll

EXIM_IMAGE = "localhost/postwarden-exim:test"
OPENSMTPD_IMAGE = "localhost/postwarden-opensmtpd:test"
BUSYBOX_IMAGE = "localhost/busybox:test"

IMAGES = {
    "example.com/postfix:3": POSTFIX_IMAGE,
    "example.com/exim:4": EXIM_IMAGE,
    "example.com/opensmtpd:7": OPENSMTPD_IMAGE,
    "postwarden/sidecar:0.1.0": CLIENT_IMAGE,
    "docker.io/library/busybox": BUSYBOX_IMAGE,
}
"""In place of those that the documentation names."""

TALK_TIMEOUT = 20.0
"""Seconds for the end of the greeting, which comes after 6 s, or for an answer."""


def exim_image(root: Path) -> Image:
    """Debian's Exim; examples/exim configures it. root: make_exim_root's."""
    return debian_image("postwarden-exim", root, {}, ["exim4"])


def opensmtpd_image(root: Path) -> Image:
    """Debian's OpenSMTPD; examples/opensmtpd configures it. root: make_opensmtpd_root's."""
    return debian_image("postwarden-opensmtpd", root, {}, ["smtpd"])


def busybox_image(package: Path) -> Image:
    """For the clients of the explanations. package: Debian's busybox-static, unpacked."""
    program = package / "bin/busybox"
    return binary_image("busybox", program, key=hashlib.sha256(program.read_bytes()).hexdigest())


class DocumentedService(MailService):
    """manifest: of examples/. readme: a page whose first console block deploys it. others: further files of examples/ that it names.
    patch: of the mail server's container. injected: whether the namespace lets sidecars in."""

    def __init__(
        self,
        cluster: ClusterClient,
        manifest: str,
        readme: Path,
        *,
        others: Sequence[str] = (),
        patch: Mapping[str, Any] | None = None,
        injected: bool = True,
    ) -> None:
        (deployment,) = [each for each in objects(manifest) if each["kind"] == "Deployment"]
        self.name = deployment["metadata"]["name"]
        super().__init__(
            cluster, f"example-{self.name}", replicas=deployment["spec"]["replicas"], labelled=injected
        )
        (service,) = [each for each in objects(manifest) if each["kind"] == "Service"]
        self.service = service["metadata"]["name"]
        self.blocks = console_blocks(readme)
        self._files = (manifest, *others)
        self._patch = dict(patch or {})

    def __enter__(self) -> Self:
        """It is applied, and rolled out."""
        self._folder = tempfile.TemporaryDirectory(prefix="examples-")
        for name in self._files:
            copy = Path(self._folder.name, "examples", name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text("\n---\n".join(json.dumps(self._ours(each)) for each in objects(name)))
        self.kubectl("create", "namespace", self.namespace)
        if self._labelled:
            self.kubectl("label", "namespace", self.namespace, "postwarden.dev/injection=enabled")
        try:
            for line in self.blocks[0]:
                if line.startswith("kubectl "):  # the rest is for other machines
                    self.show(line)
            self.wait_until_rolled_out()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()
        super().__exit__(kind, error, trace)

    def show(self, line: str) -> str:
        """What a command line of the documentation prints. Raises KubectlError."""
        return self.cluster.shell(self._here(line), Path(self._folder.name))

    @contextmanager
    def talk(self, line: str) -> Iterator["Talk"]:
        """A command line whose client speaks SMTP, as somebody who types."""
        heard = Path(self._folder.name, "heard")
        with (
            heard.open("wb") as output,
            subprocess.Popen(
                ["sh", "-c", f"exec {self._here(line)}"],
                cwd=self._folder.name,
                env=self.cluster.shell_environment(),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                text=True,
            ) as process,
        ):
            try:
                yield Talk(process, heard)
            finally:
                process.kill()

    def _here(self, line: str) -> str:
        for named, own in IMAGES.items():
            line = line.replace(f"--image={named}", f"--image={own}")
        return re.sub(r"(?<= -n )mail\b", self.namespace, line)

    def _ours(self, written: Mapping[str, Any]) -> dict[str, Any]:
        ours = dict(written)
        if written["kind"] != "Deployment":
            return ours
        spec = ours["spec"]["template"]["spec"]
        for container in (*spec["containers"], *spec.get("initContainers", ())):
            container |= {"image": IMAGES[container["image"]], "imagePullPolicy": "IfNotPresent"}
        (server,) = spec["containers"]
        server |= self._patch
        # A folder of the node in place of an emptyDir: what arrives is counted.
        spec["volumes"] = [each for each in spec.get("volumes", ()) if each["name"] != "mail"]
        spec["volumes"].append(self._mail_volume())
        named = {each["name"] for each in spec["volumes"]}
        spec["volumes"] += [
            {"name": each["name"], "emptyDir": {}}
            for each in server.get("volumeMounts", ())
            if each["name"] not in named
        ]
        return ours


class Talk:
    """What somebody types, and hears."""

    def __init__(self, process: subprocess.Popen[str], heard: Path) -> None:
        self._process = process
        self._heard = heard
        self._end = 0

    def hears(self, pattern: str, within: float = TALK_TIMEOUT) -> None:
        """Behind what it heard before. Raises TimeoutError with what was heard instead."""

        def found() -> bool:
            text = self._heard.read_text(errors="replace")
            match = re.compile(pattern, re.MULTILINE).search(text, self._end)
            self._end = match.end() if match else self._end
            return match is not None

        poll(found, within, lambda: f"no {pattern!r} at the end of {self._heard.read_text()!r}")

    def type(self, line: str, answer: str) -> None:
        """A line, and what the answer begins with. Raises TimeoutError."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\r\n")
        self._process.stdin.flush()
        self.hears(f"^{answer}")
