"""CIFAR-10: as it is, damaged, and downloaded again where a download fails."""

import hashlib
import http.server
import io
import pickle
import tarfile
import threading
from typing import ClassVar

import numpy as np
import pytest
import torch
import torchvision
from image_data import CPU
from torchvision.datasets import CIFAR10

from midas.images import reading as data
from midas.images.datasets import KNOWN, resolve
from midas.images.loader import Statistics
from midas.images.reading import load


def test_cifar10(cifar10):
    dataset = resolve("cifar10", {}, str(cifar10), None)
    assert not dataset.download
    train, test = load(dataset, CPU)
    assert train.pixels.shape == (50_000, 3, 32, 32)
    assert test.pixels.shape == (10_000, 3, 32, 32)
    assert torch.bincount(train.labels).tolist() == [5000] * 10
    assert torch.bincount(test.labels).tolist() == [1000] * 10
    statistics = Statistics.of(train)
    np.testing.assert_allclose(statistics.mean.flatten() / 255, [0.4914, 0.4822, 0.4465], atol=5e-5)
    np.testing.assert_allclose(statistics.std.flatten() / 255, [0.2470, 0.2435, 0.2616], atol=5e-5)


def test_a_damaged_cifar10_is_refused(cifar10, tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for path in (cifar10 / folder.name).iterdir():  # others need the folder as it is
        (folder / path.name).symlink_to(path)
    batch = folder / "data_batch_3"
    content = bytearray(batch.read_bytes())
    content[1_000_000] ^= 1
    batch.unlink()
    batch.write_bytes(content)
    with pytest.raises(ValueError, match="cifar10 can't be read"):
        load(resolve("cifar10", {}, str(tmp_path), None), CPU)


# --- downloads


class Handler(http.server.BaseHTTPRequestHandler):
    """Gives the archive after some failures."""

    failures: ClassVar[list[str]] = []
    archive: ClassVar[bytes] = b""

    def do_GET(self):
        failure = self.failures.pop(0) if self.failures else ""
        if failure == "busy":
            return self.send_error(503)
        content = b"not an archive" if failure == "wrong" else self.archive
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if failure == "lost" else content)

    def log_message(self, *_):
        pass


@pytest.fixture
def tiny_cifar10(monkeypatch, tmp_path):
    """torchvision's CIFAR-10 with two images a file, on a server of this machine; returns the waits to come."""
    monkeypatch.setattr(CIFAR10, "base_folder", "tiny")
    content, sums = {}, {}
    for name in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"]:
        labels = {"label_names": [str(n) for n in range(10)]}
        batch = {"data": np.arange(2 * 3072, dtype=np.int64).reshape(2, 3072).astype(np.uint8), "labels": [3, 7]}
        content[name] = pickle.dumps(labels if name == "batches.meta" else batch)
        sums[name] = hashlib.md5(content[name]).hexdigest()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, file in content.items():
            entry = tarfile.TarInfo(f"tiny/{name}")
            entry.size = len(file)
            tar.addfile(entry, io.BytesIO(file))
    monkeypatch.setattr(Handler, "archive", packed.getvalue())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/tiny.tar.gz")
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(packed.getvalue()).hexdigest())
    monkeypatch.setattr(CIFAR10, "train_list", [[n, sums[n]] for n in sums if n.startswith("data")])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": sums["batches.meta"]})
    # the file is asked for once, not first for a redirection too
    monkeypatch.setattr(torchvision.datasets.utils, "_get_redirect_url", lambda url, max_hops: url)
    waits = []
    monkeypatch.setattr(data, "pause", lambda seconds, _: waits.append(seconds))
    yield waits
    server.shutdown()


@pytest.mark.parametrize("failures", [[], ["busy"], ["lost"], ["wrong"], ["lost", "busy", "wrong"]])
def test_a_lost_download_is_tried_again(tiny_cifar10, failures, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Handler, "failures", list(failures))
    dataset = KNOWN["cifar10"].model_copy(update={"path": str(tmp_path / "data"), "download": True})
    train, test = load(dataset, CPU)
    assert (len(train), len(test)) == (10, 2)
    assert tiny_cifar10 == list(data.RETRY_AFTER[: len(failures)])
    assert capsys.readouterr().err.count("tried again in") == len(failures)


def test_a_download_that_stays_wrong_is_refused_and_removed(tiny_cifar10, tmp_path, monkeypatch):
    monkeypatch.setattr(Handler, "failures", ["wrong"] * 10)
    dataset = KNOWN["cifar10"].model_copy(update={"path": str(tmp_path / "data"), "download": True})
    with pytest.raises(ValueError, match="cifar10 can't be read"):
        load(dataset, CPU)
    assert len(tiny_cifar10) == len(data.RETRY_AFTER)
    assert not list((tmp_path / "data").rglob("*.gz"))
