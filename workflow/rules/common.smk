# What all rules share: the plan, and where a run's files are.
from midas.check import load
from midas.config import ConfigError
from midas.provenance import digest

try:
    PLAN = load(config)
except ConfigError as error:
    raise WorkflowError("the configuration can't be used:\n  " + "\n  ".join(error.problems)) from None

ROOT = str(PLAN.root)
FIGURES = f"{PLAN.config.figures_dir}/{PLAN.config.size}"
RUN = f"{ROOT}/{{space}}/{{dataset}}/{{method}}/seed{{seed}}"
GPU = 0 if PLAN.config.device == "cpu" else 1


wildcard_constraints:
    space="[a-z0-9_]+",
    dataset="[a-z0-9_]+",
    method="[a-z0-9_]+",
    seed="[0-9]+",


def run(step):
    """The resolved JSON of a step, from the wildcards of its job."""
    return lambda wildcards: PLAN.run(step, **wildcards)


def of_cells(file, evaluated=False, **chosen):
    """A file of every search of this configuration."""
    return [str(PLAN.cell_folder(cell) / file) for cell in PLAN.cells(evaluated=evaluated, **chosen)]


def evaluations(space):
    """The metrics of every evaluated cell of a space, with the searches that found them."""
    step = PLAN.evaluation(space)
    files = of_cells(f"{step}/metrics.json", space=space, evaluated=True)
    return files + of_cells("search/metrics.json", space=space, evaluated=True)


def of_analysis(file, *methods):
    """A file of the searches that figures 1 to 5 look into: of some methods, or of all of them."""
    analysis = PLAN.config.analysis
    methods = methods or dict.fromkeys([analysis.method, *analysis.compare])
    folders = [PLAN.folder(analysis.space, analysis.dataset, m, seed) for m in methods for seed in PLAN.config.seeds]
    return [str(folder / file) for folder in folders]


LITERATURE = {
    1: "midas/analysis/literature/nas_bench_201.csv",
    2: "midas/analysis/literature/darts.csv",
}


def table_inputs(number):
    """What a table reads of the results."""
    return evaluations({1: "nas_bench_201", 2: "darts"}[number])


def figure_inputs(number):
    """What a figure reads."""
    if number == 1:
        return of_analysis("search/example.npz", PLAN.config.analysis.method)[:1]
    if number <= 5:
        return [f"{ROOT}/analysis/{name}" for name in ("dip.csv", "similarity.csv", "weights.csv", "metrics.json")] + (
            of_analysis("search/arch.npz", PLAN.config.analysis.method) if number == 3 else []
        )
    if number <= 7:
        return [str(PLAN.cell_folder(PLAN.shown_cell(number)) / "decode/genotype.json")]
    return evaluations("nas_bench_201") + of_cells("search/history.csv", space="nas_bench_201", evaluated=True)
