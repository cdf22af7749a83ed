"""Which way to compute the attention is the default: ``python -m benchmarks.choice``, by the rule of config/attention_cpu.yaml.

The rule was written before the searches were made and knows no test accuracy. Reads table 5 of the two published sets, writes
results/published/attention_choice.csv and, for people, attention_choice.md.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from midas.files.writing import write_text

PUBLISHED = Path(__file__).parent.parent / "results/published"
SHALLOW, DEEP = "attention_cpu", "attention_deep_cpu"
FORMER = "scaled_detached_decay"
"""The former default with `detach`: what trains worse than it at five cells is out."""
WAYS = ("scaled", "length", "relu")
VARIANTS = [f"{way}{detached}{decay}" for way in WAYS for detached in ("", "_detached") for decay in ("", "_decay")]
"""The twelve that the rule chooses among."""
RANKED = {"agreement_between_seeds": "agreement", "c10_valid_acc_200": "valid"}
"""Quantity of table 5 -> what its rank is called."""
TRAINED = "supernet_valid_accuracy"


def differing(name: str) -> int:
    """Keys in which a variant differs from the former default, whose maps get a gradient and whose projections decay."""
    own = {"scaled": 0, "length": 2, "relu": 4}[name.split("_")[0]]  # normalise, scale; activation, projected
    return own + ("detached" in name) + ("decay" not in name)


def of(table: pd.DataFrame, quantity: str, column: str = "mean") -> pd.Series:
    """A quantity of table 5 by method."""
    found = table[table["quantity"] == quantity].set_index("method")[column]
    return found[~found.index.duplicated()].loc[VARIANTS].round(9)  # equal means of another order of seeds are equal


def ranks(shallow: pd.DataFrame, deep: pd.DataFrame) -> pd.DataFrame:
    """A row for each variant: what the rule looks at, ranks of those that train, their sum; the chosen one comes first.

    Args:
        shallow: rows of table 5 at one cell a stage.
        deep: the same at five.
    """
    accuracy = of(deep, TRAINED)
    least = accuracy[FORMER] - of(deep, TRAINED, "std")[FORMER]
    found = pd.DataFrame({"supernet_deep": accuracy, "trains": accuracy >= least})
    names = []
    for size, table in (("shallow", shallow), ("deep", deep)):
        for quantity, short in RANKED.items():
            found[f"{short}_{size}"] = values = of(table, quantity)
            names.append(f"rank_{short}_{size}")
            found[names[-1]] = values[found["trains"]].rank(ascending=False)
    found["sum"] = found[names].sum(axis=1, skipna=False)
    found["keys"] = [differing(name) for name in found.index]
    order = ["sum", "agreement_deep", "keys"]
    return found.sort_values(order, ascending=[True, False, True], kind="stable").rename_axis("method").reset_index()


def words(found: pd.DataFrame) -> str:
    """The same as a table of markdown."""
    head = [
        "",
        "supernet, 5 cells (%)",
        "agreement, 1 cell",
        "valid. (%)",
        "agreement, 5 cells",
        "valid. (%)",
        "sum of ranks",
    ]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for row in found.to_dict("records"):
        cells = [row["method"], f"{row['supernet_deep']:.2f}" + ("" if row["trains"] else ": out")]
        for size in ("shallow", "deep"):
            for short, digits in (("agreement", 2), ("valid", 2)):
                rank = row[f"rank_{short}_{size}"]
                cells.append(f"{row[f'{short}_{size}']:.{digits}f}" + (f" ({rank:g}.)" if row["trains"] else ""))
        lines.append("| " + " | ".join([*cells, f"{row['sum']:g}" if row["trains"] else "out"]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run from the command line."""
    found = ranks(*(pd.read_csv(PUBLISHED / size / "tables/table_5.csv") for size in (SHALLOW, DEEP)))
    write_text(PUBLISHED / "attention_choice.csv", found.to_csv(index=False))
    write_text(PUBLISHED / "attention_choice.md", words(found))
    print(words(found), end="")


if __name__ == "__main__":
    main()
