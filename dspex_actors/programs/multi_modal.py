"""`MultiModal`: text, pictures, sound and files, each asked of a model that takes it, and what they say fused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from dspex_actors.example import Prediction
from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.programs.module import Module
from dspex_actors.programs.predict import Predict
from dspex_actors.programs.steps import Ask, Parallel, Steps
from dspex_actors.programs.trajectory import listed
from dspex_actors.settings import check_lm, settings
from dspex_actors.signatures.fields import InputField, OutputField
from dspex_actors.signatures.signature import Signature, make_signature
from dspex_actors.types.audio import Audio
from dspex_actors.types.base import Type
from dspex_actors.types.file import File
from dspex_actors.types.image import Image

#: What is no text: by name, the type of its values, and what of `Capabilities` says that a model takes it.
_KINDS: dict[str, tuple[type[Type], str]] = {
    "image": (Image, "images"),
    "audio": (Audio, "audio"),
    "file": (File, "files"),
}
_FUSIONS = ("auto", "early", "late")
_FINDINGS = "findings"
#: What it adds to the signature's outputs.
_OWN_OUTPUTS = (_FINDINGS, "asked")


class MultiModal(Module):
    """Answer from text, images, sound and files, whichever model takes which.

        both = dspex.MultiModal(
            "question, photo: Image, call: Audio -> answer",
            lms=[dspex.LM("anthropic/claude-sonnet-4-5"), dspex.LM("openai/gpt-4o-audio-preview")],
        )
        both(question="Is it the same dog?", photo=photo, call=call).answer

    1. The inputs of a call belong to modalities by their types: `image` (Image), `audio` (Audio), `file` (File), all
       others are text; lists of them too. One that is None, or not given, is left out.
    2. Early fusion: where one of the LMs takes all of them, it is asked once, `together`.
    3. Late fusion, else: each modality is asked of the first LM that takes it, at the same time (`looks["image"]`,
       `looks["audio"]`, ...), with the text, for what it says about the outputs. From these findings `fuse` gives the
       outputs.

    What a model takes is known by its name (`lm.capabilities`); one of which nothing is known is asked after those that
    are known to take it.

    Args:
        signature: what is given and wanted.
        lms: whom to ask, the best first; None: the predictors' own LM, or the one of the settings.
        fusion: `auto` as above, `early`: one model has to take all, `late`: each modality by itself.

    Returns of a call:
        The outputs; `findings`, by modality, where there was late fusion; `asked`, which model had which.

    Raises:
        ConfigError: a setting is not usable, or the signature has a field that this adds. A call: no LM takes a
            modality; nothing is asked then.
    """

    def __init__(
        self,
        signature: str | type[Signature] | Mapping[str, Any],
        lms: Sequence[Any] | None = None,
        fusion: Literal["auto", "early", "late"] = "auto",
    ) -> None:
        """Make the predictors `together`, `looks` and `fuse`."""
        self.signature = made = make_signature(signature)
        if fusion not in _FUSIONS:
            raise ConfigValueError(f"fusion is invalid: got {fusion!r:.80}, expected one of {', '.join(_FUSIONS)}")
        if clash := [name for name in _OWN_OUTPUTS if name in made.fields]:
            raise ConfigValueError(
                f"signature is invalid: MultiModal has a field {clash[0]!r} of its own; rename yours"
            )
        self.fusion = fusion
        self.lms = None if lms is None else _checked(lms)
        first = self.lms[0] if self.lms else None
        #: Input name → its modality, of those that are no text.
        self.modalities = {
            name: kind for name, field in made.input_fields.items() if (kind := _kind(field.annotation)) is not None
        }
        texts = {name: field for name, field in made.input_fields.items() if name not in self.modalities}
        outputs = listed(made.output_fields)
        self.together = _predict(first, made)
        self.looks: dict[str, Predict] = {}
        for kind in dict.fromkeys(self.modalities.values()):
            own = {name: field for name, field in made.input_fields.items() if self.modalities.get(name) == kind}
            told = (
                f"{_task(made)}You are given only a part of it: {listed(own)}. Do not answer yet: say what in it "
                f"matters for {outputs}, exactly and without guessing what the other parts may say."
            )
            findings = OutputField(desc=f"what the {kind} says")
            self.looks[kind] = _predict(first, make_signature({**texts, **own}, told).append(_FINDINGS, findings, str))
        told = f"{_task(made)}Others have looked at the parts that you do not see: answer from their `{_FINDINGS}`."
        fused = make_signature({**texts, **made.output_fields}, told)
        known = InputField(desc="what the parts say, each with its kind")
        self.fuse = _predict(first, fused.append(_FINDINGS, known, dict[str, str]))

    def steps(self, /, **kwargs: Any) -> Steps:
        """Choose whom to ask, ask, and fuse."""
        parts = {name: kind for name, kind in self.modalities.items() if kwargs.get(name) is not None}
        kinds = list(dict.fromkeys(parts.values()))
        one = self._chosen(kinds, required=self.fusion == "early") if self.fusion != "late" or not kinds else None
        if one is not None or not kinds:
            answer = yield self._ask(self.together, one, kwargs)
            return Prediction(**dict(answer.items()), asked=dict.fromkeys(kinds or ["text"], _model(one)))
        texts = {name: value for name, value in kwargs.items() if name not in self.modalities}
        chosen = {kind: self._chosen([kind], required=True) for kind in kinds}
        writer = self._chosen([], required=True)
        found = yield Parallel(
            [
                self._ask(
                    self.looks[kind], lm, {**texts, **{name: kwargs[name] for name in parts if parts[name] == kind}}
                )
                for kind, lm in chosen.items()
            ]
        )
        findings = {kind: one.findings for kind, one in zip(kinds, found, strict=True)}
        answer = yield self._ask(self.fuse, writer, {**texts, _FINDINGS: findings})
        asked = {**{kind: _model(lm) for kind, lm in chosen.items()}, "fusion": _model(writer)}
        return Prediction(**dict(answer.items()), findings=findings, asked=asked)

    def _ask(self, predict: Predict, lm: Any, inputs: Mapping[str, Any]) -> Ask:
        return Ask(predict, **inputs, **({} if lm is None or "lm" in predict.signature.input_fields else {"lm": lm}))

    def _chosen(self, kinds: Sequence[str], required: bool) -> Any:
        """Return the first LM that is known to take all of it, else the first that may; None: there is none.

        Raises:
            ConfigValueError: there is none, and one is needed.
        """
        lms = self.lms or [self.together.lm or settings.lm]
        may = [(lm, [_takes(lm, kind) for kind in kinds]) for lm in lms]
        sure = [lm for lm, takes in may if all(takes)]
        rest = [lm for lm, takes in may if False not in takes]
        if sure or rest:
            return (sure or rest)[0]
        if not required:
            return None
        names = ", ".join(str(_model(lm)) for lm in lms)
        raise ConfigValueError(
            f"no LM takes {' and '.join(kinds)}: there is {names}; give one that does: MultiModal(..., lms=[...])"
        )


def _predict(lm: Any, signature: type[Signature]) -> Predict:
    made = Predict(signature)
    made.lm = lm  # so that whoever runs the program knows that it has one
    return made


def _task(signature: type[Signature]) -> str:
    return f"{signature.instructions}\n\n" if signature.instructions else ""


def _checked(lms: Any) -> list[Any]:
    if isinstance(lms, str | Mapping) or not isinstance(lms, Sequence) or not lms:
        raise ConfigTypeError(f"lms is invalid: got {lms!r:.80}, expected a list of LMs, the best first; or None")
    for lm in lms:
        check_lm(lm)
        if lm is None:
            raise ConfigTypeError("lms is invalid: got None in it, expected LMs")
    return list(lms)


def _kind(annotation: Any) -> str | None:
    """Return the modality of a type; None: text."""
    inside = Type.extract_custom_type_from_annotation(annotation)
    return next((kind for kind, (type_, _) in _KINDS.items() if any(issubclass(one, type_) for one in inside)), None)


def _takes(lm: Any, kind: str) -> bool | None:
    """Tell whether a model takes a modality; None: nobody knows."""
    capabilities = getattr(lm, "capabilities", None)
    takes: bool | None = getattr(capabilities, _KINDS[kind][1], None)
    return takes


def _model(lm: Any) -> str | None:
    return None if lm is None else str(getattr(lm, "model", None) or type(lm).__name__)
