"""Test a saved network: ``python -m midas.evaluate MODEL --data NAME``, with a model.safetensors that a retraining wrote.

Prints accuracy and loss on the test images as JSON. Its mean and deviation of pixels are those that it was trained with.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from midas.config.settings import UserDataset
from midas.images.datasets import resolve
from midas.images.reading import load
from midas.networks.saved import load_network
from midas.running.devices import pick_device


def evaluate(model: Path, data: str, root: str | None, device: torch.device, batch_size: int) -> dict[str, Any]:
    """Accuracy in percent and mean cross-entropy of a network on the test images of a data set.

    Raises:
        ValueError: the file is no saved network, the data set isn't there, or its images or classes are not the network's.
    """
    network, told = load_network(model, device)
    own = {"own": UserDataset(kind="npz", path=data)} if Path(data).suffix == ".npz" else {}
    dataset = resolve("own" if own else data, own, root, None)
    if (dataset.classes, tuple(dataset.image)) != (told.classes, tuple(told.image)):
        sizes = ((dataset.classes, *dataset.image), (told.classes, *told.image))
        found, wanted = (f"{classes} classes, {height}x{width} pixels" for classes, height, width in sizes)
        raise ValueError(f"--data: {data} is not allowed ({found}); the network was trained on {wanted}")
    _, test = load(dataset, device)
    right, loss = 0, 0.0
    with torch.no_grad():
        for pixels, labels in zip(test.pixels.split(batch_size), test.labels.split(batch_size), strict=True):
            output = network(told.normalise(pixels))
            logits = output[0] if isinstance(output, tuple) else output
            right += int((logits.argmax(1) == labels).sum())
            loss += float(F.cross_entropy(logits, labels.long(), reduction="sum"))
    count = len(test)
    numbers = {"test_accuracy": 100 * right / count, "test_loss": loss / count, "images": count}
    return {**numbers, "dataset": data, "cell": told.genotype}


def main() -> None:
    """Run from the command line; wrong input ends in one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m midas.evaluate", description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, help="model.safetensors of a retraining")
    parser.add_argument("--data", required=True, help="digits, digit_pairs, cifar10, cifar100, svhn, or an npz file")
    parser.add_argument("--data-root", help="folder with the published data sets; default: MIDAS_DATA")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--batch-size", type=int, default=256)
    arguments = parser.parse_args()
    try:
        device = pick_device(arguments.device)
        found = evaluate(arguments.model, arguments.data, arguments.data_root, device, max(1, arguments.batch_size))
    except ValueError as error:
        print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
        sys.exit(2)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
