"""df and the mounts."""

from __future__ import annotations

import pytest

from evc.errors import ParseError
from evc.probes import storage
from evc.probes.answer import Answer, Output

HEAD = "Type 1K-blocks Used Avail Inodes IFree Mounted on\n"
POSIX = "Filesystem 1024-blocks Used Available Capacity Mounted on\n"


def rows(df: str, mounts: str) -> list[dict[str, object]]:
    answer = Answer({"/proc/self/mounts": mounts}, {"storage": Output(df, 0)})
    sample = storage.read(answer, None)
    assert sample
    return [dict(row) for row in sample.details["storage_samples"]]


def test_one_row_per_device_at_its_shortest_mountpoint() -> None:
    mounts = "/dev/sda1 /home/data/models ext4 rw 0 0\n/dev/sda1 /data ext4 rw 0 0\n"
    line = "ext4 100 50 40 10 5 "
    assert [row["mountpoint"] for row in rows(f"{HEAD}{line}/home/data/models\n{line}/data", mounts)] == ["/data"]


def test_the_last_of_several_mounts_in_one_place_is_the_one_seen() -> None:
    (row,) = rows(HEAD + "ext4 100 50 40 10 5 /", "rootfs / rootfs rw 0 0\n/dev/root / ext4 ro,relatime 0 0")
    assert (row["device"], row["filesystem"], row["read_only"]) == ("/dev/root", "ext4", True)


@pytest.mark.parametrize("filesystem", ["overlay", "squashfs", "tmpfs", "devtmpfs", "nfs4", "cifs"])
def test_file_systems_that_are_no_disk_of_this_node(filesystem: str) -> None:
    assert rows(f"{POSIX}x 100 50 50 50% /mnt", f"x /mnt {filesystem} rw 0 0") == []


@pytest.mark.parametrize("mountpoint", ["/var/lib/docker", "/var/lib/docker/overlay2/x/merged"])
def test_what_the_engine_mounts_does_not_count(mountpoint: str) -> None:
    assert rows(f"{HEAD}ext4 100 50 50 10 5 {mountpoint}", f"/dev/sda1 {mountpoint} ext4 rw 0 0") == []


def test_a_folder_that_only_begins_like_the_engines_counts() -> None:
    assert (
        len(rows(f"{HEAD}ext4 100 50 50 10 5 /var/lib/docker-data", "/dev/sda1 /var/lib/docker-data ext4 rw 0 0")) == 1
    )


def test_names_with_spaces_and_backslashes() -> None:
    mounts = r"/dev/my\040disk /media/a\040b\134c ext4 rw 0 0"
    (row,) = rows(POSIX + "/dev/my disk 100 50 50 50% /media/a b\\c", mounts)
    assert (row["device"], row["mountpoint"]) == ("/dev/my disk", "/media/a b\\c")


def test_less_than_nothing_available_is_nothing() -> None:
    (row,) = rows(POSIX + "/dev/sda1 100 99 -4 100% /", "/dev/sda1 / ext4 rw 0 0")
    assert row["available_bytes"] == 0


def test_a_long_name_is_bounded_and_its_control_characters_replaced() -> None:
    mountpoint = "/media/" + "x\\033" * 200
    (row,) = rows(HEAD + "ext4 100 50 50 1 1 /media/" + "x\x1b" * 200, f"/dev/sda1 {mountpoint} ext4 rw 0 0")
    assert row["mountpoint"] == ("/media/" + "x\ufffd" * 200)[:255]


def test_a_file_system_that_df_could_not_ask_loses_only_itself() -> None:
    mounts = "/dev/sda1 / ext4 rw 0 0\n/dev/sdb1 /dead ext4 rw 0 0"
    df = HEAD + "ext4 - - - - - /dead\next4 100 50 50 - - /"
    assert [(row["mountpoint"], row["inodes_total"]) for row in rows(df, mounts)] == [("/", None)]


def test_a_node_of_overlays_alone_has_no_disk_and_keeps_its_cadence() -> None:
    sample = storage.read(Answer({"/proc/self/mounts": "overlay / overlay rw 0 0"}, {"storage": Output("", 0)}), None)
    assert sample
    assert sample.columns == {}


def test_without_its_command_there_is_nothing() -> None:
    assert storage.read(Answer({"/proc/self/mounts": "/dev/sda1 / ext4 rw 0 0"}), None) is None


@pytest.mark.parametrize(
    "df",
    [
        "junk",
        HEAD + "ext4 1 2",
        HEAD + "ext4 x 2 3 4 5 /",
        HEAD + f"ext4 {2**60} 2 3 4 5 /",
        POSIX + f"x {2**60} 2 3 4% /",
    ],
)
def test_what_is_no_table_of_file_systems(df: str) -> None:
    with pytest.raises(ParseError, match="^df: '"):
        storage.parse_df(df)
