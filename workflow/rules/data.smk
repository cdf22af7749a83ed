rule data:
    output:
        f"{ROOT}/data/{{dataset}}/metrics.json",
    log:
        f"{ROOT}/data/{{dataset}}/log.txt",
    priority: 1  # missing data are better known before the searches
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000, 2),
        runtime=240,  # a million images are opened once
    params:
        run=run("data"),
        told=told("data", f"{ROOT}/data/{{dataset}}/data.run.json"),
        folder=subpath(output[0], parent=True),
        code=digest("data"),
    message:
        "data: {wildcards.dataset}"
    shell:
        "exec python -m midas.data {params.told:q} {params.folder:q} > {log:q} 2>&1"
