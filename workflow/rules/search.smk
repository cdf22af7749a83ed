# The checkpoint lies beside the outputs in search_checkpoint/, undeclared: Snakemake deletes declared outputs of a failed job.
rule search:
    input:
        f"{ROOT}/data/{{dataset}}/metrics.json",
    output:
        dump=f"{RUN}/search/arch.npz",
        example=f"{RUN}/search/example.npz",
        history=f"{RUN}/search/history.csv",
        metrics=f"{RUN}/search/metrics.json",
    log:
        f"{RUN}/search.log",
    conda:
        "../envs/train.yaml"
    threads: PLAN.config.threads
    resources:
        mem_mb=memory(16000, 3),
        runtime=1440,
        gpu=GPU,
    params:
        run=run("search"),
        told=told("search", f"{RUN}/search.run.json"),
        folder=subpath(output.metrics, parent=True),
        code=digest("search"),
    message:
        "search: {wildcards.space} on {wildcards.dataset} by {wildcards.method}, seed {wildcards.seed}"
    shell:
        f"{ATTEMPTS}"
        "exec python -m midas.search {params.told:q} {params.folder:q} --minutes {resources.runtime} --workflow "
        ">> {log:q} 2>&1"


# Times are compared, so nothing else should run beside it: it takes all cores of this machine. Those of a cluster's nodes are not
# known: there the profile asks for a whole node.
rule cost:
    input:
        f"{ROOT}/data/{{dataset}}/metrics.json",
    output:
        metrics=f"{ROOT}/{{space}}/{{dataset}}/cost/metrics.json",
        steps=f"{ROOT}/{{space}}/{{dataset}}/cost/steps.csv",
    log:
        f"{ROOT}/{{space}}/{{dataset}}/cost.log",
    conda:
        "../envs/train.yaml"
    threads: workflow.resource_settings.cores or PLAN.config.threads
    resources:
        mem_mb=memory(32000, 2),
        runtime=240,
        gpu=GPU,
    params:
        run=run("cost"),
        told=told("cost", f"{ROOT}/{{space}}/{{dataset}}/cost.run.json"),
        folder=subpath(output.metrics, parent=True),
        code=digest("cost"),
    message:
        "cost of a search: {wildcards.space} on {wildcards.dataset}"
    shell:
        "exec python -m midas.cost {params.told:q} {params.folder:q} > {log:q} 2>&1"
