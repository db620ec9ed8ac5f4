"""Where the requests of one session go: address, headers and key, joined once."""

from __future__ import annotations

import logging
import os

from dspex_actors.errors import LMError
from dspex_actors.lm import address
from dspex_actors.lm.deployment import Deployment
from dspex_actors.lm.keys import resolve, variable
from dspex_actors.lm.wire import PROVIDERS
from dspex_actors.lm.wire.base import Provider
from dspex_actors.lm.worker.http import Target

_log = logging.getLogger(__name__)


class Aim:
    """The targets of one deployment's requests. From the first one on the key is in them, and nowhere else.

    Args:
        deployment: whom to ask.
        base: its server.

    Raises:
        ConfigError: `base` is no address.
    """

    def __init__(self, deployment: Deployment, base: str) -> None:
        """Take aim, without the key: a wrong address is found now, while it is not near."""
        self._deployment = deployment
        #: By format, and whether the answer is to be streamed.
        self._targets: dict[tuple[Provider, bool], Target] = {}
        self.move(base)
        Target(self._url, {})

    def move(self, base: str) -> None:
        """Aim at another server from now on."""
        self._base = base
        self._url = address.join(base, PROVIDERS[self._deployment.provider].path(self._deployment.model_name))
        self._targets.clear()

    @property
    def is_secure(self) -> bool:
        """Whether the server speaks TLS."""
        return address.origin(self._url).startswith("https:")

    def target(self, provider: Provider, stream: bool = False) -> Target:
        """Return where a request goes.

        Args:
            provider: in which format.
            stream: its answer is to be streamed.

        Raises:
            LMError: there is no key.
        """
        return self._targets.get((provider, stream)) or self._take(provider, stream)

    def _take(self, provider: Provider, stream: bool) -> Target:
        deployment = self._deployment
        url = address.join(self._base, provider.path(deployment.model_name))
        headers = provider.headers()
        if stream:
            headers["accept"] = "text/event-stream"
            url = address.join(self._base, provider.stream_path(deployment.model_name))
        reference = deployment.key_reference
        if reference is not None:
            try:
                key = resolve(reference)
            except LMError as error:
                error.message = (
                    f"{error.message}; {deployment.provider} needs {variable(reference)}, or another api_key"
                )
                error.args = (error.message,)
                raise
            name, prefix = provider.key(url)
            headers[name] = prefix + key
        elif os.environ.get(deployment.withheld_key or "") and not address.is_loopback(url):
            _log.warning("%s at %s: %s", deployment.model, address.origin(url), deployment.why_no_key)
        target = self._targets[provider, stream] = Target(url, headers)
        return target
