"""Published files are taken only whole and verified, and their absence is explained."""

import hashlib

import pytest

from jax_rcl.data.archives import Archive, data_folder, fetch

CONTENT = b"what the authors published"


def archive_of(content: bytes, url: str) -> Archive:
    return Archive("set.bin", url, hashlib.sha256(content).hexdigest(), len(content))


def test_a_file_in_the_folder_is_verified_and_used(tmp_path):
    (tmp_path / "set.bin").write_bytes(CONTENT)
    path = fetch(archive_of(CONTENT, "http://nowhere.invalid/set.bin"), tmp_path)
    assert path == tmp_path / "set.bin"


@pytest.mark.parametrize("content", [CONTENT[:-3], b"something else entirely, longer"])
def test_a_damaged_file_is_named_with_both_checksums(tmp_path, content):
    (tmp_path / "set.bin").write_bytes(content)
    archive = archive_of(CONTENT, "http://nowhere.invalid/set.bin")
    with pytest.raises(ValueError, match="delete it, or replace it") as caught:
        fetch(archive, tmp_path)
    message = str(caught.value)
    assert str(tmp_path / "set.bin") in message
    assert archive.sha256 in message and hashlib.sha256(content).hexdigest() in message
    assert f"{len(content)} of {len(CONTENT)} bytes" in message


def test_a_missing_file_is_downloaded_once_and_nothing_else_is_left(tmp_path):
    origin = tmp_path / "origin.bin"
    origin.write_bytes(CONTENT)
    archive, folder = archive_of(CONTENT, origin.as_uri()), tmp_path / "new" / "folder"
    assert fetch(archive, folder).read_bytes() == CONTENT
    assert [path.name for path in folder.iterdir()] == ["set.bin"]
    origin.unlink()
    assert fetch(archive, folder).read_bytes() == CONTENT


def test_a_download_with_another_checksum_is_refused_and_removed(tmp_path):
    origin, folder = tmp_path / "origin.bin", tmp_path / "folder"
    origin.write_bytes(b"please log in to this network")
    archive = archive_of(CONTENT, origin.as_uri())
    with pytest.raises(ValueError, match=r"origin\.bin did not give .* set\.bin"):
        fetch(archive, folder)
    assert list(folder.iterdir()) == []


def test_without_a_network_the_error_says_what_to_put_where(tmp_path):
    archive = archive_of(CONTENT, (tmp_path / "gone.bin").as_uri())
    folder = tmp_path / "folder"
    with pytest.raises(FileNotFoundError) as caught:
        fetch(archive, folder)
    for part in (archive.name, archive.url, archive.sha256, str(folder)):
        assert part in str(caught.value)
    assert list(folder.iterdir()) == []


def test_the_data_folder_is_the_argument_then_the_environment_then_the_cache(
    monkeypatch,
):
    monkeypatch.setenv("JAX_RCL_DATA", "/data/sets")
    assert str(data_folder("/mine")) == "/mine"
    assert str(data_folder()) == "/data/sets"
    monkeypatch.delenv("JAX_RCL_DATA")
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(data_folder()) == "/home/someone/.cache/jax_rcl"
