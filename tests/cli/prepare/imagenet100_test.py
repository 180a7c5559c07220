"""The command that makes ImageNet-100 and ImageNet-100-C: links, copies, refusals."""

import errno
import os

import pytest

from jax_rcl.cli.prepare import trees
from jax_rcl.cli.prepare.imagenet100 import main
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.published.imagenet import IMAGENET_100, IMAGENET_100B


def files(root):
    """Sizes and times of all files and links below a folder, by path."""
    found = {}
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = os.path.join(folder, name)
            found[os.path.relpath(path, root)] = (
                os.lstat(path).st_size,
                os.lstat(path).st_mtime_ns,
            )
    return found


@pytest.fixture
def imagenet(tmp_path):
    """Three training images and one for validation of each class of both lists."""
    root = tmp_path / "imagenet"
    for wnid in (*IMAGENET_100, *IMAGENET_100B):
        for part, count in (("train", 3), ("val", 1)):
            folder = root / part / wnid
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{wnid}_{i}.JPEG").write_bytes(bytes([i]) * (i + 5))
    return root


@pytest.fixture
def corrupted(tmp_path):
    """One image of each class, of two corruptions, one in a folder of its group."""
    root = tmp_path / "imagenet-c"
    for place in ("noise/shot_noise", "fog"):
        for severity in "12345":
            for wnid in IMAGENET_100:
                folder = root / place / severity / wnid
                folder.mkdir(parents=True)
                (folder / "1.JPEG").write_bytes(b"image")
    return root


def run(imagenet, out, *flags, source="imagenet"):
    return main([f"--{source}={imagenet}", f"--out={out}", *flags])


