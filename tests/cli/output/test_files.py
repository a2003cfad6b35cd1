"""Names, collisions and failing disks."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cli.output import files as output
from cli.output import linking
from cli.output.files import Destination
from cli.params.file_names import check_file_name, numbered, slug
from cli.params.groups import OutputGroup
from pipeline.errors import OutputError

NAME = "a-red-circle-moves-right"


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def destination(folder, **params):
    return Destination(OutputGroup(output_path=folder, **params), "A red circle moves right")


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (
            "a red circle moves right on a white background",
            "a-red-circle-moves-right-on-a-white-background",
        ),
        ("  It's  Señor CAT, v2!! ", "its-senor-cat-v2"),
        ("一只猫", "video"),
        ("../../etc/passwd", "etc-passwd"),
        ("word " * 40, "-".join(["word"] * 12)),
        ("x" * 500, "x" * 60),
    ],
)
def test_slug(prompt, expected):
    assert slug(prompt) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("A curious raccoon.mp4", "A curious raccoon.mp4"),
        ("clip", "clip.mp4"),
        ("take 1.5", "take 1.5.mp4"),
        ("CLIP.MP4", "CLIP.MP4"),
        ("ü" * 125, "ü" * 125 + ".mp4"),
    ],
)
def test_good_file_names(name, expected):
    assert check_file_name(name) == expected


@pytest.mark.parametrize(
    "name", ["", "  ", ".", "..", ".mp4", "a/b", "a\\b", "a\nb", "a\0b", "clip.avi", "ü" * 126]
)
def test_bad_file_names(name):
    with pytest.raises(ValueError, match=r"should|too long"):
        check_file_name(name)


def test_numbered_names_fit():
    assert numbered("a", 1) == "a"
    assert numbered("a", 12) == "a-12"
    assert len(f"{numbered('ü' * 125, 10)}.mp4".encode()) <= 255


def test_derived_names_count_up(call, out):
    for _ in range(3):
        assert call("-q").code == 0
    assert names(out) == [f"{NAME}-2.mp4", f"{NAME}-3.mp4", f"{NAME}.mp4"]


def test_frames_and_video_share_a_stem(call, out):
    out.mkdir()
    (out / f"{NAME}.npy").touch()
    call("-q", "--return-frames")
    assert names(out) == [f"{NAME}-2.mp4", f"{NAME}-2.npy", f"{NAME}.npy"]


def test_existing_explicit_name_is_refused_early(call, out, backend):
    assert call("--output-file-name", "clip").code == 0
    backend.log.clear()
    done = call("-q", "--output-file-name", "clip.mp4")
    assert done.code == 5
    assert "exists" in done.errors[0]
    assert backend.log == []


def test_a_dangling_link_counts_as_existing(call, out):
    out.mkdir()
    (out / "clip.mp4").symlink_to(out / "nowhere")
    assert call("-q", "--output-file-name", "clip").code == 5


def test_overwrite(call, out):
    out.mkdir()
    (out / "clip.mp4").write_text("old")
    assert call("-q", "--output-file-name", "clip", "--overwrite").code == 0
    assert (out / "clip.mp4").read_bytes()[4:8] == b"ftyp"
    assert names(out) == ["clip.mp4"]


def test_a_folder_is_not_overwritten(call, out):
    (out / "clip.mp4").mkdir(parents=True)
    assert call("-q", "--output-file-name", "clip", "--overwrite").code == 5


def test_the_longest_name_can_be_written(call, out):
    name = "ü" * 125 + ".mp4"
    assert call("-q", "--output-file-name", name).code == 0
    assert names(out) == [name]


def test_name_taken_meanwhile_gets_the_next_free_name(call, out, backend):
    backend.failure = lambda: (out / "clip.mp4").write_text("theirs")
    done = call("-q", "--output-file-name", "clip")
    assert (done.code, done.out) == (0, f"{out / 'clip-2.mp4'}\n")
    assert (out / "clip.mp4").read_text() == "theirs"


def test_an_output_path_that_is_a_file(call, out):
    out.write_text("")
    assert call("-q").errors == [f"{out} is not a folder"]


def test_an_output_path_below_a_file(call, tmp_path):
    (tmp_path / "file").touch()
    done = call("-q", "--output-path", tmp_path / "file" / "x")
    assert (done.code, len(done.errors)) == (5, 1)


def test_folder_that_cannot_be_created(call):
    done = call("-q", "--output-path", "/proc/nowhere")
    assert done.code == 5
    assert "cannot be created" in done.errors[0]


def test_folders_of_a_failed_run_are_removed(tmp_path):
    with destination(tmp_path / "a" / "b"):
        assert names(tmp_path / "a") == ["b"]
    assert names(tmp_path) == []


def test_too_little_space_names_free_and_needed_bytes(call, monkeypatch, out):
    monkeypatch.setattr(output.shutil, "disk_usage", lambda path: Usage)
    done = call("-q", "--return-frames")
    assert done.code == 5
    assert done.errors == [f"{out} has 1.0 kB free, and the output may take 379.0 kB"]


class Usage:
    free = 1000


def test_a_disk_that_fills_up_while_writing_leaves_nothing(call, monkeypatch, out, backend):
    def refuse(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(output.os, "fsync", refuse)
    done = call("-q")
    assert (done.code, done.errors) == (5, [f"cannot write to {out}: No space left on device"])
    assert not out.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_write_leaves_nothing(tmp_path, error):
    def fail(file):
        file.write(b"half")
        raise error

    with destination(tmp_path, return_frames=True) as place, pytest.raises(error):
        place.write(b"video", fail)
    assert names(tmp_path) == []


def test_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(linking.os, "link", refuse)
    for _ in range(2):
        with destination(tmp_path) as place:
            place.write(b"video", None)
    assert names(tmp_path) == [f"{NAME}-2.mp4", f"{NAME}.mp4"]
    assert (tmp_path / f"{NAME}-2.mp4").read_bytes() == b"video"


@pytest.mark.parametrize("file_name", [None, "clip.mp4"])
def test_racing_writers_never_share_a_name(tmp_path, file_name):
    places = [destination(tmp_path, output_file_name=file_name).__enter__() for _ in range(8)]
    barrier = threading.Barrier(len(places))

    def write(index):
        barrier.wait()
        places[index].write(str(index).encode(), None)

    threads = [threading.Thread(target=write, args=[index]) for index in range(len(places))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.read_text() for path in tmp_path.iterdir()) == [
        str(index) for index in range(len(places))
    ]


PROGRAM = """
import sys
from pathlib import Path
from cli.output.files import Destination
from cli.params.groups import OutputGroup
with Destination(OutputGroup(output_path=Path(sys.argv[1])), "same prompt") as place:
    sys.stdin.readline()
    print(place.write(sys.argv[2].encode(), None)[0])
"""


def test_racing_processes_never_share_a_name(tmp_path):
    root = Path(output.__file__).parent.parent
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    racers = [
        subprocess.Popen(
            [*command, name], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("one", "two")
    ]
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    paths = {Path(racer.communicate(timeout=30)[0].strip()).name for racer in racers}
    assert paths == {"same-prompt.mp4", "same-prompt-2.mp4"} == set(names(tmp_path))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_reported_for_frames(tmp_path):
    def fill(file):
        with Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"x")

    with (
        destination(tmp_path, return_frames=True) as place,
        pytest.raises(OutputError, match="No space left"),
    ):
        place.write(b"video", fill)
    assert names(tmp_path) == []
