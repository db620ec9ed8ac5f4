"""`dspex.PromptTemplate`: a prompt with variables, in parts that can be put together, inherited and improved. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.config_errors import ConfigKeyError, ConfigTypeError, ConfigValueError
from dspex_actors.programs import prompt_text
from dspex_actors.programs.prompt_records import Demo, best_wording, demonstrations, records_of
from dspex_actors.programs.prompt_text import Block, Mark, Part, Variable

#: Templates of a family that name each other as parents, one after the other.
_MOST_ANCESTORS = 100
#: Longest name of a template.
NAME_CHARACTERS = 200


@dataclass(frozen=True, slots=True, eq=False)
class PromptTemplate:
    """A prompt with variables. Made by `create`; it never changes: what improves it gives another one.

        base = PromptTemplate.create("base", "{% block role %}You answer questions.{% endblock %}\\n\\nQ: {question}")
        polite = PromptTemplate.create("polite", "{% block role %}{% parent %} Be kind.{% endblock %}", parent=base)
        polite.variables                   # ("question",)
        polite.render(question="Why?")     # "You answer questions. Be kind.\\n\\nQ: Why?"

    Args:
        name: its name; a template has no ancestor of its own name.
        text: what it says itself.
        parent: the template whose blocks it writes anew; None: none.
        demos: demonstrations; they stand at `{% demos %}`, else before everything.
    """

    name: str
    text: str
    parent: PromptTemplate | None
    demos: tuple[Demo, ...]
    _parts: tuple[Part, ...]

    @classmethod
    def create(cls, name: str, text: str, parent: PromptTemplate | None = None) -> Self:
        """Make a template.

        Args:
            name: of the template, 1 to 200 printable characters.
            text: `{name}` is a variable, `{{` and `}}` are braces; `{% block NAME %}...{% endblock %}` is a passage
                that children may write anew, with `{% parent %}` for what it said; `{% demos %}` is where
                demonstrations stand.
            parent: its blocks that `text` has are written anew; what `text` says outside of blocks follows the
                parent's text as a paragraph.

        Raises:
            ConfigError: an argument is not legal; the text has a brace or a tag that is none (with its line); the
                parent has no such block; it has an ancestor of its own name, a loop.
        """
        if not isinstance(name, str) or not name.strip() or len(name) > NAME_CHARACTERS or not name.isprintable():
            raise ConfigValueError(
                f"the name of the template is invalid: got {name!r:.60}, expected 1 to {NAME_CHARACTERS} printable "
                "characters"
            )
        what = f"template {name!r}"
        if not isinstance(text, str):
            raise ConfigTypeError(f"the text of the {what} is invalid: got {type(text).__name__}, expected a str")
        if parent is not None and not isinstance(parent, PromptTemplate):
            raise ConfigTypeError(
                f"the parent of the {what} is invalid: got {type(parent).__name__}, expected a PromptTemplate; "
                "templates that name each other are made by PromptTemplate.family({...})"
            )
        line, above = [name], parent
        while above is not None:
            line.append(above.name)
            if above.name == name:
                raise ConfigValueError(f"the {what} is invalid: its parents are a loop: {' -> '.join(line)}")
            above = above.parent
        parts = prompt_text.parse(what, text)
        if parent is None:
            prompt_text.without_parents(what, parts)
        else:
            parts = prompt_text.inherited(what, parts, parent._parts)
        prompt_text.one_place_for_demos(what, parts)
        return cls(name, text, parent, () if parent is None else parent.demos, parts)

    @classmethod
    def family(cls, templates: Mapping[str, str | Mapping[str, Any]]) -> dict[str, PromptTemplate]:
        """Make templates that name their parents, as a file has them.

        Args:
            templates: name → text, or `{"text": ..., "parent": the name of another one}`.

        Returns:
            The templates by name.

        Raises:
            ConfigError: as `create`; a parent that is not there; a loop of parents.
        """
        if not isinstance(templates, Mapping):
            raise ConfigTypeError(f"the templates are invalid: got {type(templates).__name__}, expected a dict by name")
        made: dict[str, PromptTemplate] = {}

        def make(name: str, line: tuple[str, ...]) -> PromptTemplate:
            if name in made:
                return made[name]
            if name in line:
                loop = " -> ".join((*line[line.index(name) :], name))
                raise ConfigValueError(f"the template {name!r} is invalid: its parents are a loop: {loop}")
            if len(line) == _MOST_ANCESTORS:
                raise ConfigValueError(f"the template {name!r} is invalid: more than {_MOST_ANCESTORS} follow it")
            given = templates.get(name)
            spec = {"text": given} if isinstance(given, str) else given
            if not isinstance(spec, Mapping) or "text" not in spec or set(spec) - {"text", "parent"}:
                why = f"got {given!r:.60}, expected a text, or a dict of text and parent"
                if given is None:
                    why = f"nobody is called that; there are {', '.join(map(str, templates))}"
                raise ConfigValueError(f"the template {name!r} is invalid: {why}")
            above = spec.get("parent")
            if above is not None and not isinstance(above, str):
                raise ConfigValueError(
                    f"the template {name!r} is invalid: got the parent {above!r:.60}, expected another one's name"
                )
            parent = None if above is None else make(above, (*line, name))
            made[name] = cls.create(name, spec["text"], parent)
            return made[name]

        return {name: make(name, ()) for name in templates}

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables, its ancestors' too, each once, in the order in which they come."""
        return prompt_text.variables(self._parts)

    @property
    def blocks(self) -> tuple[str, ...]:
        """The names of the blocks that a child may write anew."""
        return tuple(prompt_text.blocks(self._parts))

    def render(self, /, **values: Any) -> str:
        """Return the prompt.

        Args:
            **values: of all variables: texts and numbers as they are, lists and dicts as JSON. What stands in a value
                is never read as a variable.

        Raises:
            ConfigError: one is missing, unknown, or None.
        """
        names = self.variables
        wrong = [
            f"{problem} {', '.join(found)}"
            for problem, found in (
                ("missing", [name for name in names if name not in values]),
                ("unknown", [name for name in values if name not in names]),
                ("None as", [name for name in names if name in values and values[name] is None]),
            )
            if found
        ]
        if wrong:
            raise ConfigKeyError(
                f"the template {self.name!r} cannot be rendered: got {'; '.join(wrong)}; expected "
                f"{', '.join(names) or 'no values'}"
            )
        shown = {name: self._shown(name, value) for name, value in values.items()}
        demos = "\n\n".join(_demo_text(demo) for demo in self.demos)
        text = _rendered(self._parts, shown, demos)
        is_placed = any(part == Mark("demos") for part in prompt_text.walk(self._parts))
        return f"{demos}\n\n{text}" if demos and not is_placed else text

    def compose(self, other: PromptTemplate) -> PromptTemplate:
        """Return this template followed by another one, as paragraphs; a variable of both is one.

        Raises:
            ConfigError: the other one is none, or both have a block of one name, or a place for
                demonstrations.
        """
        if not isinstance(other, PromptTemplate):
            raise ConfigTypeError(
                f"what the template {self.name!r} is composed with is invalid: got {type(other).__name__}, expected "
                "another PromptTemplate"
            )
        both = set(self.blocks).intersection(other.blocks)
        if both:
            raise ConfigValueError(
                f"the templates {self.name!r} and {other.name!r} cannot be composed: both have a block "
                f"{', '.join(sorted(both))}"
            )
        name = f"{self.name}+{other.name}"[:NAME_CHARACTERS]
        parts = prompt_text.joined(self._parts, other._parts)
        prompt_text.one_place_for_demos(f"template {name!r}", parts)
        demos = (*self.demos, *(demo for demo in other.demos if demo not in self.demos))
        return PromptTemplate(name, prompt_text.written(parts), None, demos, parts)

    def with_demos(self, *demos: Demo) -> Self:
        """Return the template with these demonstrations, and no others."""
        for demo in demos:
            if not isinstance(demo, Demo):
                raise ConfigTypeError(f"a demonstration is invalid: got {type(demo).__name__}, expected a Demo")
        return replace(self, demos=demos)

    def optimize(self, performance_data: Any, *, max_demos: int = 4, threshold: float | None = None) -> Self:
        """Return the template as what was recorded says that it should be.

        1. Of the wordings that were recorded, the one with the best mean score is taken; a few records count less than
           many. One with other variables is never taken.
        2. The records with the best scores become its demonstrations: each input once, best first.

        Nothing is asked; the same records always give the same template.

        Args:
            performance_data: an EvaluationResult; or records `{"inputs": {...}, "output": ..., "score": 0.9}`, with
                `text` where the wording was another one than this template's; or `(example, prediction, score)`.
            max_demos: so many demonstrations at most.
            threshold: the score that a demonstration has to have; None: any above 0.

        Raises:
            ConfigError: a record is none, or nothing has a score.
        """
        if isinstance(max_demos, bool) or not isinstance(max_demos, int) or max_demos < 0:
            raise ConfigError(f"max_demos is invalid: got {max_demos!r:.40}, expected a whole number, at least 0")
        if threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, int | float)):
            raise ConfigError(f"threshold is invalid: got {threshold!r:.40}, expected a number, or None")
        records = records_of(performance_data)
        others = {record.text for record in records if record.text is not None}
        text = best_wording(records, self.text, {other: self._may_say(other) for other in others})
        made = self if text == self.text else type(self).create(self.name, text, self.parent)
        mine = [record for record in records if (record.text if record.text is not None else self.text) == text]
        found = demonstrations(mine, made.variables, max_demos, threshold)
        return replace(made, demos=found or self.demos[:max_demos])

    def _shown(self, name: str, value: Any) -> str:
        try:
            return _text(value)
        except Exception as error:  # its own `__str__` may raise anything
            raise ConfigValueError(
                f"the template {self.name!r} cannot be rendered: the value of {name} cannot be shown: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _may_say(self, text: str) -> bool:
        try:
            return set(type(self).create(self.name, text, self.parent).variables) == set(self.variables)
        except ConfigError:
            return False

    def __eq__(self, other: object) -> bool:
        """Tell whether another one renders as this one, under the same name."""
        return isinstance(other, PromptTemplate) and self._key() == other._key()

    def __hash__(self) -> int:
        """Hash it."""
        return hash((self.name, self._parts))

    def _key(self) -> tuple[Any, ...]:
        return self.name, self._parts, self.demos

    def __repr__(self) -> str:
        """Show its name and its variables."""
        return f"PromptTemplate({self.name!r}, variables={list(self.variables)}, demos={len(self.demos)})"


def _rendered(parts: tuple[Part, ...], values: Mapping[str, str], demos: str) -> str:
    found = []
    for part in parts:
        match part:
            case str():
                found.append(part)
            case Variable(name):
                found.append(values[name])
            case Block(_, inner):
                found.append(_rendered(inner, values, demos))
            case Mark():
                found.append(demos)
    return "".join(found)


def _demo_text(demo: Demo) -> str:
    return "\n".join(f"{name}: {_text(value)}" for name, value in (*demo.inputs.items(), *demo.outputs.items()))


def _text(value: Any) -> str:
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
