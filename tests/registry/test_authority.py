"""The certificate authority, checked by OpenSSL's own strict rules."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from evc.errors import InputError
from evc.registry.authority import SERVER_VALID, Authority, check_names

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NAMES = ["registry.example.org", "10.0.0.5", "2001:db8::5"]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    made.make(NOW)
    return made


def verified(authority: Authority, when: datetime, *more: str) -> str:
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-attime", str(int(when.timestamp()))]
    done = subprocess.run(
        [*command, *more, "-CAfile", authority.ca_file, authority.server_file],
        check=False,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip().rpartition(": ")[2] if done.returncode == 0 else done.stderr


def test_openssl_trusts_what_it_signs_for_its_names_and_its_time(authority: Authority) -> None:
    authority.issue(NAMES, now=NOW)
    for option in (["-verify_hostname", NAMES[0]], ["-verify_ip", NAMES[1]], ["-verify_ip", NAMES[2]]):
        assert verified(authority, NOW, *option) == "OK"
    assert "hostname mismatch" in verified(authority, NOW, "-verify_hostname", "other.example.org")
    # a board whose clock is some hours behind
    assert verified(authority, NOW - timedelta(hours=20)) == "OK"
    assert verified(authority, NOW + SERVER_VALID - timedelta(minutes=1)) == "OK"
    assert "certificate has expired" in verified(authority, NOW + SERVER_VALID + timedelta(minutes=1))


def test_what_is_on_disk_is_told(authority: Authority) -> None:
    assert authority.server() is None
    authority.issue(NAMES, now=NOW)
    server = authority.server()
    assert server
    assert (server.names, server.expires) == (tuple(NAMES), NOW + SERVER_VALID)


def test_keys_are_the_owners_only(authority: Authority) -> None:
    authority.issue(NAMES)
    modes = {path.name: path.stat().st_mode & 0o777 for path in authority.ca_file.parent.iterdir()}
    assert modes == {"ca.crt": 0o644, "ca.key": 0o600, "server.crt": 0o644, "server.key": 0o600}


def test_an_authority_is_never_overwritten(authority: Authority) -> None:
    before = authority.ca_file.read_bytes(), authority.ca_key_file.read_bytes()
    assert authority.make() is False
    authority.issue(NAMES)
    assert (authority.ca_file.read_bytes(), authority.ca_key_file.read_bytes()) == before


def test_a_renewal_replaces_one_file(authority: Authority) -> None:
    authority.issue(NAMES, now=NOW)
    key, first = authority.server_key_file.read_bytes(), authority.server_file.read_bytes()
    later = NOW + timedelta(days=390)
    authority.issue(NAMES, now=later)
    assert authority.server_key_file.read_bytes() == key
    assert authority.server_file.read_bytes() != first
    assert verified(authority, later + timedelta(days=300)) == "OK"


def test_killed_between_key_and_certificate_the_next_run_keeps_the_key(authority: Authority) -> None:
    authority.issue(NAMES, now=NOW)
    key = authority.ca_key_file.read_bytes()
    authority.ca_file.unlink()
    assert authority.make(NOW) is True
    assert authority.ca_key_file.read_bytes() == key
    assert verified(authority, NOW) == "OK", "what the key signed before is still trusted"


def test_a_certificate_of_another_authority_or_key_counts_as_none(authority: Authority, tmp_path: Path) -> None:
    authority.issue(NAMES)
    other = Authority(tmp_path / "other")
    other.ca_file.parent.mkdir()
    other.make()
    other.issue(NAMES)
    mine = authority.server_file.read_bytes()
    authority.server_file.write_bytes(other.server_file.read_bytes())
    assert authority.server() is None
    authority.server_file.write_bytes(mine)
    assert authority.server() is not None
    authority.server_key_file.unlink()
    assert authority.server() is None


def test_no_certificate_outlives_its_authority(authority: Authority) -> None:
    ends = authority.authority()
    assert ends
    late = ends.expires - timedelta(days=10)
    authority.issue(NAMES, now=late)
    server = authority.server()
    assert server
    assert server.expires == ends.expires
    with pytest.raises(InputError, match=r"the authority expired on 20\d\d-\d\d-\d\d; allowed: a new one"):
        authority.issue(NAMES, now=ends.expires + timedelta(seconds=1))


def test_what_is_broken_is_said_and_left_alone(authority: Authority) -> None:
    authority.issue(NAMES)
    key = authority.ca_key_file.read_bytes()
    authority.ca_key_file.unlink()
    with pytest.raises(InputError, match=r"ca\.key: there is none, while ca\.crt is there"):
        authority.make()
    authority.ca_key_file.write_bytes(authority.server_key_file.read_bytes())
    with pytest.raises(InputError, match=r"is not the key of ca\.crt"):
        authority.issue(NAMES)
    authority.ca_key_file.write_text("-----BEGIN PRIVATE KEY-----\nTOPSECRET\n-----END PRIVATE KEY-----\n")
    with pytest.raises(InputError, match="is not an EC key") as caught:
        authority.issue(NAMES)
    assert "TOPSECRET" not in str(caught.value)
    authority.ca_key_file.write_bytes(key)
    authority.ca_file.write_text("nothing")
    with pytest.raises(InputError, match=r"ca\.crt: is not a certificate"):
        authority.make()
    assert authority.ca_file.read_text() == "nothing"


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "https://a.example",
        "a:5000",
        "*.example.org",
        "10.0.0.256",
        "1.2.3",
        "-a",
        "a..b",
        "a\n",
        "레지.kr",
    ],
)
def test_what_is_no_name_is_refused(authority: Authority, name: str) -> None:
    with pytest.raises(InputError, match="--name: .*allowed: a DNS name") as caught:
        authority.issue(["good.example.org", name])
    assert "\n" not in str(caught.value)
    assert authority.server() is None


def test_names_are_each_once_and_in_order() -> None:
    assert check_names(["B.example", "a", "b.example", "2001:DB8::5", "a"]) == ("b.example", "a", "2001:db8::5")
    with pytest.raises(InputError, match="none is given"):
        check_names([])


def test_the_certificate_says_what_it_is_for(authority: Authority) -> None:
    authority.issue(NAMES)
    server = x509.load_pem_x509_certificate(authority.server_file.read_bytes())
    usage = server.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_cert_sign) == (True, False)
    constraints = x509.load_pem_x509_certificate(authority.ca_file.read_bytes()).extensions
    assert constraints.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
