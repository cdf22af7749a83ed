"""Checkpoints of a long step: written whole or not at all, the previous one kept, never continued under another configuration."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from midas.files.disk import flush, flush_folder
from midas.running.limits import MACHINE


def read(path: Path) -> dict[str, Any]:
    """The keys "identity" and "state" of a checkpoint file: a SHA-256 of 32 bytes, and what torch wrote.

    Raises:
        ValueError: the file is damaged.
    """
    content = path.read_bytes()
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        raise ValueError(f"{path} is damaged: its checksum is wrong")
    return torch.load(io.BytesIO(content[32:]), map_location="cpu", weights_only=True)


class Checkpoint:
    """The checkpoint of one step.

    It lies in a folder that no rule declares, since Snakemake deletes the declared outputs of a failed job.

    Args:
        folder: holds newest.pt and previous.pt.
        identity: what must be equal for a checkpoint to be continued: step, configuration, source digest, ... (JSON values).
    """

    def __init__(self, folder: Path, identity: dict[str, Any]):
        self.folder = folder
        self.identity = json.loads(json.dumps(identity))
        self.loaded: dict[str, Any] = {}
        self.newest, self.previous = folder / "newest.pt", folder / "previous.pt"

    def save(self, state: dict[str, Any]) -> None:
        """Write a state (tensors, numbers, strings, lists and dictionaries of them), flushed to disk before it gets its name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save({"identity": self.identity, "state": state}, buffer)
        temporary = self.folder / "writing.pt"
        try:
            with temporary.open("wb") as file:
                # torch doesn't check what it reads: a flipped bit would be a silently different weight
                file.write(hashlib.sha256(buffer.getbuffer()).digest())
                file.write(buffer.getbuffer())
                file.flush()
                flush(file.fileno(), temporary)
        except OSError as error:  # a full disk: what was written before stays
            temporary.unlink(missing_ok=True)
            raise OSError(error.errno, f"{error.strerror}; earlier checkpoints are kept", str(temporary)) from error
        if self.newest.exists():
            os.replace(self.newest, self.previous)
        os.replace(temporary, self.newest)
        flush_folder(self.folder)  # names too must reach the disk

    def load(self) -> dict[str, Any] | None:
        """The newest state that can be continued, None if there is none; its identity is then `loaded`.

        A damaged file is passed over with a warning, and renamed lest it push the good one out. A checkpoint of another
        configuration, data or source is set aside with a message that names the difference, and kept; not so for another
        `MACHINE`, which the caller must ask about.
        """
        for path in (self.newest, self.previous):
            content = self._read(path)
            if content is None:
                continue
            there, here = ({k: v for k, v in i.items() if k != MACHINE} for i in (content["identity"], self.identity))
            differing = list(differences(there, here))
            if not differing:
                self.loaded = content["identity"]
                return content["state"]
            self.set_aside(f"belongs to another run ({'; '.join(differing)})")
            return None
        return None

    def _read(self, path: Path) -> dict[str, Any] | None:
        if not path.exists():
            return None
        try:
            return read(path)
        except ValueError as error:
            path.replace(path.with_suffix(".damaged"))
            _say(f"{error}; it is passed over")
            return None

    def set_aside(self, why: str) -> None:
        """Keep the files in a folder of their own, and say so."""
        number = 1
        while (aside := self.folder.with_name(f"{self.folder.name}_aside{number}")).exists():
            number += 1
        aside.mkdir()
        for path in (self.newest, self.previous):
            if path.exists():
                path.replace(aside / path.name)
        _say(f"the checkpoint in {self.folder} {why}; it is kept as {aside}, and the run begins anew")


def differences(old: Any, new: Any, key: str = "") -> Any:
    """Lines such as "config.seed: 0 there, 1 now"."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            yield from differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    elif old != new:
        yield f"{key}: {old!r} there, {new!r} now"


def _say(message: str) -> None:
    print(f"checkpoint: {message}", file=sys.stderr, flush=True)
