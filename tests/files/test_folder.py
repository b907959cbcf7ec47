"""What is in the files of `-f`, read again and again."""

from pathlib import Path

import pytest
from postwarden_operator.files import folder
from postwarden_operator.files.documents import Document, read_documents
from postwarden_operator.files.folder import Folder, Unreadable

POLICY = "apiVersion: postwarden.dev/v1alpha1\nkind: ScreeningPolicy\nmetadata: {name: wall}\nspec: {selector: {}}\n"


def config_map(name: str, networks: str) -> str:
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata:\n  networks: {networks}\n"


def secret(value: str) -> str:
    return f"apiVersion: v1\nkind: Secret\nmetadata: {{name: key}}\nstringData: {{key: {value}}}\n"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "one.yaml").write_text(config_map("one", "192.0.2.1"))
    (tmp_path / "two.yaml").write_text(config_map("two", "192.0.2.2"))
    return tmp_path


def test_of_several_files_only_what_changed_is_parsed_again(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []

    def noted(path: Path, text: str) -> tuple[list[Document], list[str]]:
        parsed.append(path.name)
        return read_documents(path, text)

    monkeypatch.setattr(folder, "read_documents", noted)
    followed = Folder([files], b"salt")
    first = followed.read()
    assert parsed == ["one.yaml", "policy.yaml", "two.yaml"]
    (files / "two.yaml").write_text(config_map("two", "192.0.2.3"))
    second = followed.read()
    assert parsed[3:] == ["two.yaml"]
    assert second.config_maps["default", "two"] == {"networks": b"192.0.2.3"}
    assert second.config_maps["default", "one"] is first.config_maps["default", "one"]
    assert second.policies == first.policies


def test_what_is_read_again_is_what_is_read_anew(files: Path) -> None:
    followed = Folder([files], b"salt")
    followed.read()
    (files / "one.yaml").unlink()
    (files / "three.yaml").write_text(config_map("one", "192.0.2.4") + "---\n" + secret("x"))
    again, anew = followed.read(), Folder([files], b"salt").read()
    assert (again.config_maps, again.secrets) == (anew.config_maps, anew.secrets)
    assert [document.body for document in again.policies] == [document.body for document in anew.policies]


def test_errors_are_told_each_time_and_are_gone_when_they_are_mended(files: Path) -> None:
    followed = Folder([files], b"salt")
    followed.read()
    (files / "one.yaml").write_text(config_map("two", "192.0.2.1"))
    for _ in range(2):
        with pytest.raises(Unreadable, match=r"two\.yaml: ConfigMap default/two: is in .*one\.yaml too"):
            followed.read()
    (files / "one.yaml").write_text("kind: [")
    for _ in range(2):
        with pytest.raises(Unreadable, match=r"one\.yaml:1: is not YAML"):
            followed.read()
    (files / "one.yaml").write_text(config_map("one", "192.0.2.1"))
    assert followed.read().config_maps["default", "one"] == {"networks": b"192.0.2.1"}
