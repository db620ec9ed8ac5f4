"""The validator: are the inputs of an inference what the program takes?"""

from __future__ import annotations

from typing import Any

from dspex_actors.cache.key import pack_inputs
from dspex_actors.data.fields import unpack_example
from dspex_actors.ecosystem.inference.base import InferenceMember
from dspex_actors.ecosystem.inference.messages import Check, Checked, Verdict
from dspex_actors.ecosystem.inference.rules import InputRules
from dspex_actors.observe.reporting import report_from_actor
from dspex_actors.runs.spec import load_code
from supervisors import Caller

#: So many different warnings are logged; the rest only goes with the answers.
LOGGED = 100


class InputValidator(InferenceMember):
    """Checks inputs, or coerces them. Arguments: packed `InputRules`, and whether what does not fit is refused."""

    def init(self, rules: bytes, strict: bool) -> None:
        """Open the rules, which may hold the user's classes."""
        self._rules: InputRules = load_code(rules)
        self._strict = strict
        self._counts = {"checked": 0, "refused": 0, "changed": 0}
        self._warned: set[str] = set()
        self._events = report_from_actor(self)

    def handle_call(self, request: Any, caller: Caller) -> Any:
        """Check a batch, or show the counts."""
        match request:
            case Check(inputs):
                return Checked([self._verdict(each) for each in inputs])
            case "stats":
                return self._counts
        return super().handle_call(request, caller)

    def _verdict(self, packed: bytes) -> Verdict:
        self._counts["checked"] += 1
        try:
            inputs, _ = unpack_example(packed, objects="load")
        except Exception as error:
            self._counts["refused"] += 1
            message = f"the inputs cannot be opened on the node: {type(error).__name__}: {error}"
            return Verdict(None, [{"input": "", "problem": "mistyped", "message": message}], [])
        try:
            return self._looked_at(inputs)
        except Exception as error:  # a validator of the user's own types may raise anything
            message = f"the inputs cannot be checked: {type(error).__name__}: {error}"
            if self._strict:
                return Verdict(None, [{"input": "", "problem": "refused", "message": message}], [])
            return Verdict(None, [], [message])

    def _looked_at(self, inputs: dict[str, Any]) -> Verdict:
        if self._strict:
            findings = self._rules.check(inputs)
            self._counts["refused"] += bool(findings)
            return Verdict(None, findings, [])
        made, warnings = self._rules.coerce(inputs)
        if not warnings:
            return Verdict(None, [], [])
        self._counts["changed"] += 1
        for warning in warnings:
            if warning not in self._warned and len(self._warned) < LOGGED:
                self._warned.add(warning)
                self.log.warning("inputs of an inference were changed", what=warning)
        return Verdict(pack_inputs(made), [], warnings)
