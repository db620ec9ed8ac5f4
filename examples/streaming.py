"""Read answers as they come: an LM's own words, and one field of a program, beside what the program is doing.

python examples/streaming.py             # asks a stand-in LM, which takes its time
python examples/streaming.py openai/gpt-4o-mini      # asks a real one (OPENAI_API_KEY)
"""

import asyncio
import sys

import dspex_actors as dspex
from dspex_actors.streaming import StatusMessage, StatusMessageProvider, StreamListener, StreamResponse

STORY = "Once upon a time there was a queue. It was long, and nobody liked it. Then somebody put a supervisor over it."
ANSWER = "[[ ## reasoning ## ]]\nShort.\n\n[[ ## moral ## ]]\nWho restarts is not lost.\n\n[[ ## completed ## ]]"


class Told(StatusMessageProvider):
    """Says what the program does."""

    def lm_start_status_message(self, instance, inputs):
        """Say that the LM is asked."""
        return "asking"


def read_in_a_thread(lm):
    """Print an LM's answer word by word, and what it took."""
    with lm.stream("Tell me a story about a queue.") as story:
        for piece in story:
            print(piece, end="", flush=True)
    print(f"\n{story.reply.usage.output_total} tokens")


async def read_on_an_event_loop(lm):
    """Stop in the middle: the request ends with it."""
    count = 0
    async with lm.stream("Tell me a long story.") as story:
        async for _ in story:
            count += 1
            if count == 3:
                break
    print(f"{count} pieces were enough")


def read_a_field(lm):
    """Print one field of a program's answer as it comes, and its prediction at last."""
    program = dspex.ChainOfThought("story -> moral")
    listeners = [StreamListener("moral")]
    tell = dspex.streamify(program, stream_listeners=listeners, status_message_provider=Told(), async_streaming=False)
    with dspex.context(lm=lm):
        for value in tell(story=STORY):
            if isinstance(value, StatusMessage):
                print(f"({value.message})")
            elif isinstance(value, StreamResponse):
                print(value.chunk, end="\n" if value.is_last_chunk else "|")
            else:
                print(f"moral: {value.moral}")


def main():
    """Read in all three ways."""
    if len(sys.argv) > 1:
        with dspex.connect():
            lm = dspex.LM(sys.argv[1])
            read_in_a_thread(lm)
            asyncio.run(read_on_an_event_loop(lm))
            read_a_field(lm)
        return
    for answer, read in ((STORY, read_in_a_thread), (STORY, read_on_an_event_loop), (ANSWER, read_a_field)):
        with dspex.connect(embedded={"answer": answer, "piece_delay_ms": 10}):
            result = read(dspex.LM("embedded/nearest"))
            if result is not None:
                asyncio.run(result)


if __name__ == "__main__":
    main()
