"""What may not be in the code: what runs the text of a file, and shell commands that aren't quoted."""

import ast
import re

from places import ROOT

NUMBERS_AND_OPTIONS = {"resources.runtime", "params.launch", "ATTEMPTS"}
"""Fields of shell commands that aren't quoted: a number, what `launch` of common.smk makes of one, a command looked at itself."""
FORBIDDEN = {
    "eval",
    "exec",
    "compile",
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.unsafe_load",
    "pickle.load",
    "pickle.loads",
}


def test_nothing_runs_what_a_file_or_a_name_says():
    files = list((ROOT / "midas").rglob("*.py"))
    assert len(files) > 60
    loads = 0
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not {"pickle", "marshal", "shelve", "dill"} & set(names), file
            if isinstance(node, ast.Call):
                called, options = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert called not in FORBIDDEN, (file, called)
                assert options.get("shell", "False") == "False", (file, node.lineno)
                assert options.get("allow_pickle", "False") == "False", (file, node.lineno)
                if called == "torch.load":
                    loads += 1
                    assert options.get("weights_only") == "True", (file, node.lineno)
    assert loads


def test_what_rules_hand_to_a_shell_is_quoted():
    found = 0
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        for block in re.findall(r'(?:shell:|^ATTEMPTS = \()\s*((?:f?"[^"]*"\s*)+)', file.read_text(), re.MULTILINE):
            fields = set(re.findall(r"\{([^}]*)\}", block))
            found += 1
            assert {f for f in fields if not f.endswith(":q")} <= NUMBERS_AND_OPTIONS, (file.name, block)
    rules = 1 + sum(file.read_text().count("shell:") for file in (ROOT / "workflow/rules").glob("*.smk"))
    assert found == rules > 10
