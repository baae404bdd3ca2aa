"""Places by Nominatim, the geocoding service of OpenStreetMap, public or one's own.

Source: Nominatim's search API (``/search?format=json``), through geopy.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import math
import time
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, build_opener

from geopy import exc, geocoders
from geopy.adapters import AdapterHTTPError, BaseSyncAdapter

from evc.errors import GeocodingError, InputError
from evc.fleet.nodes import quote
from evc.places.pace import Pace
from evc.places.place import Place

MAX_BYTES = 1024 * 1024
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (exc.GeocoderTimedOut, "did not answer in {timeout_s:g} s"),
    (exc.GeocoderRateLimited, "asks for fewer requests (429)"),
    (exc.GeocoderInsufficientPrivileges, "refuses us (403)"),
    (exc.GeocoderUnavailable, "is not there: {error}"),
    (exc.GeocoderServiceError, "answered with an error: {error}"),
    (Exception, "answered in another format than Nominatim's"),
)


class Nominatim:
    """Asks one service, no faster than ``pace``.

    :param base_url: ``http`` or ``https``, with port and path where it has them
    :param timeout_s: for one whole answer
    :raises InputError: ``base_url`` is no such URL
    """

    def __init__(self, base_url: str, pace: Pace, timeout_s: float = 10.0) -> None:
        scheme, self._place = _split(base_url)
        self._pace, self._timeout_s = pace, timeout_s
        version = importlib.metadata.version("edge-vision-cluster")
        self._client = geocoders.Nominatim(
            user_agent=f"edge-vision-cluster/{version}",
            scheme=scheme,
            domain=self._place,
            timeout=timeout_s,
            adapter_factory=_Adapter,
        )

    def find(self, address: str) -> Place | None:
        """Return where ``address`` is; None where the service knows of none.

        :raises GeocodingError: it is not there, too slow, refuses, or answers something else
        """
        self._pace.wait()
        try:
            found = self._client.geocode(address)
            return None if found is None else _place(found.latitude, found.longitude, found.address)
        except Exception as error:  # geopy raises whatever its parsing stumbles over
            reason = next(reason for kind, reason in _REASONS if isinstance(error, kind))
            said = " ".join(str(error).split())[:100]
            raise GeocodingError(f"{self._place}: {reason.format(timeout_s=self._timeout_s, error=said)}") from error


def _split(base_url: str) -> tuple[str, str]:
    allowed = "http(s)://host, with port and path where needed, without user, query and fragment"
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username is not None or parts.query or parts.fragment or not base_url.isprintable():
        raise InputError("nominatim_url", f"{quote(base_url.rpartition('@')[2])} is not the URL of a service", allowed)
    return parts.scheme, f"{parts.netloc}{parts.path}".rstrip("/")


def _place(latitude: float, longitude: float, name: object) -> Place:
    if not (math.isfinite(latitude) and math.isfinite(longitude) and abs(latitude) <= 90 and abs(longitude) <= 180):
        raise ValueError("no point on Earth")
    return Place(latitude, longitude, "nominatim", str(name)[:200], "address")


class _Adapter(BaseSyncAdapter):  # type: ignore[misc]  # geopy has no types
    """One request with a bound on the whole time and on the size, which geopy's own adapters do not have."""

    def __init__(self, *, proxies: Any, ssl_context: Any) -> None:
        super().__init__(proxies=proxies, ssl_context=ssl_context)
        self._opener = build_opener()

    def get_json(self, url: str, *, timeout: float, headers: dict[str, str]) -> Any:
        return json.loads(self.get_text(url, timeout=timeout, headers=headers))

    def get_text(self, url: str, *, timeout: float, headers: dict[str, str]) -> str:
        try:
            with self._opener.open(Request(url, headers=headers), timeout=timeout) as page:  # noqa: S310  _split has checked the scheme
                return _read(page, time.monotonic() + timeout).decode()
        except HTTPError as error:
            headers = {name.lower(): value for name, value in error.headers.items()}
            raise AdapterHTTPError(f"HTTP {error.code}", status_code=error.code, headers=headers, text="") from error
        except TimeoutError as error:
            raise exc.GeocoderTimedOut("too slow") from error
        except URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise exc.GeocoderTimedOut("too slow") from error
            raise exc.GeocoderUnavailable(getattr(error.reason, "strerror", None) or str(error.reason)) from error
        except (OSError, http.client.HTTPException) as error:
            raise exc.GeocoderUnavailable("the connection broke") from error


def _read(page: http.client.HTTPResponse, deadline: float) -> bytes:
    content = b""
    while piece := page.read1(65536):
        content += piece
        if len(content) > MAX_BYTES:
            raise ValueError("too much")
        if time.monotonic() > deadline:
            raise TimeoutError
    return content
