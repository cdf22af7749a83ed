# What all rules share: the plan, and where a run's files are.
import hashlib
import json
import os
import sys
from functools import cache

from midas.plan.check import load
from midas.config.keys import ConfigError
from midas.running import calls, endings
from midas.running.limits import ACCEPTED
from midas.running.provenance import digest
from midas.plan.runs import decisive
from midas.files.writing import write_text
from midas.files.yaml_files import read_yaml


def refuse(problems):
    """End, before any work, with a line for each mistake in the configuration, instead of a traceback."""
    files = ", ".join(str(path).removeprefix(f"{os.getcwd()}/") for path in workflow.configfiles)
    print(f"{files}: this configuration can't be used:", *problems, sep="\n  ", file=sys.stderr)
    sys.exit(1)


try:
    for path in workflow.configfiles:  # Snakemake took the last of a key that is there twice
        read_yaml(Path(path))
except ValueError as error:
    refuse([str(error)])

try:
    PLAN = load(config)
    SHOWN = PLAN.finished() if PLAN.config.partial else PLAN  # what tables and figures are made of
except ConfigError as error:
    refuse(error.problems)

ROOT = str(PLAN.root)
FIGURES = f"{PLAN.config.figures_dir}/{PLAN.config.size}"
RUN = f"{ROOT}/{{space}}/{{dataset}}/{{method}}/seed{{seed}}"
GPU = 0 if PLAN.config.device == "cpu" else 1


wildcard_constraints:
    space="[a-z0-9_]+",
    dataset="[a-z0-9_]+",
    method="[a-z0-9_]+",
    seed="[0-9]+",
    setting="[a-z0-9_]+",


def run(step):
    """What decides the numbers of a step, from the wildcards of its job: where this changes, it is run again."""

    def of(wildcards):
        told = asked(step, wildcards)
        return json.dumps([decisive(told), getattr(told, "contents", "")])

    return of


@cache
def enter():
    """Once in a call that runs jobs, after it is known to, and before Snakemake looks at its locks."""
    settings = workflow.execution_settings  # none where nothing is run, as for a graph of the rules
    if settings and settings.lock and workflow.is_main_process and not (workflow.dryrun or workflow.touch):
        if said := calls.enter(workflow.local_exec):
            print(said, file=sys.stderr)


def asked(step, wildcards):
    enter()
    try:
        return PLAN.asked(step, **wildcards)
    except ValueError as error:
        raise WorkflowError(f"{step}: {error}") from None


# Snakemake compares no parameter whose function asks for `threads`: where data lie and how many work on them is no reason to
# run a step again.
def told(step, path):
    """The file with all that a step is told, which is written here: an argument of a command may be too long."""
    return lambda wildcards, threads: written(path.format(**wildcards), asked(step, wildcards).model_dump_json())


def shown(path, number=None):
    """The same of a table, a figure or what is computed for them."""
    return lambda wildcards, threads: written(path, SHOWN.present(number))


def shown_by(number=None):
    """What decides a table or a figure."""
    return json.dumps(decisive(SHOWN.presented(number)))


def written(path, text):
    """Path of a file that holds a text, after it was written if anything is to be run at all.

    Its name holds a digest: another call, with another configuration, must not change what a job is about to read.
    """
    enter()
    path = Path(path.replace(".run.json", f".{hashlib.sha256(text.encode()).hexdigest()[:8]}.run.json"))
    try:
        if not workflow.dryrun and not path.exists():
            write_text(path, text)
    except OSError as error:
        raise WorkflowError(f"{path}: can't be written: {error.strerror}") from None
    return str(path)


def memory(megabytes, copies=0):
    """Megabytes that a job asks for, and more for copies of a large data set; more again at each retry."""
    return lambda wildcards, attempt: attempt * (megabytes + copies * PLAN.megabytes(wildcards.dataset))


def accept(taken):
    """Tell steps whose outputs are whole whether they are taken, so that they are made again where they are gone.

    See midas.running.durable.Keeper. What was killed isn't taken, and what is run again only since something before it was, isn't
    either: with the same contents it is written again from its checkpoint.
    """
    for job in workflow.dag.jobs:
        if job.rule.name in LONG and all(Path(file).exists() for file in job.output):
            kept = Path(f"{Path(job.output.metrics).parent}_checkpoint")
            if not taken(job):
                (kept / ACCEPTED).unlink(missing_ok=True)
            elif kept.is_dir():
                (kept / ACCEPTED).touch()


def whole_and_wanted(job):
    """Before anything is run: whether a job's outputs are whole, and stay, or are made again since that was asked for."""
    killed = workflow.async_run(workflow.persistence.incomplete(job))
    return not killed and (workflow.dag.reason(job).forced or not workflow.dag.needrun(job))


# The log of a long step holds all attempts: Snakemake deletes a log when a job starts, but not the other name of the same file.
ATTEMPTS = (
    "mkdir -p {params.folder:q}_checkpoint && touch {params.folder:q}_checkpoint/attempts.log && "
    "ln -f {params.folder:q}_checkpoint/attempts.log {log:q} || true; "
)
LONG = ("search", "retrain", "retrain_also", "transfer")


