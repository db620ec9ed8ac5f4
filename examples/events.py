"""An event of one's own: emitted while a program runs, asked for afterwards, shown in the tree of what led to it.

python examples/events.py
"""

import dspex_actors as dspex


class ToolUsed(dspex.Event):
    """A tool was called."""

    tool_name: str
    hits: int = 0


def search(events, text):
    """Stand in for a search; say that it was used."""
    found = [word for word in ("invoice", "refund", "crash") if word in text]
    events.emit(ToolUsed(tool_name="search", hits=len(found)))
    return found


def main():
    """Emit, query, show the tree."""
    with dspex.connect(workers=1) as system:
        with dspex.operation("answer", correlation_id="order-17", customer=7):
            search(system.events, "the invoice is wrong: refund it")
            search(system.events, "good morning")
            system.events.emit(ToolUsed(tool_name="mail"))
        for event in system.events.query(type=ToolUsed, where={"tool_name": "search"}):
            print(f"{event.tool_name}: {event.hits} hits, in {event.correlation_id}")
        show(system.events.trace_tree("order-17"))


def show(node, depth=0):
    """Print an event and what came of it."""
    print("  " * depth + node.event.type)
    for child in node.children:
        show(child, depth + 1)


if __name__ == "__main__":
    main()
