# Tables and figures read files alone: they are redrawn in seconds, without torch. Each has a rule of its own, since a report's
# caption can't depend on a wildcard.
for number in SHOWN.tables():

    rule:
        name:
            f"table_{number}"
        input:
            table_inputs(number),
            literature=[f"midas/analysis/literature/{LITERATURE[number]}.csv"] if number in LITERATURE else [],
        output:
            report(
                f"{ROOT}/tables/table_{number}.csv",
                caption=f"../report/table_{number}.rst",
                category="Tables",
                labels={"table": f"{number}"},
            ),
            f"{ROOT}/tables/table_{number}.md",
            f"{ROOT}/tables/table_{number}.tex",
        log:
            f"{ROOT}/tables/table_{number}.log",
        localrule: True
        conda:
            "../envs/analysis.yaml"
        threads: 1
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            run=shown_by(number),
            told=shown(f"{ROOT}/tables/table_{number}.run.json", number),
            folder=subpath(output[0], parent=True),
            code=digest("analysis.tables"),
        message:
            f"table {number}"
        shell:
            "exec python -m midas.analysis.tables {params.told:q} {params.folder:q} > {log:q} 2>&1"


for number in SHOWN.figures():

    rule:
        name:
            f"figure_{number:02d}"
        input:
            figure_inputs(number),
        output:
            f"{FIGURES}/figure_{number:02d}.pdf",
            report(
                f"{FIGURES}/figure_{number:02d}.png",
                caption=f"../report/figure_{number:02d}.rst",
                category="Figures",
                labels={"figure": f"{number}"},
            ),
        log:
            f"{ROOT}/figures/figure_{number:02d}.log",
        localrule: True
        conda:
            "../envs/analysis.yaml"
        threads: 1
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            run=shown_by(number),
            told=shown(f"{ROOT}/figures/figure_{number:02d}.run.json", number),
            folder=subpath(output[0], parent=True),
            code=digest("analysis.figures"),
        message:
            f"figure {number}"
        shell:
            "exec python -m midas.analysis.figures {params.told:q} {params.folder:q} > {log:q} 2>&1"


rule tables:
    input:
        expand(f"{ROOT}/tables/table_{{number}}.{{form}}", number=SHOWN.tables(), form=["csv", "md", "tex"]),
    message:
        "all tables are made"


rule figures:
    input:
        expand(f"{FIGURES}/figure_{{number:02d}}.{{form}}", number=SHOWN.figures(), form=["pdf", "png"]),
    message:
        "all figures are made"


rule claims:
    input:
        claim_inputs(),
        claims=PLAN.config.claims,
        literature="midas/analysis/literature/rdarts.csv",
    output:
        f"{ROOT}/claims.json",
        report(f"{ROOT}/claims.md", caption="../report/claims.rst", category="Claims"),
    log:
        f"{ROOT}/claims.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        run=shown_by(),
        told=shown(f"{ROOT}/claims.run.json"),
        folder=subpath(output[0], parent=True),
        code=digest("analysis.claims"),
    message:
        "claims"
    shell:
        "exec python -m midas.analysis.claims {params.told:q} {params.folder:q} > {log:q} 2>&1"


# One page with all of it. The graph of the rules is asked of Snakemake itself.
rule report:
    input:
        rules.tables.input,
        rules.figures.input,
        rules.claims.output,
        further=lambda wildcards: FURTHER,
        template="midas/analysis/report/report.html.jinja",
        captions=sorted(map(str, Path("workflow/report").rglob("*.rst"))),
    output:
        report=f"{ROOT}/report.html",
        config=f"{ROOT}/config.json",
        rulegraph=f"{ROOT}/rulegraph.dot",
    log:
        f"{ROOT}/report.log",
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        run=shown_by(),
        told=shown(f"{ROOT}/report.run.json"),
        config=lambda wildcards, threads: written(f"{ROOT}/config.run.json", PLAN.config.model_dump_json()),
        folder=subpath(output.report, parent=True),
        snakefile=lambda wildcards, threads: workflow.main_snakefile,
        code=digest("analysis.report"),
    message:
        "report: {output.report}"
    shell:
        "cp {params.config:q} {output.config:q} && "
        "snakemake --cores 1 --snakefile {params.snakefile:q} --configfile {output.config:q} --nolock --rulegraph dot "
        "> {output.rulegraph:q} 2> {log:q} && "
        "python -m midas.analysis.report {params.told:q} {params.folder:q} >> {log:q} 2>&1"
