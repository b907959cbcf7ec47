"""A Go build lands in the cache complete or not at all, once; what is missing is named."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness.cluster import wait_for
from harness.toolchain import GoModule, apt_install, built, kubernetes_tools, unavailable

GOOD = 'package main\n\nfunc main() { println("hello") }\n'

# A shell lets what it starts in the background ignore SIGINT, and that is inherited: not so here.
BUILD = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from harness.toolchain import GoModule, built
print(built(GoModule(Path(sys.argv[1]), json.loads(sys.argv[2]))))
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GoModule:
    """A module of one command, with a cache of its own."""
    if shutil.which("go") is None:
        unavailable("Go, to build anything")
    monkeypatch.setenv("POSTWARDEN_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "source"
    source.mkdir()
    (source / "go.mod").write_text("module hello.test\n\ngo 1.21\n")
    (source / "go.sum").write_text("")
    (source / "main.go").write_text(GOOD)
    return GoModule(source, {"hello": "."})


def test_build_is_made_once(module: GoModule, capfd: pytest.CaptureFixture[str]) -> None:
    first = built(module)
    assert subprocess.run([first / "hello"], capture_output=True, text=True, check=True).stderr == "hello\n"
    assert "building hello" in capfd.readouterr().err
    assert built(module) == first
    assert capfd.readouterr().err == ""


def test_changed_dependencies_or_flags_are_another_build(module: GoModule) -> None:
    first = module.key()
    assert GoModule(module.directory, module.commands, "-s").key() != first
    (module.directory / "go.sum").write_text("\n")
    assert module.key() != first


def test_two_processes_that_race_build_once(module: GoModule, tmp_path: Path) -> None:
    racers = [_start_build(module) for _ in range(2)]
    outputs = [racer.communicate(timeout=120) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0]
    assert outputs[0][0] == outputs[1][0]
    assert sum("building hello" in said for _, said in outputs) == 1


def test_failed_build_shows_the_compilers_words_and_leaves_nothing(module: GoModule, tmp_path: Path) -> None:
    (module.directory / "main.go").write_text("package main\n\nfunc main() { nonsense() }\n")
    with pytest.raises(pytest.fail.Exception, match="undefined: nonsense"):
        built(module)
    assert _folders_in_cache(tmp_path) == []


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_build_ends_and_the_next_one_starts_afresh(
    module: GoModule, tmp_path: Path, blow: signal.Signals
) -> None:
    # Its second command takes the compiler longer than the blow takes to fall.
    slow = module.directory / "slow"
    slow.mkdir()
    variables = "\n".join(
        f"var v{n} = func() map[int]int {{ return map[int]int{{{n}: {n}}} }}()" for n in range(20000)
    )
    (slow / "main.go").write_text(f"{GOOD}\n{variables}\n")
    module = GoModule(module.directory, {"hello": ".", "slow": "./slow"})
    result = tmp_path / "cache" / "tools" / module.key()
    build = _start_build(module)
    compiler = wait_for(lambda: _children_with("./slow", build.pid), 60, "the build of the second command")
    build.send_signal(blow)
    build.communicate(timeout=20)
    assert build.returncode != 0
    assert not result.exists()
    # A killed process can't tidy up; the next build does it.
    assert result.with_suffix(".partial").exists() == (blow is signal.SIGKILL)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in compiler), 10, "the end of go")
    (slow / "main.go").write_text(GOOD)
    assert built(module) == result
    assert _folders_in_cache(tmp_path) == [result]


def test_kubebuilder_assets_are_used_and_must_be_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    for name in ("etcd", "kube-apiserver"):
        (tmp_path / name).touch(mode=0o755)
    with pytest.raises(pytest.fail.Exception, match="holds no executable kubectl"):
        kubernetes_tools()
    (tmp_path / "kubectl").touch(mode=0o755)
    assert kubernetes_tools().kubectl == tmp_path / "kubectl"


@pytest.mark.parametrize(
    ("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)], ids=["CI", "elsewhere"]
)
def test_missing_go_is_named(
    module: GoModule, monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(outcome, match=r"missing: Go 1\.21 or newer, to build hello"):
        built(module)


def test_installed_packages_need_no_apt(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    apt_install(["coreutils"])
    assert capfd.readouterr().err == ""


def _start_build(module: GoModule) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(module.directory), json.dumps(dict(module.commands))],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _children_with(argument: str, pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [
        int(child) for child in children if argument in Path(f"/proc/{child}/cmdline").read_text().split("\0")
    ]


def _folders_in_cache(tmp_path: Path) -> list[Path]:
    return [found for found in (tmp_path / "cache" / "tools").iterdir() if found.is_dir()]
