"""A stand-in LM that knows when each example was asked: in a process of its own, so that no fault touches it.

    python counted_server.py LATENCY_SECONDS HOST      prints its URL

`GET /asked` has a pair for each request, in order: when it came (time.monotonic, which all processes of a host share)
and the number of its ticket.
"""

import asyncio
import json
import re
import sys
import time

ANSWER = "[[ ## team ## ]]\nbilling\n\n[[ ## completed ## ]]"
USAGE = {"prompt_tokens": 50, "completion_tokens": 10, "total_tokens": 60}
MESSAGE = {"role": "assistant", "content": ANSWER}
REPLY = {
    "id": "x",
    "model": "x",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
    "usage": USAGE,
}
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_TICKET = re.compile(rb"ticket (\d+)")

asked = []


def framed(body):
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def serve(reader, writer, latency):
    answer = framed(json.dumps(REPLY).encode())
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET /asked"):
                writer.write(framed(json.dumps(asked).encode()))
                await writer.drain()
                continue
            body = await reader.readexactly(int(_LENGTH.search(head).group(1)))
            asked.append((time.monotonic(), int(_TICKET.findall(body)[-1])))
            await asyncio.sleep(latency)
            writer.write(answer)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main(latency, host):
    server = await asyncio.start_server(lambda *ends: serve(*ends, latency), host, 0, backlog=1000)
    print(f"http://{host}:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), sys.argv[2]))
