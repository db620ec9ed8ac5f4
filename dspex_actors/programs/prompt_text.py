"""The text of a prompt template, as parts: words, `{variables}`, `{% block name %}`s, the place of the demonstrations.

Pure. A template reads its text once; what is wrong with it is told with its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dspex_actors.foundation.config_errors import ConfigValueError


@dataclass(frozen=True, slots=True)
class Variable:
    """What `render` fills in."""

    name: str


@dataclass(frozen=True, slots=True)
class Block:
    """A passage that a child may write anew."""

    name: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """`{% demos %}`: the demonstrations stand here; `{% parent %}`: what the parent's block says stands here."""

    kind: str


Part = str | Variable | Block | Mark

#: A template has no more parts than this, with its parents' words.
_MOST_PARTS = 10_000
#: So deep blocks may stand in blocks.
_DEEPEST = 50

#: A tag that is alone on its line takes the line with it.
_TOKEN = re.compile(
    r"(?P<line>^[ \t]*\{%(?:(?!%\})[^\n])*%\}[ \t]*(?:\n|\Z))|(?P<tag>\{%.*?%\})|(?P<twice>\{\{|\}\})|(?P<brace>[{}])",
    re.MULTILINE | re.DOTALL,
)
_TAG = re.compile(r"\s*\{%\s*(\w+)(?:\s+([\w.-]+))?\s*%\}\s*")
_NAME = re.compile(r"\{\s*([^\W\d]\w*)\s*\}")


def parse(what: str, text: str) -> tuple[Part, ...]:
    """Return the parts of a text.

    Args:
        what: the template, as errors call it.
        text: `{name}` is a variable, `{{` and `}}` are braces.

    Raises:
        ConfigValueError: a brace or a tag that is none, a block without an end, two blocks of one name.
    """
    return _Reading(what, text).parts()


class _Reading:
    def __init__(self, what: str, text: str) -> None:
        self._what, self._text, self._at = what, text, 0
        self._names: set[str] = set()
        self._depth = 0

    def parts(self) -> tuple[Part, ...]:
        parts = self._until_end(None, 0)
        return tuple(parts)

    def _until_end(self, block: str | None, began: int) -> list[Part]:
        parts: list[Part] = []
        while (token := _TOKEN.search(self._text, self._at)) is not None:
            _say(parts, self._text[self._at : token.start()])
            self._at = token.end()
            if token["twice"] is not None:
                _say(parts, token["twice"][0])
            elif token["brace"] is not None:
                parts.append(self._variable(token.start()))
            elif self._tag(token[0], token.start(), block, parts):
                return parts
        if block is not None:
            self._refuse(began, f"the block {block} has no {{% endblock %}}")
        _say(parts, self._text[self._at :])
        return parts

    def _variable(self, place: int) -> Variable:
        found = _NAME.match(self._text, place)
        if found is None:
            shown = self._text[place : place + 20].split("\n")[0]
            self._refuse(place, f"got {shown!r}, expected a {{variable}}; a brace is written twice, as {{{{ and }}}}")
        assert found is not None
        self._at = found.end()
        return Variable(found[1])

    def _tag(self, token: str, place: int, block: str | None, parts: list[Part]) -> bool:
        """Take a tag in; whether it ends the block."""
        found = _TAG.fullmatch(token)
        match (found[1], found[2]) if found else ("", None):
            case ("block", str(name)):
                if self._depth == _DEEPEST:
                    self._refuse(place, f"blocks stand in blocks, more than {_DEEPEST} deep")
                if name in self._names:
                    self._refuse(place, f"there are two blocks called {name}")
                self._names.add(name)
                self._depth += 1
                parts.append(Block(name, tuple(self._until_end(name, place))))
                self._depth -= 1
            case ("endblock", name) if block is not None and name in (None, block):
                return True
            case ("parent", None) if block is not None:
                parts.append(Mark("parent"))
            case ("demos", None):
                parts.append(Mark("demos"))
            case _:
                self._refuse(
                    place,
                    f"got {token.strip()!r:.60}, expected {{% block NAME %}}, {{% endblock %}}, {{% demos %}}, or "
                    "{% parent %} in a block",
                )
        return False

    def _refuse(self, place: int, why: str) -> None:
        line = self._text.count("\n", 0, place) + 1
        raise ConfigValueError(f"the {self._what} is invalid in line {line}: {why}")


def _say(parts: list[Part], words: str) -> None:
    if words and parts and isinstance(parts[-1], str):
        parts[-1] += words
    elif words:
        parts.append(words)


def walk(parts: Sequence[Part]) -> Iterator[Part]:
    """Give all parts, those in blocks too."""
    for part in parts:
        yield part
        if isinstance(part, Block):
            yield from walk(part.parts)


