# Scores without training, of cells of NAS-Bench-201 that a seed draws; then table S3. The benchmark's table is read after all
# searches, for table S3 alone. What a killed job had scored lies in chunk{n}_checkpoint/, undeclared: Snakemake deletes declared
# outputs of a failed job.
wildcard_constraints:
    chunk="[0-9]+",


rule score:
    input:
        f"{ROOT}/data/{PLAN.config.proxies.dataset}/metrics.json",
    output:
        scores=f"{ROOT}/proxies/chunk{{chunk}}/scores.csv",
        metrics=f"{ROOT}/proxies/chunk{{chunk}}/metrics.json",
    log:
        f"{ROOT}/proxies/chunk{{chunk}}.log",
    conda:
        "../envs/train.yaml"
    threads: PLAN.config.threads
    resources:
        mem_mb=lambda wildcards, attempt: attempt * (4000 + 3 * PLAN.megabytes(PLAN.config.proxies.dataset)),
        runtime=240,
    params:
        run=run("score"),
        told=told("score", f"{ROOT}/proxies/chunk{{chunk}}.run.json"),
        folder=subpath(output.metrics, parent=True),
        code=digest("score"),
    message:
        "scores: part {wildcards.chunk} of the sample"
    shell:
        f"{ATTEMPTS}"
        "exec python -m midas.score {params.told:q} {params.folder:q} --minutes {resources.runtime} --workflow "
        ">> {log:q} 2>&1"


rule accuracies:
    input:
        genotypes=lambda wildcards: SHOWN.resolved("accuracies").genotypes,
    output:
        accuracies=f"{ROOT}/proxies/accuracies/accuracies.csv",
        metrics=f"{ROOT}/proxies/accuracies/metrics.json",
    log:
        f"{ROOT}/proxies/accuracies.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        run=accuracies_decisive,
        told=accuracies_told,
        folder=subpath(output.metrics, parent=True),
        code=digest("accuracies"),
    message:
        "accuracies of the scored cells"
    shell:
        "exec python -m midas.accuracies {params.told:q} {params.folder:q} > {log:q} 2>&1"


TABLES_NAMED = [path for path in (PLAN.config.nas_bench_201_table, PLAN.config.proxies.robust) if path]


rule table_s3:
    input:
        scores=expand(
            f"{ROOT}/proxies/chunk{{chunk}}/{{file}}",
            chunk=range(PLAN.config.proxies.chunks),
            file=["scores.csv", "metrics.json"],
        ),
        found=looked_up_in_nas_bench_201(),
        accuracies=rules.accuracies.output if TABLES_NAMED else [],
    output:
        report(
            f"{ROOT}/tables/table_s3.csv",
            caption="../report/further/table_s3.rst",
            category="Tables",
            labels={"table": "S3"},
        ),
        f"{ROOT}/tables/table_s3.md",
        f"{ROOT}/tables/table_s3.tex",
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
