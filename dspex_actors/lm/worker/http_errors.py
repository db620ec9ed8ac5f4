"""Says in our words why a request got no answer, or half of one. What a library says goes no further than here."""

from __future__ import annotations

import os
import ssl
from urllib.request import getproxies_environment, proxy_bypass

from dspex_actors.errors import LMError, Overloaded, StreamTruncated
from dspex_actors.lm.worker import lean
from dspex_actors.lm.worker.resolving import MetadataServiceError

with lean.imports():
    import aiohttp
    from aiohttp.http_exceptions import HttpProcessingError


def unreachable(exc: Exception, origin: str) -> LMError:
    """Translate what happened before an answer began; say what in the environment may be why."""
    error = _translated(exc, origin)
    error.message += _hint(exc, origin)
    error.args = (error.message,)
    return error


def _translated(exc: Exception, origin: str) -> LMError:
    if isinstance(exc, (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError, ssl.SSLError)):
        return _not_sent(f"no TLS connection to {origin}: its certificate or protocol is not acceptable", None, False)
    if isinstance(exc, aiohttp.ClientConnectorDNSError):
        return _not_sent(f"no connection to {origin}: its name is not known — is base_url right?")
    if isinstance(exc, aiohttp.ClientConnectorError):
        number = exc.os_error.errno
        why = os.strerror(number) if number else type(exc.os_error).__name__
        return _not_sent(f"no connection to {origin}: {why}", type(exc.os_error).__name__)
    if isinstance(exc, MetadataServiceError):
        return _not_sent(
            f"no connection to {origin}: its name means a cloud's metadata service, which is never asked", None, False
        )
    if isinstance(exc, TimeoutError):
        return _not_sent(f"no connection to {origin} in time", "connect_timeout")
    if isinstance(exc, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, OSError)):
        return Overloaded(f"{origin} closed the connection without an answer", code="disconnected", retryable=True)
    if isinstance(exc, HttpProcessingError):
        return Overloaded(f"{origin} answered with something that is not HTTP — is base_url right?", retryable=True)
    return Overloaded(f"the request to {origin} failed: {type(exc).__name__}", retryable=False)


def broken(exc: Exception, size: int, origin: str) -> LMError:
    """Translate what happened in the middle of an answer."""
    return StreamTruncated(
        f"{origin} broke off after {size} bytes of its answer", code=type(exc).__name__, retryable=True
    )


def _not_sent(message: str, code: str | None = None, retryable: bool = True) -> Overloaded:
    error = Overloaded(message, code=code, retryable=retryable)
    error.was_sent = False
    return error


def _hint(exc: Exception, origin: str) -> str:
    """Return what in the environment may be why there was no connection."""
    if not isinstance(exc, (aiohttp.ClientConnectorError, ssl.SSLError, TimeoutError)):
        return ""
    hint = ""
    if isinstance(exc, (aiohttp.ClientConnectorCertificateError, ssl.CertificateError)):
        hint = "; for a CA of your own set SSL_CERT_FILE or SSL_CERT_DIR where the node is started"
    scheme, _, host = origin.partition("://")
    proxies = getproxies_environment()
    if (scheme in proxies or "all" in proxies) and not proxy_bypass(host):
        name = f"{scheme.upper()}_PROXY" if scheme in proxies else "ALL_PROXY"
        hint += f"; {name} is set, but requests never go through a proxy: give a base_url that is reachable without one"
    return hint
