"""Published numbers: marked where unconfirmed, and equal to their source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_tables import Rendered, cells, row_of
from places import SHARED

from midas.analysis import literature

LITERATURE = SHARED / "literature"


def test_unconfirmed_literature_is_marked(table: Callable[..., Rendered]) -> None:
    for number in (2, 3, 4):
        numbers, text, latex = table(number)
        unconfirmed = numbers[numbers["status"] == "from_memory"]
        assert len(unconfirmed)
        for name in set(unconfirmed["method"]):
            assert f"| *{name}†*" in text
            assert rf"\textit{{{name}$^\dagger$}}" in latex
        assert {row[0].strip("*†§") for row in cells(text) if row[0].startswith("*")} == set(unconfirmed["method"])
        assert "- † not confirmed" in text


def test_literature_prints_what_it_holds(table: Callable[..., Rendered]) -> None:
    text = table(2)[1]
    assert row_of(text, "DARTS-2nd")[1:] == ["2.76 ± 0.09", "—", "17.54‡", "—", "3.3", "1.0"]
    independent = ["2.81 ± 0.14", "—", "17.49‡", "—", "3.3 ± 0.25", "0.3"]
    assert row_of(text, "P-DARTS (4 independent searches)§")[1:] == independent
    assert row_of(text, "MIDAS")[1:] == ["2.58‡", "—", "16.62‡", "—", "—", "—"]
    assert "they don't compare with the rows above" in text
    text = table(3)[1]
    assert row_of(text, "DARTS-2nd")[1:] == ["transfer from CIFAR-10", "26.7", "8.7", "4.7", "574", "4.0"]
    assert row_of(text, "PC-DARTS (ImageNet search)")[1] == "searched on ImageNet"


def test_published_rows_of_the_papers_protocol_are_compared(table: Callable[..., Rendered]) -> None:
    for number in (2, 3, 4):
        text = table(number, "paper")[1]
        assert "they don't compare" not in text


def shared(name: str) -> pd.DataFrame:
    source = LITERATURE / f"{name}.csv"
    if not source.exists():
        pytest.skip("the collection of published numbers is not beside the repository")
    return pd.read_csv(source)


def test_cifar_errors_agree_with_their_source() -> None:
    theirs = shared("darts").dropna(subset=["c10_err_mean", "c10_err_best"], how="all").set_index("method")
    ours = literature.load("darts")
    ours = ours[ours["quantity"] == "c10_error"].set_index("method")
    common = ours.index.intersection(theirs.index)
    wanted = theirs[(theirs["preferred"] == "yes") & (theirs["status"] == "verified")]
    assert set(wanted.index) <= set(common)
    for part in ("mean", "std", "best"):
        expected = theirs.loc[common, f"c10_err_{part}"].to_numpy()
        assert np.array_equal(ours.loc[common, part].to_numpy(dtype=float), expected, equal_nan=True)


def test_imagenet_errors_agree_with_their_source() -> None:
    theirs = shared("darts").dropna(subset=["imagenet_top1_err"])
    theirs = theirs[(theirs["preferred"] == "yes") & (theirs["status"] == "verified")]
    modes = {"transfer from CIFAR-10": "transfer_c10", "transfer from CIFAR-100": "transfer_c100"}
    ours = literature.load("darts").assign(value=lambda frame: frame["mean"].fillna(frame["best"]))
    ours["imagenet_mode"] = ours["imagenet_mode"].map(modes).fillna("direct")
    quantities = {
        "imagenet_top1_error": "imagenet_top1_err",
        "imagenet_top5_error": "imagenet_top5_err",
        "imagenet_params_m": "imagenet_params_M",
        "imagenet_multiply_adds_m": "imagenet_flops_M",
    }
    wide = ours.pivot_table(index=["method", "imagenet_mode", "status"], columns="quantity", values="value")
    assert len(theirs) > 25
    for _, row in theirs.iterrows():
        found = wide.loc[(row["method"], row["imagenet_mode"], "verified")]
        for name, column in quantities.items():
            assert found.get(name) == row[column] or pd.isna(row[column]), f"{row['method']}: {name}"


def test_robust_darts_errors_agree_with_their_source() -> None:
    theirs = shared("rdarts")
    theirs = theirs[theirs["preferred"].isin(["yes", "alt"])]
    ours = literature.load("rdarts").assign(value=lambda frame: frame["mean"].fillna(frame["best"]))
    assert len(ours) == 4 * len(theirs)
    for _, row in theirs.iterrows():
        kind = "mean" if row["statistic"].startswith("mean") else "best"
        of_row = ours[(ours["method"] == row["method"]) & (ours["dataset"] == row["dataset"]) & ours[kind].notna()]
        assert set(of_row["status"]) == {row["status"]}
        for space in ("s1", "s2", "s3", "s4"):
            found = of_row[of_row["quantity"] == f"{space}_error"]
            assert found["value"].tolist() == [row[f"{space.upper()}_err"]]
            assert found["std"].tolist() == pytest.approx([row[f"{space.upper()}_std"]], nan_ok=True)
            part = "S1S3" if space in ("s1", "s3") else "S2S4"
            layers, channels = row[f"eval_layers_{part}"], row[f"eval_channels_{part}"]
            width = "" if pd.isna(layers) else f"{layers}x{channels}".replace(".0", "")
            if "(" not in width:  # in that row of the source S2 and S4 differ
                assert found["network"].tolist() == [width]


def test_nas_bench_201_accuracies_agree_with_their_source() -> None:
    theirs = shared("nas_bench_201")
    computed = "Optimum|Random \\(sampled"  # this project computes both from the table
    both = theirs["method"] == "GDAS (v2)"  # printed by many as GDAS, without a word
    chosen = ((theirs["preferred"] == "yes") | both) & ~theirs["method"].str.contains(computed)
    theirs = theirs[chosen].set_index("method").rename(index={"GDAS (v2)": "GDAS (later rerun)"})
    ours = literature.load("nas_bench_201")
    assert set(theirs.index) == set(ours["method"])
    for column in ("c10_valid", "c10_test", "c100_valid", "c100_test", "in16_valid", "in16_test"):
        found = ours[ours["quantity"] == f"{column}_acc_200"].set_index("method")["mean"]
        expected = theirs[f"{column}_mean"].dropna()
        assert found.reindex(expected.index).tolist() == expected.tolist()


def test_literature_of_an_unknown_status_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "darts.csv").write_text("method,status,source\nX,heard,somebody\n")
    monkeypatch.setattr(literature, "FOLDER", tmp_path)
    with pytest.raises(
        ValueError, match=r"darts\.csv: status \['heard'\] is not allowed; allowed: verified, from_memory"
    ):
        literature.load("darts")
