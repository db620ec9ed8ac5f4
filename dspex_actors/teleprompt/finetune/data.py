"""What an LM can be trained with, and the files that it is written to."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.foundation.files import replaced
from dspex_actors.teleprompt.finetune.formats import checked_format, line_of, text_of

_UNSAFE = re.compile(r"[^\w.-]+", re.ASCII)


class Chat(NamedTuple):
    """A call of a predictor, and its answer.

    Args:
        predictor: its name in the program.
        messages: role/content messages, the answer last.
    """

    predictor: str
    messages: Sequence[dict[str, Any]]


class FinetuneData(Sequence[Chat]):
    """What `BootstrapFinetune` has gathered, in the order in which it is written.

        program.finetune_data.save("data.jsonl")

    Args:
        chats: calls with their answers.
        multitask: one file for all predictors; False: one for each.
        data_format: the provider's, one of `formats.FORMATS`.
    """

    def __init__(self, chats: Iterable[Chat] = (), *, multitask: bool = True, data_format: str = "openai") -> None:
        """Keep them."""
        self.chats, self.multitask = tuple(chats), multitask
        self.data_format = checked_format(data_format)

    def __len__(self) -> int:
        """Return how many lines there are, in all files together."""
        return len(self.chats)

    def __getitem__(self, place: Any) -> Any:
        """Return one, or those of a slice."""
        return self.chats[place]

    def __iter__(self) -> Iterator[Chat]:
        """Iterate over them."""
        return iter(self.chats)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return itself: nobody changes it."""
        return self

    def __repr__(self) -> str:
        """Say how many there are."""
        return f"<{len(self)} conversations to fine-tune with, as {self.data_format}>"

    def lines(self, predictor: str | None = None, data_format: str | None = None) -> Iterator[dict[str, Any]]:
        """Iterate over the lines of a file, as plain data.

        Args:
            predictor: of this one only; None: of all.
            data_format: the provider's; None: as it was made with.

        Raises:
            ConfigError: there is something that the format has no place for.
        """
        name = self.data_format if data_format is None else checked_format(data_format)
        for chat in self.chats:
            if predictor in (None, chat.predictor):
                yield line_of(chat.messages, name)

    def save(self, path: str | os.PathLike[str], data_format: str | None = None) -> list[Path]:
        """Write the file, or one for each predictor (`data.NAME.jsonl`); each is there whole or not at all.

        Args:
            path: of a file, which is replaced; it ends in `.jsonl`.
            data_format: the provider's; None: as it was made with.

        Returns:
            The files that were written.

        Raises:
            ConfigError: nothing can be written there, or the format has no place for something.
        """
        place = checked_path("path", path)
        written = []
        for file, predictor in self._files(place):
            with replaced(file) as out:
                for line in self.lines(predictor, data_format):
                    out.write(f"{text_of(line)}\n")
            written.append(file)
        return written

    def _files(self, path: Path) -> list[tuple[Path, str | None]]:
        if self.multitask:
            return [(path, None)]
        names: dict[str, str] = {}
        for predictor in dict.fromkeys(chat.predictor for chat in self.chats):
            name = _UNSAFE.sub("_", predictor).strip("_") or "predictor"
            while name in names:
                name += "_"
            names[name] = predictor
        return [(path.with_name(f"{path.stem}.{name}.jsonl"), predictor) for name, predictor in names.items()]


def checked_path(name: str, path: Any) -> Path:
    """Return where lines are to be written.

    Raises:
        ConfigError: that is no name of such a file.
    """
    is_path = isinstance(path, str | os.PathLike) and not isinstance(os.fspath(path), bytes)
    if not is_path or Path(path).suffix != ".jsonl":
        raise ConfigValueError(f"{name} is invalid: got {path!r:.100}, expected a name that ends in .jsonl")
    return Path(path)
