# Scores without training, of cells of NAS-Bench-201 that a seed draws; then table S3. The benchmark's table is read by the last rule
# alone. What a killed job had scored lies in chunk{n}_checkpoint/, undeclared: Snakemake deletes declared outputs of a failed job.
from midas.images.contents import of_file

CHUNK = f"{ROOT}/proxies/chunk{{chunk}}"


wildcard_constraints:
    chunk="[0-9]+",


rule score:
    input:
        f"{ROOT}/data/{PLAN.config.proxies.dataset}/metrics.json",
    output:
        scores=f"{CHUNK}/scores.csv",
        metrics=f"{CHUNK}/metrics.json",
    log:
        f"{CHUNK}.log",
    conda:
        "../envs/train.yaml"
    threads: PLAN.config.threads
    resources:
        mem_mb=lambda wildcards, attempt: attempt * (4000 + 3 * PLAN.megabytes(PLAN.config.proxies.dataset)),
        runtime=240,
    params:
        run=run("score"),
        told=told("score", f"{CHUNK}.run.json"),
        folder=subpath(output.metrics, parent=True),
        code=digest("score"),
    message:
        "scores: part {wildcards.chunk} of the sample"
    shell:
        "exec python -m midas.score {params.told:q} {params.folder:q} --minutes {resources.runtime} --workflow "
        "> {log:q} 2>&1"


def looked_up_in_nas_bench_201():
    """What table S3 reads of the searches: nothing where no table of the benchmark is named."""
    if SHOWN.evaluation("nas_bench_201") != "lookup":
        return []
    return evaluations("nas_bench_201") + of_cells("lookup/history.csv", space="nas_bench_201", evaluated=True)


def accuracies_known():
    """Digests of the user's tables that table S3 reads: it is drawn again where their contents change."""
    robust = PLAN.config.proxies.robust
    named = [PLAN.config.nas_bench_201_table, robust.table if robust else None]
    try:
        return [of_file(path) for path in named]
    except ValueError as error:
        raise WorkflowError(f"proxies: {error}") from None


rule table_s3:
    input:
        scores=expand(f"{CHUNK}/{{file}}", chunk=range(PLAN.config.proxies.chunks), file=["scores.csv", "metrics.json"]),
        found=looked_up_in_nas_bench_201(),
    output:
        multiext(f"{ROOT}/tables/table_s3", ".csv", ".md", ".tex"),
    log:
        f"{ROOT}/tables/table_s3.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        run=shown_by(),
        tables=lambda wildcards: accuracies_known(),
        told=shown(f"{ROOT}/tables/table_s3.run.json"),
        folder=subpath(output[0], parent=True),
        code=digest("analysis.proxies"),
    message:
        "table S3: scores without training"
    shell:
        "exec python -m midas.analysis.proxies {params.told:q} {params.folder:q} > {log:q} 2>&1"


rule proxies:
    input:
        rules.table_s3.output,
    localrule: True


BESIDE += rules.proxies.input
