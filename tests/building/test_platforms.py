"""What a builder can build for."""

from __future__ import annotations

import pytest

from evc.building.platforms import architecture_of, check_architecture, check_platform, emulated
from evc.errors import InputError

# of Debian's qemu-user-binfmt and of docker/binfmt
AARCH64 = """\
enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: POCF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
"""
ARM = AARCH64.replace("aarch64", "arm").replace("4602010100000000000000000002 00b700", "")
ARM = ARM.replace("7f454c460201010000000000000000000200b700", "7f454c4601010100000000000000000002002800")
STATUS = "enabled\n"


def test_handlers_are_told_by_the_machine_in_their_magic() -> None:
    assert emulated(f"\n{AARCH64}\n{ARM}\n{STATUS}\n") == {"arm64", "arm"}


@pytest.mark.parametrize(
    "handlers",
    [
        "",
        "\n",
        STATUS,
        AARCH64.replace("enabled", "disabled"),
        AARCH64.replace("POCF", "POC"),
        AARCH64.replace("7f454c46", "4d5a9000"),
        AARCH64.replace("b700", "f300"),
        "enabled\nflags: F\nmagic 7f454c46\n",
        "enabled\nflags: F\nextension .py\n",
    ],
)
def test_what_is_no_handler_for_containers_is_none(handlers: str) -> None:
    assert emulated(f"\n{handlers}") == set()


def test_a_builder_builds_for_itself_and_for_what_it_emulates() -> None:
    check_platform("build-1", "amd64", "linux/amd64", "")
    check_platform("build-1", "amd64", "linux/arm64", f"\n{AARCH64}")
    check_platform("build-1", "amd64", "linux/arm/v7", f"\n{ARM}")


@pytest.mark.parametrize(("platform", "handlers"), [("linux/arm64", ""), ("linux/arm/v7", f"\n{AARCH64}")])
def test_what_it_can_not_build_for_is_refused_with_what_to_do(platform: str, handlers: str) -> None:
    with pytest.raises(InputError, match="platform: build-1 is amd64 .*allowed: linux/amd64; or .*qemu-"):
        check_platform("build-1", "amd64", platform, handlers)


def test_the_model_has_a_say() -> None:
    check_architecture("platform", "arm64", ["amd64", "arm64"])
    with pytest.raises(InputError, match="platform: the model is not made for arm; allowed: its architectures: amd64"):
        check_architecture("platform", "arm", ["amd64"])


@pytest.mark.parametrize(
    ("machine", "name"), [("x86_64", "amd64"), ("aarch64", "arm64"), ("armv7l", "arm"), ("riscv64", "riscv64")]
)
def test_architectures_are_named_as_docker_names_them(machine: str, name: str) -> None:
    assert architecture_of(machine) == name
