# The search over functions, and how often it finds a known one again: `snakemake functions`.
from midas.config.further.functions import FunctionsRun

FUNCTIONS_RUN = FunctionsRun(threads=PLAN.config.threads, functions=PLAN.config.functions)


rule recovery:
    output:
        rows=f"{ROOT}/functions/recovery.csv",
        metrics=f"{ROOT}/functions/metrics.json",
    log:
        f"{ROOT}/functions.log",
    conda:
        "../envs/train.yaml"
    threads: PLAN.config.threads
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        run=json.dumps(decisive(FUNCTIONS_RUN)),
        told=lambda wildcards, threads: written(f"{ROOT}/functions.run.json", FUNCTIONS_RUN.model_dump_json()),
        folder=subpath(output.metrics, parent=True),
        code=digest("functions"),
    message:
        "functions: searches for known ones"
    shell:
        "exec python -m midas.functions {params.told:q} {params.folder:q} > {log:q} 2>&1"


rule table_s4:
    input:
        rules.recovery.output,
    output:
        report(
            f"{ROOT}/tables/table_s4.csv",
            caption="../report/further/table_s4.rst",
            category="Tables",
            labels={"table": "S4"},
        ),
        f"{ROOT}/tables/table_s4.md",
        f"{ROOT}/tables/table_s4.tex",
    log:
        f"{ROOT}/tables/table_s4.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        run=shown_by(),
        told=shown(f"{ROOT}/tables/table_s4.run.json"),
        folder=subpath(output[0], parent=True),
        code=digest("analysis.functions"),
    message:
        "table S4"
    shell:
        "exec python -m midas.analysis.functions {params.told:q} {params.folder:q} > {log:q} 2>&1"


rule functions:
    input:
        rules.table_s4.output,
