"""The engine's client through a real sshd, with engines that are old, new, silent, cut off or wrong."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evc.engine.client import Engine, _frames, api_version
from evc.errors import ConnectionCut, EngineAway, EngineError
from evc.ssh.session import Session
from tests.engine.fake import VERSION, FakeEngine, engine_of, said, streamed
from tests.servers.sshd import SshServer

Use = Callable[[Engine, FakeEngine, Session], Awaitable[None]]
PULL = "POST /images/create"
REFERENCE = f"registry.test:5000/reid@sha256:{'a' * 64}"


def run(sshd: SshServer, folder: Path, use: Use, **version: str) -> None:
    async def main() -> None:
        async with engine_of(sshd, folder, {**VERSION, **version}) as (engine, fake, session):
            async with asyncio.timeout(30):
                await use(engine, fake, session)

    asyncio.run(main())


async def pulled(engine: Engine, **more: Any) -> list[dict[str, Any]]:
    return [message async for message in engine.pull(REFERENCE, {"username": "a", "password": "b"}, **more)]


@pytest.mark.parametrize(
    ("newest", "oldest", "spoken"), [("1.41", "1.12", "1.41"), ("1.51", "1.24", "1.41"), ("1.52", "1.44", "1.44")]
)
def test_the_oldest_version_that_both_speak_is_spoken(
    sshd: SshServer, tmp_path: Path, newest: str, oldest: str, spoken: str
) -> None:
    async def use(engine: Engine, fake: FakeEngine, session: Session) -> None:
        fake.answers["GET /info"] = said({"NCPU": 4})
        assert await engine.info() == await engine.info() == {"NCPU": 4}
        lines = [line for line, _ in fake.requests]
        assert lines == ["GET /version HTTP/1.1", *[f"GET /v{spoken}/info HTTP/1.1"] * 2]

    run(sshd, tmp_path, use, ApiVersion=newest, MinAPIVersion=oldest)


def test_an_engine_that_is_too_old_is_told_so(sshd: SshServer, tmp_path: Path) -> None:
    async def use(engine: Engine, fake: FakeEngine, session: Session) -> None:
        with pytest.raises(EngineError, match=r"Docker Engine 19\.03 speaks API 1\.40; needed is 1\.41 or later"):
            await engine.info()

    run(sshd, tmp_path, use, Version="19.03", ApiVersion="1.40")


def test_its_own_words_and_status_come_back_on_one_line(sshd: SshServer, tmp_path: Path) -> None:
    async def use(engine: Engine, fake: FakeEngine, session: Session) -> None:
        fake.answers["POST /containers/create"] = said({"message": "no\nsuch \x1b[31mthing " * 60}, "500 Error")
        with pytest.raises(EngineError) as caught:
            await engine.create("a", {})
        assert caught.value.status == 500
        assert str(caught.value).startswith("edge1: creation of container a: no such [31mthing no such")
        assert len(str(caught.value)) < 500

    run(sshd, tmp_path, use)


def test_what_is_there_or_gone_as_asked_is_no_error(sshd: SshServer, tmp_path: Path) -> None:
    async def use(engine: Engine, fake: FakeEngine, session: Session) -> None:
        for path in ("POST /containers/a/start", "POST /containers/a/stop"):
            fake.answers[path] = said(b"", "304 Not Modified")
        await engine.start("a")
        await engine.stop("a")
        await engine.stop("gone")
        await engine.remove("gone")
        assert await engine.inspect("gone") is None
        assert await engine.image("gone") is None
        assert not await engine.remove_image("gone")
        with pytest.raises(EngineError):
            await engine.start("gone")

    run(sshd, tmp_path, use)


def test_an_account_travels_in_its_header_only(sshd: SshServer, tmp_path: Path) -> None:
    async def use(engine: Engine, fake: FakeEngine, session: Session) -> None:
        fake.answers[PULL] = streamed(b'{"status": "Pulling"}\n')
        await pulled(engine)
        line, headers = fake.requests[-1]
        assert json.loads(base64.urlsafe_b64decode(headers["x-registry-auth"])) == {
            "username": "a",
            "password": "b",
            "serveraddress": "registry.test:5000",
        }
        assert line.startswith("POST /v1.41/images/create?fromImage=registry.test:5000/reid&tag=sha256:")

    run(sshd, tmp_path, use)


def test_messages_come_whole_however_they_are_cut(sshd: SshServer, tmp_path: Path) -> None:
    async def use(engine: Engine, fake: FakeEngine, session: Session) -> None:
        fake.answers[PULL] = streamed(b'{"status": "a', b'"}\r\n{"status": "b"}\n\n{"sta', b'tus": "c"}\n', b"[1]\n")
        assert [message["status"] for message in await pulled(engine)] == ["a", "b", "c"]

    run(sshd, tmp_path, use)


def test_an_error_in_mid_pull_is_an_error(sshd: SshServer, tmp_path: Path) -> None:
    async def use(engine: Engine, fake: FakeEngine, session: Session) -> None:
        fake.answers[PULL] = streamed(b'{"status": "a"}\n', b'{"errorDetail": {"message": "no space"}, "error": "x"}\n')
        with pytest.raises(EngineError, match="no space"):
            await pulled(engine)
        fake.answers[PULL] = streamed(b'{"errorDetail": 7, "error": "plain"}\n')
        with pytest.raises(EngineError, match="plain"):
            await pulled(engine)

    run(sshd, tmp_path, use)


def test_a_pull_that_stands_still_ends_in_time(sshd: SshServer, tmp_path: Path) -> None:
    async def use(engine: Engine, fake: FakeEngine, session: Session) -> None:
        fake.answers[PULL] = streamed(b'{"status": "a"}\n', then=lambda _: asyncio.sleep(60))
        begin = time.monotonic()
        with pytest.raises(EngineAway, match=r"nothing came for 0\.3 s"):
            await pulled(engine, idle_s=0.3)
        assert time.monotonic() - begin < 10

    run(sshd, tmp_path, use)


def test_an_engine_that_dies_in_mid_pull_is_away(sshd: SshServer, tmp_path: Path) -> None:
    async def use(engine: Engine, fake: FakeEngine, session: Session) -> None:
        async def die(writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()

        fake.answers[PULL] = streamed(b'{"status": "a"}\n', then=die)
        with pytest.raises(EngineAway, match="ended the connection"):
            await pulled(engine)

    run(sshd, tmp_path, use)


def test_a_link_that_is_cut_in_mid_pull_is_told_from_an_engine_that_dies(sshd: SshServer, tmp_path: Path) -> None:
    async def use(engine: Engine, fake: FakeEngine, session: Session) -> None:
        fake.answers[PULL] = streamed(b'{"status": "a"}\n', then=lambda _: asyncio.sleep(60))
        with pytest.raises(ConnectionCut, match="the connection to the node was cut"):
            async for _ in engine.pull(REFERENCE):
                session.connection.abort()
        with pytest.raises(ConnectionCut):
            await engine.info()

    run(sshd, tmp_path, use)


def test_no_engine_at_all_is_told_with_what_to_look_at(sshd: SshServer, tmp_path: Path) -> None:
    async def use(engine: Engine, fake: FakeEngine, session: Session) -> None:
        (tmp_path / "engine.sock").unlink()
        with pytest.raises(EngineAway, match="is it installed and running, is the login in group docker"):
            await engine.info()

    run(sshd, tmp_path, use)


@pytest.mark.parametrize("body", [b"{", b"\xff", b"", b"[" * 300_000])
def test_an_answer_that_is_no_json_is_the_engine_s_fault(sshd: SshServer, tmp_path: Path, body: bytes) -> None:
    async def use(engine: Engine, fake: FakeEngine, session: Session) -> None:
        fake.answers["GET /info"] = said(body)
        with pytest.raises(EngineError):
            await engine.info()

    run(sshd, tmp_path, use)


def test_what_is_compressed_is_not_unpacked(sshd: SshServer, tmp_path: Path) -> None:
    packed = gzip.compress(b'{"a": "' + b" " * 50_000_000 + b'"}')

    async def answer(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n"
        writer.write(head.encode() + packed)

    async def use(engine: Engine, fake: FakeEngine, session: Session) -> None:
        fake.answers["GET /info"] = answer
        with pytest.raises(EngineError, match="not as its API promises"):
            await engine.info()
        assert all(headers["accept-encoding"] == "identity" for _, headers in fake.requests)

    run(sshd, tmp_path, use)


def test_a_message_without_end_is_cut_off(sshd: SshServer, tmp_path: Path) -> None:
    async def use(engine: Engine, fake: FakeEngine, session: Session) -> None:
        fake.answers[PULL] = streamed(*[b"x" * 60_000] * 40, then=lambda _: asyncio.sleep(60))
        with pytest.raises(EngineError, match="a message without end"):
            await pulled(engine)

    run(sshd, tmp_path, use)


def test_who_leaves_a_stream_early_leaves_no_channel_open(sshd: SshServer, tmp_path: Path) -> None:
    async def use(engine: Engine, fake: FakeEngine, session: Session) -> None:
        gone = asyncio.Event()

        async def wait(writer: asyncio.StreamWriter) -> None:
            while not writer.is_closing():
                writer.write(b"1\r\n\n\r\n")
                await writer.drain()
                await asyncio.sleep(0.02)
            gone.set()

        async def serve(writer: asyncio.StreamWriter) -> None:
            try:
                await streamed(b'{"Action": "start"}\n', then=wait)(writer)
            finally:
                gone.set()

        fake.answers["GET /events"] = serve
        async with aclosing(engine.events("a")) as events:
            assert await anext(events) == {}
            assert (await anext(events))["Action"] == "start"
        await asyncio.wait_for(gone.wait(), 10)

    run(sshd, tmp_path, use)


def test_a_log_comes_in_frames(sshd: SshServer, tmp_path: Path) -> None:
    def frame(stream: int, text: bytes) -> bytes:
        return bytes([stream, 0, 0, 0]) + len(text).to_bytes(4, "big") + text

    async def use(engine: Engine, fake: FakeEngine, session: Session) -> None:
        data = frame(1, b"out\n") + frame(2, b"err\n") + frame(1, b"") + frame(1, b"x" * 20_000)
        fake.answers["GET /containers/a/logs"] = streamed(data[:5], data[5:13], data[13:])
        frames = [it async for batch in engine.logs("a", tail=3, since="1.5") for it in batch]
        assert frames == [(False, b"out\n"), (True, b"err\n"), (False, b""), (False, b"x" * 20_000)]
        line, _ = fake.requests[-1]
        assert "since=1.5&tail=3&stdout=true&stderr=true&follow=false&timestamps=false" in line

    run(sshd, tmp_path, use)


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=30)), max_size=10), st.integers(0, 400))
def test_frames_come_out_as_they_went_in(frames: list[tuple[bool, bytes]], cut: int) -> None:
    data = b"".join(bytes([1 + err, 0, 0, 0]) + len(text).to_bytes(4, "big") + text for err, text in frames)
    first, rest = _frames(data[:cut])
    second, rest = _frames(rest + data[cut:])
    assert [*first, *second] == frames
    assert rest == b""


@pytest.mark.parametrize(
    ("text", "version"), [("1.41", (1, 41)), ("1.4", (1, 4)), (None, (0, 0)), ("1", (0, 0)), ("1.x", (0, 0))]
)
def test_versions_are_numbers(text: object, version: tuple[int, int]) -> None:
    assert api_version(text) == version
