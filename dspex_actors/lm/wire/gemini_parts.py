"""Gemini's parts: as what a reply says, and as what a conversation says to it."""

from __future__ import annotations

import math
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.lm.content.logprobs import Logprob
from dspex_actors.lm.content.parts import Image, Part, Text, signature_of
from dspex_actors.lm.wire.content import data_url, image_url, refuse, thinking, without_document
from dspex_actors.lm.wire.said import call, other, thoughts
from dspex_actors.lm.wire.tools import call_of, is_call

#: Of the ids of calls that were given none; they are ours alone, and Gemini is not told of them.
OUR_IDS = "dspex_call_"
#: Keys of a part that is a text, or a thought, and nothing else: such parts in a row are one.
_PLAIN = frozenset({"text", "thought"})
#: Google's own word for a call that another model has made, and that has no signature.
_UNSIGNED = "skip_thought_signature_validator"
_FILES = "https://generativelanguage.googleapis.com/v1beta/"


def parts_said(parts: list[dict[str, Any]], reply: str | None) -> list[Part]:
    """Return what the parts of a reply say.

    Args:
        parts: Gemini's.
        reply: the id of the reply, by which calls without an id are told apart.
    """
    found: list[Part] = []
    growing: tuple[bool, list[str]] | None = None  # texts in a row: whether they are thoughts, and the texts
    calls = 0

    def settle() -> None:
        if growing is not None:
            text = "".join(growing[1])
            found.append(thoughts(text, "gemini") if growing[0] else Text(text))

    for part in parts:
        text, is_thought = part.get("text"), bool(part.get("thought"))
        if isinstance(text, str) and _PLAIN.issuperset(part):
            if growing is not None and growing[0] == is_thought:
                growing[1].append(text)
                continue
            settle()
            growing = is_thought, [text]
            continue
        settle()
        growing = None
        signature = part.get("thoughtSignature")
        signature = signature if isinstance(signature, str) else None
        if isinstance(text, str):
            found.append(thoughts(text, "gemini", part) if is_thought else Text(text, signature=signature))
        elif isinstance(function := part.get("functionCall"), dict):
            number = function.get("id") or f"{OUR_IDS}{reply or ''}_{calls}"
            made = call(function.get("name"), function.get("args"), number, signature)
            found += [made] if made else []
            calls += 1
        else:
            found.append(_picture(part) or other(part))
    settle()
    return found


def _picture(part: dict[str, Any]) -> Image | None:
    """Return a picture that was made, if that is all that the part says."""
    inline = part.get("inlineData")
    if not isinstance(inline, dict) or part.keys() != {"inlineData"} or inline.keys() != {"mimeType", "data"}:
        return None
    try:
        return Image(f"data:{inline['mimeType']};base64,{inline['data']}")
    except ConfigError:
        return None


def logprobs_said(result: dict[str, Any]) -> tuple[Logprob, ...] | None:
    """Return the log probabilities of a candidate's `logprobsResult`; None where there are none."""
    chosen, likeliest = result.get("chosenCandidates"), result.get("topCandidates")
    if not isinstance(chosen, list):
        return None
    tops = likeliest if isinstance(likeliest, list) else []
    rows = []
    for place, each in enumerate(chosen):
        if (row := _row(each)) is None:
            continue
        told = tops[place].get("candidates") if place < len(tops) and isinstance(tops[place], dict) else None
        top = [pair for one in (told if isinstance(told, list) else ()) if (pair := _row(one)) is not None]
        rows.append(Logprob(*row, tuple(top)))
    return tuple(rows) or None


def _row(told: Any) -> tuple[str, float] | None:
    if not isinstance(told, dict) or not isinstance(told.get("token"), str):
        return None
    value = told.get("logProbability")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return told["token"], float(value)


def gemini_id(number: str) -> dict[str, str]:
    """Return the id of a call as Gemini has it; nothing where it gave none, or another provider gave it."""
    return {} if not number or number.startswith(OUR_IDS) else {"id": number}


def part_told(part: dict[str, Any], names: dict[str, str]) -> dict[str, Any] | None:
    """Return a part of a message, or a tool call in it, as Gemini takes it; None: it is nothing for Gemini.

    Args:
        part: of a plain message.
        names: the tools' names by the ids of their calls; calls are entered.

    Raises:
        InvalidRequest: Gemini has no way to say it.
    """
    signature = signature_of(part)
    signed = {"thoughtSignature": signature} if signature is not None else {}
    part = without_document(part)
    kind = part.get("type")
    if is_call(part):
        number, name, arguments = call_of("gemini", part)
        names[number] = name
        return {"functionCall": {**gemini_id(number), "name": name, "args": arguments}, **signed}
    if kind == "text":
        return {"text": part["text"], **signed}
    if kind == "thinking" and "provider" in part:
        return thinking(part, "gemini")
    if kind == "image_url":
        inline = data_url(image_url("gemini", part))
        if inline is None:
            # Fetching it for the user would make this process a way into the network it runs in.
            raise refuse("gemini", "it takes no image addresses; give the image as a base64 data: URL")
        return {"inlineData": {"mimeType": inline[0], "data": inline[1]}}
    if kind == "input_audio":
        audio = part["input_audio"]
        return {"inlineData": {"mimeType": f"audio/{audio['format']}", "data": audio["data"]}}
    if kind == "file":
        return _file(part["file"])
    return part  # Gemini's own parts as they are


def _file(file: dict[str, Any]) -> dict[str, Any]:
    number = file.get("file_id")
    if isinstance(number, str) and number:
        if not number.startswith(("https://", "gs://", "files/")):
            raise refuse("gemini", "a file_id is the uri of an uploaded file, such as 'https://.../v1beta/files/abc'")
        return {"fileData": {"fileUri": f"{_FILES}{number}" if number.startswith("files/") else number}}
    inline = data_url(str(file.get("file_data", "")))
    if inline is None:
        raise refuse("gemini", "a file part needs file_data as a base64 data: URL, or a file_id")
    return {"inlineData": {"mimeType": inline[0], "data": inline[1]}}


def let_unsigned_calls_pass(parts: list[dict[str, Any]]) -> None:
    """Say of the first call in a message that it is another model's, if it is not signed: Gemini 3 refuses it else."""
    first = next((place for place, part in enumerate(parts) if "functionCall" in part), None)
    if first is not None:
        parts[first] = {"thoughtSignature": _UNSIGNED, **parts[first]}  # a copy: it may be the caller's
