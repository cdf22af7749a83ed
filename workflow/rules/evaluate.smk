rule decode:
    input:
        found("arch.npz"),
    output:
        f"{RUN}/decode/genotype.json",
    log:
        f"{RUN}/decode.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        run=run("decode"),
        told=told("decode", f"{RUN}/decode.run.json"),
        folder=subpath(output[0], parent=True),
        code=digest("decode"),
    message:
        "decode: {wildcards.space} on {wildcards.dataset} by {wildcards.method}, seed {wildcards.seed}"
    shell:
        "exec python -m midas.decode {params.told:q} {params.folder:q} > {log:q} 2>&1"


rule lookup:
    input:
        genotype=f"{RUN}/decode/genotype.json",
        history=found("history.csv"),
    output:
        metrics=f"{RUN}/lookup/metrics.json",
        history=f"{RUN}/lookup/history.csv",
    log:
        f"{RUN}/lookup.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        run=run("lookup"),
        told=told("lookup", f"{RUN}/lookup.run.json"),
        folder=subpath(output.metrics, parent=True),
        code=digest("lookup"),
    message:
        "look-up: {wildcards.space} on {wildcards.dataset} by {wildcards.method}, seed {wildcards.seed}"
    shell:
        "exec python -m midas.lookup {params.told:q} {params.folder:q} > {log:q} 2>&1"


rule retrain:
    input:
        genotype=f"{RUN}/decode/genotype.json",
        data=f"{ROOT}/data/{{dataset}}/metrics.json",
    output:
        metrics=f"{RUN}/retrain/metrics.json",
        history=f"{RUN}/retrain/history.csv",
        model=f"{RUN}/retrain/model.safetensors",
    log:
        f"{RUN}/retrain.log",
    conda:
        "../envs/train.yaml"
    threads: PLAN.config.threads
    resources:
        mem_mb=memory(16000, 3),
        runtime=2880,
        gpu=GPU,
    params:
        run=run("retrain"),
        told=told("retrain", f"{RUN}/retrain.run.json"),
        folder=subpath(output.metrics, parent=True),
        code=digest("retrain"),
    message:
        "retrain: {wildcards.space} on {wildcards.dataset} by {wildcards.method}, seed {wildcards.seed}"
    shell:
        f"{ATTEMPTS}"
        "exec python -m midas.retrain {params.told:q} {params.folder:q} --minutes {resources.runtime} --workflow "
        ">> {log:q} 2>&1"


# The same cell under further settings.
use rule retrain as retrain_also with:
    output:
        metrics=f"{RUN}/retrain_also/{{setting}}/metrics.json",
        history=f"{RUN}/retrain_also/{{setting}}/history.csv",
        model=f"{RUN}/retrain_also/{{setting}}/model.safetensors",
    log:
        f"{RUN}/retrain_also/{{setting}}.log",
    params:
        run=run("retrain"),
        told=told("retrain", f"{RUN}/retrain_also/{{setting}}.run.json"),
        folder=subpath(output.metrics, parent=True),
        code=digest("retrain"),
    message:
        "retrain: {wildcards.space} on {wildcards.dataset} by {wildcards.method}, seed {wildcards.seed}, as {wildcards.setting}"


# On several GPUs torch's launcher starts a process for each.
rule transfer:
    input:
        genotype=f"{RUN}/decode/genotype.json",
        data=lambda wildcards: f"{ROOT}/data/{transfer_of(wildcards).dataset}/metrics.json",
    output:
        metrics=f"{RUN}/transfer/metrics.json",
        history=f"{RUN}/transfer/history.csv",
        model=f"{RUN}/transfer/model.safetensors",
    log:
        f"{RUN}/transfer.log",
    conda:
        "../envs/train.yaml"
    threads: lambda wildcards: transfer_of(wildcards).gpus * (PLAN.config.threads + transfer_of(wildcards).workers)
    resources:
        mem_mb=32000,
        runtime=10080,
        gpu=lambda wildcards: GPU * transfer_of(wildcards).gpus,
    params:
        run=run("transfer"),
        told=told("transfer", f"{RUN}/transfer.run.json"),
        launch=launch,
        folder=subpath(output.metrics, parent=True),
        code=digest("transfer"),
    message:
        "transfer: {wildcards.space} from {wildcards.dataset} by {wildcards.method}, seed {wildcards.seed}"
    shell:
        f"{ATTEMPTS}"
        "exec python -m {params.launch} midas.transfer {params.told:q} {params.folder:q} --minutes {resources.runtime} "
        "--workflow >> {log:q} 2>&1"
