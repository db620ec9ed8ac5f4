"""`Audio`: sound, as its bytes."""

from __future__ import annotations

import mimetypes
import re
from pathlib import Path
from typing import Any, Self

from pydantic import ConfigDict, ValidationInfo, model_validator

from dspex_actors.foundation import media
from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.types.base import CHECKED, Type, only_part
from dspex_actors.types.files import file_bytes

#: Formats whose bytes say what they are, by how they are called.
_KNOWN = {"wav": "audio/wav", "wave": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg", "aiff": "audio/aiff"}
_FORMAT = re.compile(r"[\w.+-]+")
_LEGAL = (
    "a data:audio/...;base64, address, bytes (with audio_format), an array (with sampling_rate) or "
    "data and audio_format; files are read by Audio.from_path(path), addresses by Audio.from_url(url)"
)


class Audio(Type):
    """Sound for an LM.

        dspex.Audio.from_path("question.wav")
        dspex.Audio(data, audio_format="mp3")           # bytes
        dspex.Audio(data=base64_text, audio_format="wav")

    Making one never fetches and never reads a file: `from_path` and `from_url` do.

    Args:
        source: a `data:audio/...;base64,` address; bytes; an array of samples; another Audio; a dict of `data` and
            `audio_format`.
        data: the bytes as base64 text.
        audio_format: wav, mp3 and so on; of bytes "wav" where it is not told.
        sampling_rate: samples per second of an array; 16,000 where it is not told.

    Raises:
        ConfigValueError: it is no sound; also a ValueError.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    audio_format: str

    def __init__(self, source: Any = None, /, **data: Any) -> None:
        """Check the source; see the class."""
        if source is None:
            given = _given(data) if data.keys() == {"data", "audio_format"} else data
        else:
            given = _positional(source, data)
        self._make(given)

    # Validation goes by `_validated` alone, not by `__init__` a second time.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="before")
    @classmethod
    def _validated(cls, value: Any, info: ValidationInfo) -> Any:
        return value if info.context is CHECKED or isinstance(value, cls) else _given(value)

    def format(self) -> list[dict[str, Any]]:
        """Return the sound as OpenAI's content part."""
        return [{"type": "input_audio", "input_audio": {"data": self.data, "format": self.audio_format}}]

    @classmethod
    def from_path(cls, file_path: str | Path) -> Self:
        """Read a file.

        Raises:
            ConfigValueError: there is none, or it is no sound.
        """
        data = file_bytes("Audio", file_path)
        return cls(data, audio_format=_format(data, mimetypes.guess_type(str(file_path))[0]))

    @classmethod
    def from_file(cls, file_path: str | Path) -> Self:
        """Read a file; DSPy's older name for `from_path`."""
        return cls.from_path(file_path)

    @classmethod
    def from_url(cls, url: str, verify: bool = True, timeout: float | None = 30.0) -> Self:
        """Fetch an http(s) address now, from here, and keep its bytes; see `Image.from_url`.

        Raises:
            ConfigValueError: no such address, no answer, or it is no sound.
        """
        from dspex_actors.types.fetching import fetched  # here: few fetch, and it takes long to load

        data, told = fetched("Audio", url, verify=verify, timeout=timeout)
        return cls(data, audio_format=_format(data, told))

    @classmethod
    def from_array(cls, array: Any, sampling_rate: int, format: str = "wav") -> Self:  # noqa: A002 - DSPy's name
        """Take over samples, as 16 bits each.

        Args:
            array: numbers from -1 to 1, or whole numbers of 16 bits; one row per moment where there are channels.
            sampling_rate: samples per second.
            format: wav; others where the library soundfile is installed.

        Raises:
            ConfigValueError: it is no such array.
        """
        data = _wav(array, sampling_rate) if format.lower() == "wav" else _by_soundfile(array, sampling_rate, format)
        return cls(data, audio_format=format)

    def __dspex_plain__(self) -> str:
        """Return the sound as a data address."""
        return f"data:audio/{self.audio_format};base64,{self.data}"

    @classmethod
    def _from_plain(cls, data: str) -> Self:
        head, _, text = data.partition(";base64,")
        return cls.model_construct(data=text, audio_format=head.removeprefix("data:audio/"))

    def __repr__(self) -> str:
        """Show how much there is, and its format."""
        return f"Audio(data=<AUDIO_BASE_64_ENCODED({len(self.data)})>, audio_format={self.audio_format!r})"

    __str__ = __repr__


def _positional(source: Any, data: dict[str, Any]) -> dict[str, Any]:
    options = dict(data)
    rate, told = options.pop("sampling_rate", None), options.pop("audio_format", None)
    if "data" in options:
        raise ConfigTypeError("Audio received data as both a positional and keyword argument")
    is_array = hasattr(source, "shape")
    if told is not None and not isinstance(source, (bytes, bytearray, memoryview)) and not is_array:
        raise ConfigTypeError("Audio received audio_format alongside an input that already carries its format")
    if rate is not None and not is_array:
        raise ConfigTypeError("Audio received sampling_rate for an input that is no array")
    if is_array:
        made = Audio.from_array(source, rate or 16000, told or "wav")
        return {"data": made.data, "audio_format": made.audio_format, **options}
    return {**_given(source, told or "wav"), **options}


def _given(source: Any, told: str = "wav") -> dict[str, Any]:
    """Return data and format of what is given as sound."""
    if isinstance(source, Audio):
        return {"data": source.data, "audio_format": source.audio_format}
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _checked(media.encoded(bytes(source)), told, bytes(source))
    if isinstance(source, dict):
        if source.keys() != {"data", "audio_format"}:
            raise ConfigValueError(f"Audio is invalid: got a dict of {', '.join(map(str, source))}, expected {_LEGAL}")
        return _checked(source["data"], source["audio_format"])
    if isinstance(source, str):
        if (part := only_part(source, "input_audio")) is not None and isinstance(part.get("input_audio"), dict):
            return _checked(part["input_audio"].get("data"), part["input_audio"].get("format"))
        if media.is_data_url(source):
            try:
                kind, data = media.split_data_url(source)
            except media.NoMedia as error:
                raise ConfigValueError(f"Audio is invalid: got {error}, expected {_LEGAL}") from None
            if kind.startswith("audio/"):
                return _checked(data, kind.removeprefix("audio/").removeprefix("x-"))
            raise ConfigValueError(f"Audio is invalid: got a data URL of {kind}, expected {_LEGAL}")
    raise ConfigValueError(f"Audio is invalid: got {media.shortened(source)}, expected {_LEGAL}")


def _checked(data: Any, told: Any, raw: bytes | None = None) -> dict[str, Any]:
    if not isinstance(told, str) or not _FORMAT.fullmatch(told):
        raise ConfigValueError(f"Audio is invalid: audio_format: got {media.shortened(told)}, expected wav, mp3, ...")
    if not isinstance(data, str):
        raise ConfigValueError(f"Audio is invalid: data: got {media.shortened(data)}, expected base64 text")
    problem = ""
    try:
        found = media.kind_of(media.decoded(data) if raw is None else raw)
    except media.NoMedia as error:
        problem = str(error)
    else:
        wanted = _KNOWN.get(told.lower())
        is_sound = found is None or found.startswith(("audio/", "video/"))
        if not is_sound or (wanted is not None and found != wanted) or raw == b"":
            problem = f"bytes that are {found or 'none of it'}"
    if problem:
        raise ConfigValueError(f"Audio is invalid: got {problem} for data, expected sound in the format {told}")
    return {"data": data, "audio_format": told}


def _format(data: bytes, told: str | None) -> str:
    found = media.kind_of(data)
    kind = found if found is not None and found.startswith("audio/") else told
    if found is not None and not found.startswith(("audio/", "video/")):
        raise ConfigValueError(f"Audio is invalid: got bytes that are {found}, expected sound")
    if not kind or not kind.startswith("audio/"):
        raise ConfigValueError(f"Audio is invalid: got {media.shortened(data)} of type {kind}, expected sound")
    name = kind.removeprefix("audio/").removeprefix("x-")
    return {"mpeg": "mp3" if told in (None, "audio/mp3") else name}.get(name, name)


def _wav(array: Any, rate: Any) -> bytes:
    """Return samples as a WAV file of 16 bits."""
    import array as arrays  # here, with wave: few have arrays
    import io
    import sys
    import wave

    shape = tuple(getattr(array, "shape", ()))
    if len(shape) not in (1, 2) or not shape[0] or not isinstance(rate, int) or rate < 1:
        raise ConfigValueError(
            f"Audio is invalid: got an array of shape {shape} at {rate!r} samples per second, "
            "expected one of one or two dimensions, not empty, at a whole number above 0"
        )
    rows = array.tolist()
    flat = [value for row in rows for value in row] if len(shape) == 2 else rows
    try:
        whole = all(isinstance(value, int) for value in flat)
        values = flat if whole else [round(max(-1.0, min(1.0, value)) * 32767) for value in flat]
        samples = arrays.array("h", values)
    except (TypeError, ValueError, OverflowError):
        raise ConfigValueError(
            "Audio is invalid: got an array of other values, expected numbers from -1 to 1, or of 16 bits"
        ) from None
    if sys.byteorder == "big":
        samples.byteswap()
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(shape[1] if len(shape) == 2 else 1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def _by_soundfile(array: Any, rate: Any, kind: str) -> bytes:
    import io

    try:
        import soundfile  # type: ignore[import-not-found,unused-ignore]  # the user's own, where it is there
    except ImportError:
        raise ConfigValueError(
            f"Audio.from_array: format {kind!r} needs the library soundfile; format='wav' does not"
        ) from None
    buffer = io.BytesIO()
    soundfile.write(buffer, array, rate, format=kind.upper(), subtype="PCM_16")
    return buffer.getvalue()
