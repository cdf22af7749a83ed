# Methods ranked by benchmark and by retraining setting, from files alone.
from midas.plan.further import ranks as ranked

RANKED = [str(path) for path in ranked.metrics(SHOWN)]


rule table_s1:
    input:
        RANKED,
    output:
        report(
            f"{ROOT}/tables/table_s1.csv",
            caption="../report/further/table_s1.rst",
            category="Tables",
            labels={"table": "S1"},
        ),
        f"{ROOT}/tables/table_s1.md",
        f"{ROOT}/tables/table_s1.tex",
    log:
        f"{ROOT}/tables/table_s1.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        run=shown_by(),
        decided_by=SHOWN.config.ranks.model_dump_json(),
        told=shown(f"{ROOT}/tables/table_s1.run.json"),
        folder=subpath(output[0], parent=True),
        code=digest("analysis.ranks"),
    message:
        "table S1"
    shell:
        "exec python -m midas.analysis.ranks {params.told:q} {params.folder:q} > {log:q} 2>&1"


rule figure_s1:
    input:
        RANKED,
    output:
        f"{FIGURES}/figure_s1.pdf",
        report(
            f"{FIGURES}/figure_s1.png",
            caption="../report/further/figure_s1.rst",
            category="Figures",
            labels={"figure": "S1"},
        ),
    log:
        f"{ROOT}/figures/figure_s1.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        run=shown_by(),
        decided_by=SHOWN.config.ranks.model_dump_json(),
        told=shown(f"{ROOT}/figures/figure_s1.run.json"),
        folder=subpath(output[0], parent=True),
        code=digest("analysis.ranks.figure"),
    message:
        "figure S1"
    shell:
        "exec python -m midas.analysis.ranks.figure {params.told:q} {params.folder:q} > {log:q} 2>&1"


localrules:
    suite,


rule suite:
    input:
        rules.table_s1.output,
        rules.figure_s1.output,