def test_class_folders_are_linked_relatively_and_read_as_a_source(
    imagenet, tmp_path, capsys
):
    assert run(imagenet, tmp_path / "deep" / "in100") == 0
    # Both trees together may be moved.
    (tmp_path / "moved").mkdir()
    for name in ("imagenet", "deep"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    out = tmp_path / "moved" / "deep" / "in100"
    link = out / "train" / IMAGENET_100[0]
    assert link.is_symlink() and not os.path.isabs(os.readlink(link))
    source = ImageFolder(str(out / "train"), 8)
    assert source.class_names == IMAGENET_100 and len(source) == 300
    assert len(ImageFolder(str(out / "val"), 8)) == 100
    output = capsys.readouterr().out
    assert "400 images of 100 classes" in output and "200 links made" in output


def test_numbers_that_are_not_the_published_ones_are_a_warning(
    imagenet, tmp_path, capsys
):
    assert run(imagenet, tmp_path / "out") == 0
    output = capsys.readouterr().out
    assert "train has 300 images of these classes, published are 126,689" in output
    assert "should be 50 images of each class" in output
    assert "val has another number in 100" in output


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_a_second_call_changes_nothing_and_says_so(imagenet, tmp_path, capsys, mode):
    out = tmp_path / "out"
    assert run(imagenet, out, f"--mode={mode}") == 0
    before = files(out)
    capsys.readouterr()
    assert run(imagenet, out, f"--mode={mode}") == 0
    assert files(out) == before and "nothing to do" in capsys.readouterr().out


def test_copies_are_equal_and_independent(imagenet, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(imagenet, out, "--mode=copy", "--classes=100B") == 0
    assert "400 files made" in capsys.readouterr().out
    copies = sorted(path.relative_to(out) for path in out.rglob("*.JPEG"))
    assert len(copies) == 400 and {p.parts[1] for p in copies} == set(IMAGENET_100B)
    for path in copies:
        assert (out / path).read_bytes() == (imagenet / path).read_bytes()
    assert not any(path.is_symlink() for path in out.rglob("*"))


def test_copying_continues_where_it_was_interrupted(
    imagenet, tmp_path, monkeypatch, capsys
):
    out, copyfile = tmp_path / "out", trees.shutil.copyfile

    def half(source, target):
        copyfile(source, target)
        if source.name.startswith(IMAGENET_100[50]):
            target.write_bytes(b"")
            raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(trees.shutil, "copyfile", half)
        assert run(imagenet, out, "--mode=copy") == 1
    assert "no space left" in capsys.readouterr().err
    kept = files(out)
    assert 0 < len(list(out.rglob("*.JPEG"))) < 400
    assert not list(out.rglob(f"{IMAGENET_100[50]}_*"))
    assert not list(out.rglob("*.partial"))
    assert run(imagenet, out, "--mode=copy") == 0
    after = files(out)
    for path, state in kept.items():
        if path.endswith(".JPEG"):
            assert after[path] == state
    assert len(list(out.rglob("*.JPEG"))) == 400


def test_missing_class_folders_are_named_up_to_five(imagenet, tmp_path, capsys):
    for wnid in IMAGENET_100[:7]:
        folder = imagenet / "val" / wnid
        (folder / f"{wnid}_0.JPEG").unlink()
        folder.rmdir()
    assert run(imagenet, tmp_path / "out") == 2
    output = capsys.readouterr().err
    assert f"imagenet/val lacks 7 of 100 class folders: {IMAGENET_100[0]}, " in output
    assert f"{IMAGENET_100[4]}, …" in output and IMAGENET_100[5] not in output
    assert not (tmp_path / "out").exists()


def test_a_class_folder_without_images_is_named(imagenet, tmp_path, capsys):
    wnid = IMAGENET_100[3]
    (imagenet / "val" / wnid / f"{wnid}_0.JPEG").unlink()
    assert run(imagenet, tmp_path / "out") == 2
    assert f"has no images of 1 of 100 classes: {wnid}" in capsys.readouterr().err


def test_validation_images_side_by_side_are_recognised(imagenet, tmp_path, capsys):
    (imagenet / "val").rename(tmp_path / "elsewhere")
    (imagenet / "val").mkdir()
    (imagenet / "val" / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"image")
    assert run(imagenet, tmp_path / "out") == 2
    assert "side by side, not in a folder for each class" in capsys.readouterr().err


def test_what_is_no_imagenet_folder_is_said(imagenet, tmp_path, capsys):
    assert run(imagenet / "train", tmp_path / "out") == 2
    assert "it has no folder train and no folder val." in capsys.readouterr().err
    official = tmp_path / "ILSVRC" / "Data" / "CLS-LOC"
    official.parent.mkdir(parents=True)
    imagenet.rename(official)
    assert run(tmp_path / "ILSVRC", tmp_path / "out") == 2
    assert f"Write --imagenet={official}." in capsys.readouterr().err


def test_the_source_stays_as_it_is(imagenet, capsys):
    before = files(imagenet)
    for out in (imagenet, imagenet / "train" / "new"):
        assert run(imagenet, out) == 2
        assert f"--out {out} lies inside {imagenet}" in capsys.readouterr().err
    assert files(imagenet) == before


def test_nothing_that_is_there_is_replaced(imagenet, tmp_path, capsys):
    out, wnid = tmp_path / "out", IMAGENET_100[0]
    folder = out / "train" / wnid
    (tmp_path / "other").mkdir()
    folder.parent.mkdir(parents=True)
    folder.symlink_to(tmp_path / "other")
    for mode in ("link", "copy"):
        assert run(imagenet, out, f"--mode={mode}") == 2
        output = capsys.readouterr().err
        assert f"{folder} is a link to {tmp_path / 'other'}" in output
    assert not list((tmp_path / "other").iterdir())
    folder.unlink()
    folder.mkdir()
    assert run(imagenet, out) == 2
    assert f"{folder} is not a link, where a link to" in capsys.readouterr().err
    (folder / f"{wnid}_0.JPEG").write_bytes(b"of another size")
    assert run(imagenet, out, "--mode=copy") == 2
    assert "15 bytes, expected 5" in capsys.readouterr().err
    assert len(list(out.rglob("*.JPEG"))) == 1


def test_two_lists_of_classes_do_not_mix(imagenet, tmp_path, capsys):
    assert run(imagenet, tmp_path / "out") == 0
    assert run(imagenet, tmp_path / "out", "--classes=100B") == 2
    output = capsys.readouterr().err
    assert f"100 folder(s) of other classes, such as {IMAGENET_100[0]}" in output


def test_imagenet_c_is_brought_into_its_groups(corrupted, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(corrupted, out, source="corrupted") == 0
    assert sorted(path.name for path in out.iterdir()) == ["noise", "weather"]
    for place in ("noise/shot_noise/5", "weather/fog/1"):
        source = ImageFolder(str(out / place), 8)
        assert source.class_names == IMAGENET_100 and len(source) == 100
    output = capsys.readouterr().out
    assert (
        "lacks 13 of 15 standard corruptions: gaussian_noise, impulse_noise" in output
    )
    assert "1,000 images of 100 classes in 10 part(s)" in output
    assert run(corrupted, out, source="corrupted") == 0
    assert "nothing to do" in capsys.readouterr().out


def test_imagenet_c_has_all_severities_or_is_refused(corrupted, tmp_path, capsys):
    (corrupted / "fog" / "3").rename(tmp_path / "3")
    assert run(corrupted, tmp_path / "out", source="corrupted") == 2
    assert "lacks 1 of 10 severities: weather/fog/3" in capsys.readouterr().err
    assert run(tmp_path / "3", tmp_path / "out", source="corrupted") == 2
    assert "is not a folder of ImageNet-C" in capsys.readouterr().err


def test_there_is_one_source(imagenet, tmp_path, capsys):
    for flags in ([], [f"--imagenet={imagenet}", f"--corrupted={imagenet}"]):
        assert main([*flags, f"--out={tmp_path}"]) == 2
        assert "--imagenet" in capsys.readouterr().err
