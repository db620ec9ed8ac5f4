"""A server that owns what a lease is for."""

import os

from supervisors.cluster.leases.handle import AsyncLeases
from supervisors.system_server import SystemServer


class Owner(SystemServer):
    """Owns something, knows under which epoch it believes to own it, and tells what it is told."""

    def init(self, ttl, value=None):
        self.ttl, self.value, self.told, self.holding = ttl, value, [], None

    async def answer(self, request, caller):
        match request:
            case ("acquire", name, wait, *above):
                self.holding = await AsyncLeases(self).acquire(name, self.ttl, self.value, wait, *above)
                return self.holding.epoch
            case "check":
                return self.holding.check()
            case "release":
                return await self.holding.release()
            case ("value", value):
                return await self.holding.set_value(value)
            case ("watch", prefix):
                return await AsyncLeases(self).watch(prefix)
            case "told":
                return self.told
            case "pid":
                return os.getpid()

    def take_info(self, message):
        self.told.append(message)
