"""Prompts with types beyond text, as a table: written once for DSPy, which the expected messages come from, and for us.

`recorded(dspy, Document)` with DSPy 3.4.1 is what stands in dspy_types.json, its own sentences replaced by marks.
"""

from typing import Any

from pydantic import BaseModel, create_model

PNG = "data:image/png;base64,iVBORw0KGgo="
URL = "https://x.org/a.png"
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAgD4AAAB9AAACABAAZGF0YQAAAAA="
PDF = "data:application/pdf;base64,JVBERi0xLjQ="


class Note(BaseModel):
    title: str
    tags: list[str] = []


def search(q: str, k: int = 3) -> list[str]:
    """Search the web."""
    return [q] * k


def signature(d: Any, inputs: dict[str, Any], outputs: dict[str, Any]) -> Any:
    fields = {name: (kind, d.InputField()) for name, kind in inputs.items()}
    fields |= {name: (kind, d.OutputField()) for name, kind in outputs.items()}
    return d.Signature(fields, "Do it.")


def cases(d: Any, document: Any) -> dict[str, tuple[Any, dict[str, Any], list[Any], Any]]:
    """Return name → (signature, inputs, demos, adapter)."""
    chat, json, native = d.ChatAdapter(), d.JSONAdapter(), d.ChatAdapter(use_native_function_calling=True)
    image, remote = d.Image(PNG), d.Image(URL)
    audio = d.Audio(data=WAV, audio_format="wav")
    file = d.File(file_data=PDF, filename="a.pdf")
    page = create_model("Page", text=(str, ...), picture=(d.Image, ...), other=(d.Image | None, None))
    one = signature(d, {"image": d.Image, "q": str}, {"a": str})
    many = signature(d, {"q": str, "images": list[d.Image], "by_name": dict[str, d.Image]}, {"a": str})
    model = signature(d, {"page": page, "s": str}, {"code": d.Code["java"], "why": d.Reasoning, "n": int})
    media = signature(
        d, {"au": d.Audio, "f": d.File, "docs": list[document], "doc": document, "code": d.Code}, {"a": str}
    )
    media_inputs = {
        "au": audio,
        "f": file,
        "docs": [document(data='x\n"y"', title="t"), document(data="z")],
        "doc": document(data="d", context="c"),
        "code": d.Code(code="x = 1"),
    }
    talk = signature(d, {"question": str, "history": d.History}, {"answer": str, "n": int})
    history = d.History(
        messages=[
            {"question": "q1", "answer": "a1", "n": 1},
            {"question": "q2", "answer": "a2"},
            {"answer": "only"},
            {"question": "only q"},
            {"other": 1},
        ]
    )
    seen = signature(d, {"image": d.Image, "history": d.History}, {"answer": str})
    seen_before = d.History(messages=[{"image": image, "answer": "a cat"}])
    tool = d.Tool(search)
    tools = signature(d, {"q": str, "tools": list[d.Tool]}, {"calls": d.ToolCalls})
    one_tool = signature(d, {"q": str, "tool": d.Tool}, {"calls": d.ToolCalls})
    calls = d.ToolCalls.from_dict_list([{"id": "c1", "name": "search", "args": {"q": "z"}}])
    results = [{"call_id": "c1", "name": "search", "value": ["r", Note(title="é")], "is_error": False}]
    answered = calls.model_copy(update={"tool_call_results": results})
    stranger = calls.model_copy(update={"tool_call_results": [{**results[0], "call_id": "c2"}]})
    agent = signature(
        d, {"q": str, "history": d.History, "tools": list[d.Tool]}, {"thought": str, "calls": d.ToolCalls}
    )
    steps = d.History(
        messages=[
            {"q": "a", "thought": "hm", "calls": calls},
            {"thought": "x", "calls": answered},
            {"calls": stranger},
            {"calls": {"tool_calls": [{"name": "search", "args": {}}]}, "thought": None},
        ]
    )
    asked = {"q": "x", "history": steps, "tools": [tool]}
    said = signature(d, {"q": str}, {"picture": d.Image, "code": d.Code["c++"], "why": d.Reasoning})
    shown = {"q": "1", "picture": remote, "code": d.Code["c++"](code="int x;"), "why": d.Reasoning(content="so")}
    demos = [d.Example(image=remote, q="1", a="2"), {"q": "only", "a": "b"}, {"image": image, "a": "c"}]
    return {
        "an image": (one, {"image": image, "q": "what?"}, demos, chat),
        "an image, JSON": (one, {"image": image, "q": "what?"}, demos, json),
        "an image alone at the end": (
            signature(d, {"q": str, "image": d.Image}, {}),
            {"q": "", "image": image},
            [],
            chat,
        ),
        "images in containers": (
            many,
            {"q": "é", "images": [image, remote], "by_name": {'é"k': image, "two": remote}},
            [{"q": "d", "images": [remote], "by_name": {}, "a": "x"}],
            chat,
        ),
        "an image in a text's field": (model, {"page": page(text="x", picture=image), "s": remote}, [], chat),
        "an image in a model, JSON": (model, {"page": page(text="x", picture=image, other=remote), "s": ""}, [], json),
        "sound, files, documents, code": (media, media_inputs, [{**media_inputs, "a": "1"}], chat),
        "a history": (talk, {"question": "q", "history": history}, [], chat),
        "a history, JSON": (talk, {"question": "q", "history": history}, [], json),
        "a history and demos": (
            talk,
            {"question": "q", "history": d.History(messages=[])},
            [{"question": "d", "history": history, "answer": "a", "n": 3}, {"question": "d2", "answer": "a", "n": 3}],
            chat,
        ),
        "no history": (talk, {"question": "q"}, [], chat),
        "a history with images": (seen, {"image": remote, "history": seen_before}, [], chat),
        "tools in words": (tools, {"q": "x", "tools": [tool]}, [{"q": "1", "tools": [tool], "calls": calls}], chat),
        "one tool, JSON": (one_tool, {"q": "x", "tool": tool}, [{"q": "1", "tool": tool, "calls": calls}], json),
        "steps of an agent": (agent, asked, [], chat),
        "steps of an agent, JSON": (agent, asked, [], json),
        "steps of an agent, by the provider's way": (agent, asked, [], native),
        "outputs in demos": (said, {"q": "x"}, [shown], chat),
        "outputs in demos, JSON": (said, {"q": "x"}, [shown], json),
    }


def marked(adapter: Any, sig: Any, messages: list[Any], sentences: dict[str, str]) -> list[Any]:
    """Return messages without the system's, with marks for sentences that DSPy and we say in words of our own."""

    def mark(text: Any) -> Any:
        for words, name in sentences.items():
            text = text.replace(words, name) if isinstance(text, str) else text
        return text

    told = []
    for message in messages[1:]:
        content = message["content"]
        if isinstance(content, list):
            content = [{**part, "text": mark(part["text"])} if part["type"] == "text" else part for part in content]
        told.append({**message, "content": mark(content)})
    return told
