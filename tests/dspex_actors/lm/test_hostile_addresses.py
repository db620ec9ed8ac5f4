"""Addresses that somebody hopes we ask: refused when they are written down, whatever their notation."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_actors import LM
from dspex_actors.errors import ConfigError
from dspex_actors.lm.hosts import Allowed, BadHostError, address_of, is_metadata, is_public, is_trick

METADATA = [
    "http://169.254.169.254/latest/meta-data",
    "https://169.254.169.254",
    "http://169.254.169.254:80/v1",
    "http://169.254.169.254./v1",
    "http://169.254.0.1/",
    "http://169.254.170.2/v2/credentials",
    "http://2852039166",
    "http://2852039166:80/v1",
    "http://0xa9fea9fe/v1",
    "http://0xA9.0xFE.0xA9.0xFE/",
    "http://0251.0376.0251.0376/",
    "http://0251.254.169.254/",
    "http://169.254.43518/",
    "http://169.16689662",
    "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:a9fe:a9fe]/v1",
    "http://[0:0:0:0:0:ffff:a9fe:a9fe]/v1",
    "http://[::169.254.169.254]/",
    "http://[64:ff9b::169.254.169.254]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[fd00:ec2::254]/latest",
    "http://[FD00:0EC2:0:0:0:0:0:254]/latest",
    "http://[fe80::1]/v1",
    "http://[fe80::a9fe:a9fe]/v1",
    "http://metadata.google.internal/computeMetadata/v1",
    "http://METADATA.Google.Internal/v1",
    "http://metadata.google.internal./v1",
    "http://metadata.goog/",
    "http://metadata/v1",
    "http://instance-data/latest",
    "http://instance-data.ec2.internal/latest",
    "http://100.100.100.200/latest",
    "http://192.0.0.192/opc/v2",
    "http://168.63.129.16/metadata",
    "http://１６９.２５４.１６９.２５４/",
    "http://169。254。169。254/",
    "http://ｍetadata.google.internal/",
]
TRICKS = [
    "http://0x7f.1/v1",
    "http://0x7f000001/",
    "http://2130706433/v1",
    "http://017700000001/",
    "http://0177.0.0.1/v1",
    "http://127.1/v1",
    "http://127.0.1/v1",
    "http://0/v1",
    "http://3232235777/v1",
    "http://ⓛocalhost/v1",
    "http://①②⑦.0.0.1/v1",
]
BROKEN = [
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_INFO",
    "ftp://host/v1",
    "http://",
    "http:///v1",
    "http://user:pass@169.254.169.254/",
    "http://api.openai.com@169.254.169.254/",
    "http://api.openai.com#@169.254.169.254/",
    "http://api.openai.com\\@169.254.169.254/",
    "http://169.254.169.254%2f@host/",
    "http://a b/v1",
    "http://host:99999/v1",
    "http://[::1/v1",
    "http://[fe80::1%25eth0]/v1",
    "//169.254.169.254/v1",
    "http://host\r\nx-evil: 1/v1",
]


@pytest.mark.parametrize("url", [*METADATA, *TRICKS, *BROKEN])
def test_a_hostile_base_url_is_refused_in_one_line(url):
    with pytest.raises(ConfigError) as caught:
        LM("openai/gpt-4o-mini", base_url=url)
    assert "base_url" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "pass@" not in str(caught.value)


def test_the_table_is_as_long_as_it_should_be():
    assert len({*METADATA, *TRICKS, *BROKEN}) >= 60


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/v1",
        "http://localhost:11434/v1",
        "http://[::1]:8000/v1",
        "http://10.1.2.3/v1",
        "http://192.168.1.20:1234/v1",
        "http://172.16.0.9/v1",
        "http://[fd12:3456::1]/v1",
        "http://vllm:8000/v1",
        "http://my_service.internal/v1",
        "http://host.docker.internal:11434/v1",
        "https://münchen.example/v1",
        "https://api.openai.com/v1",
    ],
)
def test_a_server_of_ones_own_is_asked(url):
    assert LM("openai/gpt-4o-mini", base_url=url).base_url == url


@given(st.ip_addresses(v=4))
def test_every_notation_of_an_address_is_the_address(address):
    number = int(address)
    parts = str(address).split(".")
    for told in (
        str(number),
        hex(number),
        oct(number).replace("0o", "0"),
        ".".join(hex(int(part)) for part in parts),
        f"{parts[0]}.{number & 0xFFFFFF}",
        f"{parts[0]}.{parts[1]}.{number & 0xFFFF}",
        f"{address}.",
    ):
        assert address_of(told) == address
        assert is_metadata(told) == is_metadata(address)
        assert is_trick(told) or told.rstrip(".") in (str(address), str(number) if number < 256 else "")
    assert not is_trick(str(address))
    assert is_metadata(f"[::ffff:{address}]") == is_metadata(address)


@pytest.mark.parametrize(
    "text", ["a.b", "1.2.3.4.5", "256.1.1.1", "0x", "08", "1e3", "", "..", "localhost", "1" * 5000]
)
def test_what_is_no_address_is_a_name(text):
    assert address_of(text) in (None, ipaddress.ip_address("0.0.0.0"))


@pytest.mark.parametrize(
    ("address", "is_open"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("172.31.0.1", False),
        ("192.168.0.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fd00::1", False),
        ("fe80::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::10.0.0.1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_which_addresses_are_of_the_open_internet(address, is_open):
    assert is_public(ipaddress.ip_address(address)) is is_open
    assert Allowed().reaches(ipaddress.ip_address(address)) is is_open


@pytest.mark.parametrize(
    "entry",
    ["", "a b", "ftp://h", "h/path", "u@h", "h:0", "h:x", "http://", "0x7f.1", "*", "*.example.org", 3, None, "h?q"],
)
def test_an_entry_of_media_hosts_that_is_none_is_refused(entry):
    with pytest.raises(BadHostError, match="expected a host"):
        Allowed.of([entry])


def test_a_listed_host_is_allowed_with_its_scheme_and_port_only():
    allowed = Allowed.of(["Images.example.org", "cdn.example.org:8443", "http://127.0.0.1:8000", "[::1]"])
    assert allowed.takes("https", "images.example.org", None)
    assert allowed.takes("https", "IMAGES.example.org.", 443)
    assert not allowed.takes("http", "images.example.org", None)
    assert not allowed.takes("https", "images.example.org", 8443)
    assert allowed.takes("https", "cdn.example.org", 8443)
    assert allowed.takes("http", "127.0.0.1", 8000)
    assert allowed.takes("https", "::1", None)
    assert not allowed.takes("https", "example.org", None)
    assert allowed.reaches(ipaddress.ip_address("127.0.0.1"))
    assert not allowed.reaches(ipaddress.ip_address("127.0.0.2"))
