"""What results of a slice are bound to: the device, the versions, the code."""

from __future__ import annotations

from typing import Any

import torch

from midas.running.provenance import digest, processor, versions


def machine(device: torch.device) -> dict[str, Any]:
    """Device, versions and source of a result."""
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else processor(),
        "memory_bytes": torch.cuda.get_device_properties(device).total_memory if cuda else None,
        "cuda": torch.version.cuda if cuda else None,
        "versions": versions(),
        "source_digest": digest("search"),
    }
