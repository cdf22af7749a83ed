"""One page with all results of a size: ``python -m midas.analysis.report RUN FOLDER`` writes report.html.

It needs no other file to be read, and reads FOLDER/claims.json, FOLDER/rulegraph.dot, FOLDER/tables, the figures as PNG, the
captions in workflow/report (the same that ``snakemake --report`` shows) and every metrics.json of the size.
"""

from __future__ import annotations

import base64
import html
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from docutils.core import publish_parts
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from midas.analysis import markdown, run_facts
from midas.analysis.claims.judging import VERDICTS
from midas.analysis.claims.writing import headline, number_text, place_text
from midas.analysis.report import rulegraph
from midas.analysis.results import load_metrics
from midas.config.keys import Config
from midas.files.writing import write_text
from midas.plan.further import listed
from midas.plan.plan import Plan
from midas.plan.runs import PresentRun
from midas.running.provenance import ROOT

CAPTIONS = ROOT / "workflow/report"
TEMPLATE = "report.html.jinja"
DOCUTILS = {"halt_level": 2, "raw_enabled": False, "file_insertion_enabled": False, "doctitle_xform": False}
"""A caption with a mistake is refused, and can't read files."""


def caption(name: str, config: Config) -> Markup:
    """A caption of workflow/report as HTML, filled in as Snakemake fills it in for its own report.

    Args:
        name: name of the file without its suffix, e.g. "table_1" or "further/table_s1".
        config: the configuration.
    """
    job = SimpleNamespace(config=config.model_dump(mode="json"))
    text = Template((CAPTIONS / f"{name}.rst").read_text()).render(snakemake=job)
    return Markup(publish_parts(text, writer="html5", settings_overrides=DOCUTILS)["body"])


def short_title(caption: str) -> str:
    """What a caption says in bold at its start, as plain text."""
    found = re.search(r"<strong>(.+?)</strong>", caption, re.DOTALL)
    return " ".join(html.unescape(re.sub("<[^>]+>", "", found[1])).split()).rstrip(".") if found else ""


def _tables(plan: Plan, folder: Path) -> Iterator[dict[str, Any]]:
    for number in _tables_of(plan):
        path = _table_path(number, folder)
        # the table's own first paragraph says, for readers of that file, what the caption says here
        body = path.read_text().split("\n\n", 1)[1]
        above = caption(_caption_name(path), plan.config)
        yield {
            "number": number,
            "caption": above,
            "title": short_title(above),
            "body": Markup(markdown.to_html(body)),
            "files": [_link(path.with_suffix(f".{form}"), folder) for form in ("csv", "md", "tex")],
        }


def _figures(plan: Plan, folder: Path) -> Iterator[dict[str, Any]]:
    for number in _figures_of(plan):
        path = _figure_path(plan, number)
        below = caption(_caption_name(path), plan.config)
        yield {
            "number": number,
            "caption": below,
            "title": short_title(below),
            "image": f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}",
            "files": [_link(path.with_suffix(f".{form}"), folder) for form in ("pdf", "png")],
        }


def _tables_of(plan: Plan) -> list[int | str]:
    return [*plan.tables(), *listed.tables(plan)]


def _figures_of(plan: Plan) -> list[int | str]:
    return [*plan.figures(), *listed.figures(plan)]


def _table_path(number: int | str, folder: Path) -> Path:
    return folder / f"tables/table_{str(number).lower()}.md"


def _figure_path(plan: Plan, number: int | str) -> Path:
    name = f"{number:02d}" if isinstance(number, int) else number.lower()
    return Path(plan.config.figures_dir) / plan.config.size / f"figure_{name}.png"


def _caption_name(path: Path) -> str:
    """S1 to S4 have theirs in a folder of their own."""
    return f"further/{path.stem}" if "_s" in path.stem else path.stem


def _link(path: Path, folder: Path, text: str = "") -> dict[str, str]:
    """A link that works as long as results and figures stay where they are to each other."""
    return {"href": Path(os.path.relpath(path, folder)).as_posix(), "text": text or path.suffix[1:]}


def _inside(path: Path, folder: Path) -> str:
    """A path without the folder of the results, where it lies there."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


def _runs(plan: Plan, folder: Path) -> Iterator[dict[str, Any]]:
    """Each method of each experiment with links to what its runs left, step by step."""
    files: dict[tuple[str, str, str], dict[str, list[dict[str, str]]]] = {}
    transferred = list(plan.transfers())
    for cell in plan.cells():
        steps = (
            ["decode/genotype.json"]
            if plan.is_unsearched(cell.method)
            else ["search/metrics.json", "decode/genotype.json"]
        )
        if cell.method in plan.evaluated(cell.experiment):
            steps.append(f"{plan.evaluation(cell.experiment.space)}/metrics.json")
            steps += [f"retrain_also/{setting}/metrics.json" for setting in cell.experiment.retrain_also]
        steps += ["transfer/metrics.json"] if cell in transferred else []
        row = files.setdefault((cell.experiment.space, cell.experiment.dataset, cell.method), {})
        for step in steps:
            name, setting = step.split("/")[0], step.split("/")[1]
            text = f"{cell.seed} {setting}" if name == "retrain_also" else str(cell.seed)
            row.setdefault(name, []).append(_link(plan.cell_folder(cell) / step, folder, text))
    for (space, dataset, method), steps_links in files.items():
        yield {"space": space, "dataset": dataset, "method": method, "steps": steps_links}


def _claims(folder: Path) -> dict[str, Any]:
    judged = load_metrics(folder / "claims.json")
    for claim in judged["claims"]:
        claim["headline"] = headline(claim)
        claim["sign"] = VERDICTS[claim["verdict"]]
        claim["links"] = [_link(Path(file), folder, _inside(Path(file), folder)) for file in claim["files"]]
    judged["signs"] = VERDICTS
    return judged


def _graph(plan: Plan, folder: Path) -> Markup:
    titles = {
        name: f"{name} {numbers[0]}\N{EN DASH}{numbers[-1]}"
        for name, numbers in (("tables", plan.tables()), ("figures", plan.figures()))
        if len(numbers) > 1
    }
    return Markup(rulegraph.to_svg((folder / "rulegraph.dot").read_text(), titles))


def render(plan: Plan, folder: Path) -> str:
    """The page.

    Args:
        plan: the plan.
        folder: where the page will lie; what it shows is read from there.

    Raises:
        ValueError: files are missing or damaged, a line for each.
    """
    needed = [folder / "claims.json", folder / "rulegraph.dot"]
    needed += [_table_path(number, folder) for number in _tables_of(plan)]
    needed += [_figure_path(plan, number) for number in _figures_of(plan)]
    missing = [path for path in needed if not path.exists()]
    if missing:
        raise ValueError("\n".join(f"{path}: missing" for path in missing))
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number_text, "place": place_text}
    config = plan.config.model_dump(mode="json")
    return environment.get_template(TEMPLATE).render(
        config=plan.config,
        claims=_claims(folder),
        claims_caption=caption("claims", plan.config),
        tables=list(_tables(plan, folder)),
        figures=list(_figures(plan, folder)),
        settings=yaml.safe_dump(config, sort_keys=False, default_flow_style=None, width=95, allow_unicode=True),
        facts=run_facts.collect(plan),
        graph=_graph(plan, folder),
        runs=list(_runs(plan, folder)),
    )


def write_report(run: PresentRun, folder: Path) -> None:
    """Write report.html.

    Raises:
        ValueError: files are missing or damaged, a line for each.
    """
    write_text(folder / "report.html", render(Plan(run.config), folder))
