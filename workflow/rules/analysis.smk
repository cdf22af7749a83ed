rule statistics:
    input:
        of_analysis("search/arch.npz"),
    output:
        dip=f"{ROOT}/analysis/dip.csv",
        similarity=f"{ROOT}/analysis/similarity.csv",
        weights=f"{ROOT}/analysis/weights.csv",
        variants=f"{ROOT}/analysis/variants.csv",
        metrics=f"{ROOT}/analysis/metrics.json",
    log:
        f"{ROOT}/analysis.log",
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        run=shown_by(),
        told=shown(f"{ROOT}/analysis.run.json"),
        folder=subpath(output.metrics, parent=True),
        code=digest("analysis.statistics"),
    message:
        "statistics: dip tests, class similarity, weights"
    shell:
        "exec python -m midas.analysis.statistics {params.told:q} {params.folder:q} > {log:q} 2>&1"