def of_cells(file, **chosen):
    """A file of every cell of this configuration that `chosen` asks for; see `Plan.cells`."""
    return [str(SHOWN.cell_folder(cell) / file) for cell in SHOWN.cells(**chosen)]


def found(file):
    """A file of the search behind a cell; a random cell has none."""
    return lambda wildcards: [] if SHOWN.is_unsearched(wildcards.method) else [f"{RUN}/search/{file}"]


def evaluations(space):
    """The metrics of every evaluated cell of a space, with the searches that found them."""
    files = of_cells(f"{SHOWN.evaluation(space)}/metrics.json", space=space, evaluated=True)
    return files + of_cells("search/metrics.json", space=space, evaluated=True, searched=True)


def retrained_also():
    """The metrics of every further retraining."""
    return [str(SHOWN.retrain_folder(cell, setting) / "metrics.json") for cell, setting in SHOWN.retrained_also()]


def transfers():
    """The metrics of every transferred cell."""
    return [str(SHOWN.cell_folder(cell) / "transfer/metrics.json") for cell in SHOWN.transfers()]


def costs():
    """The measurements of what searches cost."""
    return [f"{ROOT}/{e.space}/{e.dataset}/cost/metrics.json" for e in PLAN.costs()]


def ablations():
    """All that is known of the methods that an ablation compares."""
    files = []
    for experiment in SHOWN.config.experiments:
        evaluation = SHOWN.evaluation(experiment.space)
        for method in experiment.ablation:
            steps = ["decode/genotype.json"]
            if not SHOWN.is_unsearched(method):
                steps += [f"search/{name}" for name in ("metrics.json", "history.csv", "arch.npz")]
            if method in SHOWN.evaluated(experiment):
                steps.append(f"{evaluation}/metrics.json")
            folders = [SHOWN.folder(experiment.space, experiment.dataset, method, seed) for seed in SHOWN.config.seeds]
            files += [str(folder / step) for folder in folders for step in steps]
    if len(SHOWN.attending()) > 1:
        files += STATISTICS + of_analysis("search/metrics.json")
        if SHOWN.evaluation(SHOWN.config.analysis.space) == "lookup":
            files += of_analysis("lookup/metrics.json")
    return list(dict.fromkeys(files))


def of_analysis(file, *methods):
    """A file of the searches that figures 1 to 5 look into: of some methods, or of all of them."""
    analysis = SHOWN.config.analysis
    methods = methods or SHOWN.attending()
    folders = [SHOWN.folder(analysis.space, analysis.dataset, m, seed) for m in methods for seed in SHOWN.config.seeds]
    return [str(folder / file) for folder in folders]


def transfer_of(wildcards):
    """Settings of the transfer of a job."""
    return PLAN.experiment(wildcards.space, wildcards.dataset).transfer


def launch(wildcards):
    """What stands between `python -m` and the module of a transfer."""
    gpus = transfer_of(wildcards).gpus
    return f"torch.distributed.run --standalone --nproc-per-node {gpus} -m" if gpus > 1 else ""


STATISTICS = [
    f"{ROOT}/analysis/{name}" for name in ("dip.csv", "similarity.csv", "weights.csv", "variants.csv", "metrics.json")
]
LITERATURE = {1: "nas_bench_201", 2: "darts", 3: "darts", 4: "rdarts"}


def table_inputs(number):
    """What a table reads of the results."""
    spaces = {1: ["nas_bench_201"], 2: ["darts"], 4: ["s1", "s2", "s3", "s4"]}.get(number, [])
    files = [file for space in spaces for file in evaluations(space)]
    return files + {3: transfers, 5: ablations, 6: costs}.get(number, list)()


def figure_inputs(number):
    """What a figure reads."""
    if number == 1:
        return of_analysis("search/example.npz", SHOWN.config.analysis.method)[:1]
    if number <= 5:
        return STATISTICS + (of_analysis("search/arch.npz", SHOWN.config.analysis.method) if number == 3 else [])
    if number <= 11:
        return [str(SHOWN.cell_folder(SHOWN.shown_cell(number)) / "decode/genotype.json")]
    return evaluations("nas_bench_201") + of_cells(
        "search/history.csv", space="nas_bench_201", evaluated=True, searched=True
    )


def claim_inputs():
    """What the claims are checked on."""
    spaces = dict.fromkeys(experiment.space for experiment in SHOWN.config.experiments)
    return (
        [f for space in spaces for f in evaluations(space)]
        + transfers()
        + (STATISTICS if SHOWN.config.analysis else [])
    )


def looked_up_in_nas_bench_201():
    """What table S3 reads of the searches: nothing where no table of the benchmark is named."""
    if SHOWN.evaluation("nas_bench_201") != "lookup":
        return []
    return evaluations("nas_bench_201") + of_cells("lookup/history.csv", space="nas_bench_201", evaluated=True)


def accuracies_asked():
    """What the step accuracies is told: of the seeds that are shown."""
    try:
        return SHOWN.asked("accuracies")
    except ValueError as error:
        raise WorkflowError(f"accuracies: {error}") from None


def accuracies_decisive(wildcards):
    step = accuracies_asked()
    return json.dumps([decisive(step), step.contents])


def accuracies_told(wildcards, threads):
    return written(f"{ROOT}/proxies/accuracies.run.json", accuracies_asked().model_dump_json())
