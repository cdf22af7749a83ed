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
        mem_mb=4000,
        runtime=240,  # a million images are opened once
    params:
        run=run("data"),
        folder=subpath(output[0], parent=True),
        code=digest("data"),
    message:
        "data: {wildcards.dataset}"
    shell:
        "exec python -m midas.data {params.run:q} {params.folder:q} > {log:q} 2>&1"
