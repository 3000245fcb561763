"""Files that are no well-formed YAML, or hold no experiments; made from an example's text."""

from __future__ import annotations

from tests.mutations.contradictions import SMALL
from tests.mutations.mutate import Mutation

_TEXT = SMALL.read_text(encoding="utf-8")
_LINES = _TEXT.splitlines(keepends=True)


def _replaced(old: str, new: str) -> bytes:
    assert _TEXT.count(old) == 1, old
    return _TEXT.replace(old, new).encode()


def _bomb() -> bytes:
    rows = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    rows += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 9)]
    return "\n".join(rows).encode()


TEXTS = [
    Mutation("a tab as indentation", _replaced("    seed: 0\n", "\tseed: 0\n"), "x.yaml:10:1", "\\t"),
    Mutation("a bracket that stays open", _replaced("{split: train}", "{split: train"), "x.yaml:", "expected"),
    Mutation("a bracket too much", _replaced("{split: train}", "{split: train}}"), "x.yaml:13:", "expected"),
    Mutation(
        "a quote that stays open", _replaced("grid: educ", 'grid: "educ'), "x.yaml:", "quoted scalar, from line 12"
    ),
    Mutation("a key given twice", _replaced("    seed: 0\n", "    seed: 0\n    seed: 1\n"), "x.yaml:11:5", "'seed'"),
    Mutation("an experiment given twice", (_TEXT + _TEXT).encode(), "x.yaml:", "'case14_mafql' is given twice"),
    Mutation("a key indented too little", _replaced("    seed: 0\n", "   seed: 0\n"), "x.yaml:11:15", "not allowed"),
    Mutation("a missing colon", _replaced("run: MAFQL", "run MAFQL"), "x.yaml:", ""),
    Mutation("a colon without space", _replaced("run: MAFQL", "run:MAFQL"), "x.yaml:"),
    Mutation("two documents", (_TEXT + "---\n" + _TEXT).encode(), "x.yaml:", "document"),
    Mutation("UTF-16", _TEXT.encode("utf-16"), "x.yaml", "UTF-8"),
    Mutation("Latin-1", ("# é\n" + _TEXT).encode("latin-1"), "x.yaml", "UTF-8"),
    Mutation("cut off within a letter", ("# é".encode()[:-1] + b"\n"), "x.yaml", "UTF-8"),
    Mutation("a picture", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "x.yaml", "UTF-8"),
    Mutation("zero bytes", b"\x00" * 100, "x.yaml", "special characters"),
    Mutation("a zero byte at the end", _TEXT.encode() + b"\0", "x.yaml", "special characters"),
    Mutation("an empty file", b"", "x.yaml", "a mapping from experiment names"),
    Mutation("spaces only", b"  \n\n  \n", "x.yaml", "a mapping from experiment names"),
    Mutation("comments only", b"# nothing\n", "x.yaml", "a mapping from experiment names"),
    Mutation("a byte order mark only", b"\xef\xbb\xbf", "x.yaml", "a mapping from experiment names"),
    Mutation("a list", b"- run: MAFQL\n- env: grid2op_zones\n", "x.yaml", "a mapping from experiment names"),
    Mutation("a text", b"train MAFQL, please\n", "x.yaml", "a mapping from experiment names"),
    Mutation("an empty mapping", b"{}\n", "x.yaml", "a mapping from experiment names"),
    Mutation("no experiment's name", "".join(line[2:] for line in _LINES[2:]).encode(), "x.yaml", "experiment names"),
    Mutation("an experiment of nothing", b"case14:\n", "x.yaml: case14", "a mapping with 'run'"),
    Mutation("an experiment that is a list", b"case14: [MAFQL]\n", "x.yaml: case14", "a mapping with 'run'"),
    Mutation("a name that is a number", _replaced("case14_mafql:\n", "14:\n"), "x.yaml: 14", "a folder of that name"),
    Mutation("a name that is null", _replaced("case14_mafql:\n", "null:\n"), "x.yaml: None", "a folder of that name"),
    Mutation("a name with a slash", _replaced("case14_mafql:\n", "a/b:\n"), "x.yaml: 'a/b'", "a folder of that name"),
    Mutation("a name that leads upwards", _replaced("case14_mafql:\n", "'..':\n"), "x.yaml: '..'", "a folder"),
    Mutation("a key that is a list", _replaced("seed: 0", "[seed]: 0"), "x.yaml:10:5", "cannot be a key"),
    Mutation("a key that is a number", _replaced("seed: 0", "7: 0"), "case14_mafql.config.7", "unknown key"),
    Mutation("a key that is null", _replaced("seed: 0", "~: 0"), "case14_mafql.config.None", "unknown key"),
    Mutation("an alias of nothing", _replaced("seed: 0", "seed: *none"), "x.yaml:10:11", "undefined alias"),
    Mutation("an alias of itself", _replaced("    seed: 0\n", "    seed: 0\n    a: &a {b: *a}\n"), "x.yaml", "alias"),
    Mutation("aliases that grow", _bomb(), "x.yaml", "1,000,000 values"),
    Mutation(
        "a Python object", _replaced("seed: 0", "seed: !!python/object/apply:os.getpid []"), "x.yaml:10:11", "tag"
    ),
    Mutation("an unknown tag", _replaced("seed: 0", "seed: !number 0"), "x.yaml:10:11", "!number"),
    Mutation("brackets a thousand deep", b"a: " + b"[" * 5000 + b"]" * 5000, "x.yaml", "nested too deeply"),
    Mutation("a merge of no mapping", _replaced("seed: 0", "<<: 0"), "x.yaml:", "merging"),
    Mutation("a date for a number", _replaced("seed: 0", "seed: 2035-01-01"), "case14_mafql.config.seed", "an integer"),
    Mutation("JSON cut off", b'{"case14": {"run": "MAFQL", "env": ', "x.yaml:", "expected"),
]
