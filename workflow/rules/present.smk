# Tables and figures read files alone: they are redrawn in seconds, without torch.
rule table:
    input:
        lambda wildcards: table_inputs(int(wildcards.number)),
    output:
        report(
            f"{ROOT}/tables/table_{{number}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{number}", "format": "csv"},
        ),
        f"{ROOT}/tables/table_{{number}}.md",
        f"{ROOT}/tables/table_{{number}}.tex",
    log:
        f"{ROOT}/tables/table_{{number}}.log",
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        run=lambda wildcards: PLAN.present(int(wildcards.number)),
        folder=subpath(output[0], parent=True),
        code=digest("analysis.tables"),
    message:
        "table {wildcards.number}"
    shell:
        "exec python -m midas.analysis.tables {params.run:q} {params.folder:q} > {log:q} 2>&1"


rule figure:
    input:
        lambda wildcards: figure_inputs(int(wildcards.number)),
    output:
        f"{FIGURES}/figure_{{number}}.pdf",
        report(
            f"{FIGURES}/figure_{{number}}.png",
            caption="../report/figure_{number}.rst",
            category="Figures",
            labels={"figure": "{number}"},
        ),
    log:
        f"{ROOT}/figures/figure_{{number}}.log",
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        run=lambda wildcards: PLAN.present(int(wildcards.number)),
        folder=subpath(output[0], parent=True),
        code=digest("analysis.figures"),
    message:
        "figure {wildcards.number}"
    shell:
        "exec python -m midas.analysis.figures {params.run:q} {params.folder:q} > {log:q} 2>&1"


rule tables:
    input:
        expand(f"{ROOT}/tables/table_{{number}}.{{form}}", number=PLAN.tables(), form=["csv", "md", "tex"]),


rule figures:
    input:
        expand(f"{FIGURES}/figure_{{number:02d}}.{{form}}", number=PLAN.figures(), form=["pdf", "png"]),