def variables(parts: Sequence[Part]) -> tuple[str, ...]:
    """Return the variables, each once, in the order in which they come."""
    return tuple(dict.fromkeys(part.name for part in walk(parts) if isinstance(part, Variable)))


def blocks(parts: Sequence[Part]) -> dict[str, Block]:
    """Return the blocks by name."""
    return {part.name: part for part in walk(parts) if isinstance(part, Block)}


def inherited(what: str, own: Sequence[Part], parent: Sequence[Part]) -> tuple[Part, ...]:
    """Return a parent's parts with the blocks that a child writes anew; what it says outside of blocks follows.

    Raises:
        ConfigValueError: the parent has no such block, or the child takes the parent's words where there are none.
    """
    known = blocks(parent)
    anew: dict[str, Block] = {}
    rest: list[Part] = []
    for part in own:
        if not isinstance(part, Block):
            rest.append(part)
        elif part.name in known:
            anew[part.name] = Block(part.name, _with_parents(part.parts, known[part.name].parts, known))
        else:
            there = ", ".join(known) or "none"
            raise ConfigValueError(f"the {what} is invalid: got a block {part.name}, its parent has {there}")
    made = _with_blocks(parent, anew)
    if sum(1 for _ in zip(walk(made), range(_MOST_PARTS + 1), strict=False)) > _MOST_PARTS:
        raise ConfigValueError(
            f"the {what} is invalid: with its parents' words it has more than {_MOST_PARTS:,} parts; does each take "
            "{% parent %} twice?"
        )
    if all(isinstance(part, str) and not part.strip() for part in rest):
        return made
    if isinstance(rest[0], str):
        rest[0] = rest[0].lstrip("\n")
    return joined(made, rest)


def _with_parents(parts: Sequence[Part], words: Sequence[Part], known: Mapping[str, Block]) -> tuple[Part, ...]:
    """Return a child's block with its parent's words where it takes them: a block in it has those of its own name."""
    found: list[Part] = []
    for part in parts:
        if part == Mark("parent"):
            found.extend(words)
        elif isinstance(part, Block):
            own = known[part.name].parts if part.name in known else words
            found.append(Block(part.name, _with_parents(part.parts, own, known)))
        else:
            found.append(part)
    return tuple(found)


def _with_blocks(parts: Sequence[Part], anew: Mapping[str, Block]) -> tuple[Part, ...]:
    """Return parts with blocks written anew, those too that stand in what a block takes over from its parent."""
    found: list[Part] = []
    for part in parts:
        if isinstance(part, Block):
            chosen = anew.get(part.name, part)
            rest = {name: block for name, block in anew.items() if name != part.name}
            found.append(Block(part.name, _with_blocks(chosen.parts, rest)))
        else:
            found.append(part)
    return tuple(found)


def joined(first: Sequence[Part], second: Sequence[Part]) -> tuple[Part, ...]:
    """Return two texts as paragraphs after each other."""
    head = _without_last_lines(first)
    return (*head, *(["\n\n"] if head else []), *second)


def _without_last_lines(parts: Sequence[Part]) -> list[Part]:
    found = list(parts)
    if found and isinstance(found[-1], str):
        found[-1] = found[-1].rstrip("\n")
    elif found and isinstance(found[-1], Block):
        found[-1] = Block(found[-1].name, tuple(_without_last_lines(found[-1].parts)))
    return found


def without_parents(what: str, parts: Sequence[Part]) -> None:
    """Refuse `{% parent %}` where there is no parent.

    Raises:
        ConfigValueError: there is one.
    """
    if any(part == Mark("parent") for part in walk(parts)):
        raise ConfigValueError(f"the {what} is invalid: got {{% parent %}}, but it has no parent")


def one_place_for_demos(what: str, parts: Sequence[Part]) -> None:
    """Refuse a text in which demonstrations would stand twice.

    Raises:
        ConfigValueError: it has two places for them.
    """
    if sum(part == Mark("demos") for part in walk(parts)) > 1:
        raise ConfigValueError(f"the {what} is invalid: got {{% demos %}} twice, expected one place for them")


def written(parts: Sequence[Part]) -> str:
    """Return parts as a text, to be looked at."""
    found = []
    for part in parts:
        match part:
            case str():
                found.append(part.replace("{", "{{").replace("}", "}}"))
            case Variable(name):
                found.append(f"{{{name}}}")
            case Block(name, inner):
                found.append(f"{{% block {name} %}}{written(inner)}{{% endblock %}}")
            case Mark(kind):
                found.append(f"{{% {kind} %}}")
    return "".join(found)
