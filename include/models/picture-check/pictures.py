"""Reads pictures into rows of grey points, 0 to 255: PNG (8 bit, not interlaced), PGM and PPM (binary).

Source: PNG specification (third edition), chapters 4, 7 and 9; netpbm, pgm(5) and ppm(5).
"""

from __future__ import annotations

import re
import struct
import zlib

_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
_MAX_POINTS = 50_000_000
Rows = list[bytes]


class NoPicture(Exception):
    """The file is not a picture that can be read here; the message says why."""


def read_picture(data: bytes) -> Rows:
    """Return the grey rows of a picture. :raises NoPicture: it can't be read"""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _read_png(data)
        if data[:2] in (b"P5", b"P6"):
            return _read_netpbm(data)
    except (struct.error, zlib.error, IndexError) as error:
        raise NoPicture(f"a damaged picture: {error}") from None
    raise NoPicture("neither PNG nor PGM nor PPM")


def _read_netpbm(data: bytes) -> Rows:
    head = re.match(rb"P([56])" + 3 * rb"(?:\s+|#[^\n]*\n)+(\d{1,6})" + rb"\s", data)
    if not head or int(head[4]) != 255:
        raise NoPicture("not a binary PGM or PPM of 8 bit")
    width, height = _size(int(head[2]), int(head[3]))
    channels = 1 if head[1] == b"5" else 3
    body = data[head.end() :]
    if len(body) < width * height * channels:
        raise NoPicture("a damaged picture: it ends too early")
    stride = width * channels
    return [_grey(body[row * stride : (row + 1) * stride], channels) for row in range(height)]


def _read_png(data: bytes) -> Rows:
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    width, height = _size(width, height)
    if depth != 8 or kind not in _CHANNELS or interlaced:
        raise NoPicture("a PNG that is not grey or RGB of 8 bit, not interlaced")
    packed, at = bytearray(), 8
    while at + 12 <= len(data):
        (length,), name = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        if name == b"IDAT":
            packed += data[at + 8 : at + 8 + length]
        at += 12 + length
    channels = _CHANNELS[kind]
    stride = width * channels
    raw = zlib.decompressobj().decompress(bytes(packed), height * (stride + 1))
    if len(raw) < height * (stride + 1):
        raise NoPicture("a damaged picture: it ends too early")
    rows, above = [], bytearray(stride)
    for row in range(height):
        begin = row * (stride + 1)
        above = _unfilter(raw[begin], bytearray(raw[begin + 1 : begin + 1 + stride]), above, channels)
        rows.append(_grey(above, channels))
    return rows


def _unfilter(kind: int, line: bytearray, above: bytearray, channels: int) -> bytearray:
    for index in range(len(line)):
        left = line[index - channels] if index >= channels else 0
        up = above[index]
        corner = above[index - channels] if index >= channels else 0
        if kind == 1:
            add = left
        elif kind == 2:
            add = up
        elif kind == 3:
            add = (left + up) // 2
        elif kind == 4:
            add = _paeth(left, up, corner)
        else:
            break
        line[index] = (line[index] + add) & 255
    return line


def _paeth(left: int, up: int, corner: int) -> int:
    guess = left + up - corner
    return min((left, up, corner), key=lambda value: abs(guess - value))


def _grey(line: bytes | bytearray, channels: int) -> bytes:
    if channels < 3:
        return bytes(line[::channels])
    # ITU-R BT.601, in 1/256
    colours = zip(line[::channels], line[1::channels], line[2::channels])  # noqa: B905  # as long as each other
    return bytes((77 * red + 150 * green + 29 * blue) >> 8 for red, green, blue in colours)


def _size(width: int, height: int) -> tuple[int, int]:
    if width < 2 or height < 1 or width * height > _MAX_POINTS:
        raise NoPicture(f"a picture of {width} x {height} points")
    return width, height
