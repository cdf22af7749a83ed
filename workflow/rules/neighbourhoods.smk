# Surroundings of the found cells in the benchmark: its table is read here after the searches, by nothing that they wait for.
from midas.plan.further import neighbourhoods as near

NEAR = [str(path) for path in near.files(SHOWN)]


rule neighbourhood_numbers:
    input:
        of_cells("decode/genotype.json", space=near.SPACE, searched=True),
    output:
        metrics=f"{ROOT}/neighbourhoods/metrics.json",
        cells=f"{ROOT}/neighbourhoods/cells.csv",
        curves=f"{ROOT}/neighbourhoods/curves.csv",
        paths=f"{ROOT}/neighbourhoods/paths.csv",
        tests=f"{ROOT}/neighbourhoods/tests.csv",
    log:
        f"{ROOT}/neighbourhoods.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        run=shown_by(),
        told=shown(f"{ROOT}/neighbourhoods.run.json"),
        decided_by=near.decided_by(SHOWN),
        folder=subpath(output.metrics, parent=True),
        code=digest("analysis.neighbourhoods"),
    message:
        "neighbourhoods of the found cells"
    shell:
        "exec python -m midas.analysis.neighbourhoods {params.told:q} {params.folder:q} > {log:q} 2>&1"


rule table_s2:
    input:
        NEAR,
    output:
        report(
            f"{ROOT}/tables/table_s2.csv",
            caption="../report/further/table_s2.rst",
            category="Tables",
            labels={"table": "S2"},
        ),
        f"{ROOT}/tables/table_s2.md",
        f"{ROOT}/tables/table_s2.tex",
    log:
        f"{ROOT}/tables/table_s2.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        run=shown_by(),
        told=shown(f"{ROOT}/tables/table_s2.run.json"),
        folder=subpath(output[0], parent=True),
        code=digest("analysis.neighbourhoods.table"),
    message:
        "table S2"
    shell:
        "exec python -m midas.analysis.neighbourhoods.table {params.told:q} {params.folder:q} > {log:q} 2>&1"


rule figure_s2:
    input:
        NEAR,
    output:
        f"{FIGURES}/figure_s2.pdf",
        report(
            f"{FIGURES}/figure_s2.png",
            caption="../report/further/figure_s2.rst",
            category="Figures",
            labels={"figure": "S2"},
        ),
    log:
        f"{ROOT}/figures/figure_s2.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        run=shown_by(),
        told=shown(f"{ROOT}/figures/figure_s2.run.json"),
        folder=subpath(output[0], parent=True),
        code=digest("analysis.neighbourhoods.figure"),
    message:
        "figure S2"
    shell:
        "exec python -m midas.analysis.neighbourhoods.figure {params.told:q} {params.folder:q} > {log:q} 2>&1"


rule neighbourhoods:
    input:
        rules.table_s2.output,
        rules.figure_s2.output,
