"""Corpus of malformed inputs, which every command must reject with a message.

Each case has a function that spoils the folder of valid inputs from `tiny_runs.write_inputs`, and
overrides of settings.
"""

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from pmc_jax.config.run import Config
from pmc_jax.config.schema import dotted_names

Spoil = Callable[[Path], None]
Case = tuple[Spoil, tuple[str, ...]]

GOOD = b'{"question": "a b", "answer": "c"}\n'


def _file(name: str, content: bytes | str) -> Spoil:
    content = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(content)


def _json_lines() -> dict[str, bytes]:
    nested = "[" * 100_000
    lines = {
        "empty": b"",
        "blank": b" \n\t\n\r\n",
        "mark alone": b"\xef\xbb\xbf",
        "utf-16": '{"question": "a"}'.encode("utf-16"),
        "utf-32": '{"question": "a"}'.encode("utf-32"),
        "latin-1": b'{"question": "caf\xe9"}',
        "half a character": b'{"question": "caf\xc3',
        "overlong": b'{"question": "\xc0\xaf"}',
        "zeros": bytes(4096),
        "a zero in a string": b'{"question": "a\0b"}',
        "control character": b'{"question": "a\x01b"}',
        "newline in a string": b'{"question": "a\nb"}',
        "page": b"<html><body>Not found</body></html>",
        "zip": b"PK\3\4" + bytes(100),
        "pickle": b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x02os\x94.",
        "deep": f'{{"question": {nested}}}'.encode(),
        "deep objects": (b'{"question": ' * 50_000),
        "digits": b'{"question": ' + b"9" * 10_000 + b"}",
        "megabyte cut off": b'{"question": "' + b"x" * 1_000_000,
        "megabyte": json.dumps({"question": "Zorb " * 200_000, "answer": "c"}).encode(),
        "single quotes": b"{'question': 'a'}",
        "trailing comma": b'{"question": "a",}',
        "comment": b'// a comment\n{"question": "a"}',
        "python": b'{"question": None}',
        "no quotes": b"{question: a}",
        "two values": b'{"question": "a"} {"question": "b"}',
        "half a pair": rb'{"question": "\ud800"}',
        "other half": rb'{"question": "a\udfffb"}',
        "halves apart": rb'{"question": "\ud83d x \ude00"}',
        "bad escape": rb'{"question": "\x41"}',
    }
    for value in ("null", "1", "1.5", "true", "[]", "{}", '["a"]', '""', '" "', '"\\u00a0"'):
        lines[f"question {value}"] = f'{{"question": {value}, "answer": "c"}}'.encode()
    for value in ("null", "1", '"a"', "[]", '["question"]', "true", "NaN", "-", "{", "}"):
        lines[f"row {value}"] = value.encode()
    for name in ("Question", "questions", "question ", "", "prompt"):
        lines[f"column {name!r}"] = json.dumps({name: "a"}).encode()
    lines |= {
        f"good and {name}": GOOD * 3 + lines[name] for name in ("zeros", "row 1", "column ''")
    }
    lines |= {f"cut at {n}": GOOD + GOOD[:n] for n in (1, 5, 12, 20, 33)}
    return lines


def _tables() -> dict[str, tuple[str, bytes]]:
    """Returns malformed CSV, JSON and Parquet files by name, as pairs of file name and content."""
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"question": ["a", "b"]}), out)
    whole = out.getvalue()
    tables = {
        "csv empty": ("f.csv", b""),
        "csv header alone": ("f.csv", b"question,answer\n"),
        "csv twice": ("f.csv", b"question,question\na,b\n"),
        "csv too many": ("f.csv", b"question\na,b\n"),
        "csv too few": ("f.csv", b"question,answer\na\n"),
        "csv quote": ("f.csv", b'question\n"a\n'),
        "csv quote inside": ("f.csv", b'question\n"a"b\n'),
        "csv utf-16": ("f.csv", "question\na\n".encode("utf-16")),
        "csv zeros": ("f.csv", bytes(100)),
        "csv field": ("f.csv", b"question\n" + b"x" * 200_000 + b"\n"),
        "csv blank": ("f.csv", b"question,answer\n ,b\n"),
        "array not closed": ("f.json", b'[{"question": "a"}'),
        "array of texts": ("f.json", b'["a", "b"]'),
        "array of nothing": ("f.json", b"[]"),
        "array and more": ("f.json", b'[{"question": "a"}] x'),
        "array of blank": ("f.json", b'[{"question": "\\n"}]'),
        "parquet empty": ("f.parquet", b""),
        "parquet text": ("f.parquet", GOOD),
        "parquet magic": ("f.parquet", b"PAR1" + bytes(100) + b"PAR1"),
        "suffix": ("f.txt", GOOD),
        "no suffix": ("f", GOOD),
        "pickle suffix": ("f.pkl", b"\x80\x04."),
    }
    for size in (4, 12, len(whole) // 2, len(whole) - 4, len(whole) - 1):
        tables[f"parquet cut at {size}"] = ("f.parquet", whole[:size])
    for name, column in (
        ("numbers", [1]),
        ("nulls", [None]),
        ("lists", [["a"]]),
        ("bytes", [b"a"]),
    ):
        out = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table({"question": column}), out)
        tables[f"parquet {name}"] = ("f.parquet", out.getvalue())
    return tables


_SETTINGS = {
    "cut": "model: {path: model",
    "tabs": "model:\n\tpath: model\n",
    "twice": "model: {path: a, path: b}\n",
    "list": "- model\n",
    "text": "model\n",
    "bomb": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "object": "model: !!python/object/apply:os.system [ls]\n",
    "name": "model: !!python/name:os.system\n",
    "binary": "model: !!binary aGk=\n",
    "unknown tag": "model: !person {name: x}\n",
    "merge": "x: &x {path: a}\nmodel: {<<: *x}\n",
    "deep": "model: " + "[" * 20_000,
    "deep keys": "a: {" * 5_000,
    "digits": "seed: " + "9" * 10_000,
    "zeros": "\0" * 100,
    "surrogate": "model: {path: \ud800}\n",
    "two documents": "model: {path: a}\n---\nmodel: {path: b}\n",
    "complex key": "? [a, b]\n: c\n",
    "number key": "1: {path: a}\n",
    "null key": "~: 3\n",
    "directive": "%YAML 9.9\n---\na: 1\n",
    "large": "# " + "x" * 1_100_000,
}


_NUMBERS = (-1, 0, 1.5, "8", None, [], {}, True, 10**30, float("nan"))


def _configurations() -> dict[str, dict[str, Any]]:
    """Returns invalid edits of config.json by name."""
    edits: dict[str, dict[str, Any]] = {}
    for field in ("hidden_size", "num_attention_heads", "vocab_size", "num_hidden_layers"):
        for value in _NUMBERS:
            edits[f"{field} {value}"] = {field: value}
    edits |= {
        "heads": {"num_attention_heads": 5},
        "key heads": {"num_key_value_heads": 3},
        "family": {"model_type": "mamba"},
        "family number": {"model_type": 3},
        "family path": {"model_type": "../../etc/passwd"},
        "activation": {"hidden_act": "system('ls')"},
        "rope": {"rope_parameters": {"rope_type": "unheard", "rope_theta": 1e4}},
        "rope type": {"rope_parameters": {"rope_type": [], "rope_theta": 1e4}},
        "rope text": {"rope_parameters": "default"},
        "theta": {"rope_parameters": {"rope_type": "default", "rope_theta": "x"}},
        "eps": {"rms_norm_eps": "small"},
    }
    return edits


def _safetensors() -> dict[str, bytes]:
    """Returns contents of safetensors files with invalid headers by name."""

    def made(header: Any, data: bytes = bytes(64)) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data

    def tensor(dtype="F32", shape=(4, 4), offsets=(0, 64)) -> dict[str, Any]:
        return {"t": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}

    return {
        "empty": b"",
        "short": b"\x08\0\0",
        "length": struct.pack("<Q", 1 << 62) + b"{}",
        "length of the file": struct.pack("<Q", 8) + b"{}",
        "negative length": struct.pack("<q", -1) + b"{}",
        "no json": made(b"{{{{"),
        "no object": made([1]),
        "utf-16": made("{}".encode("utf-16")),
        "deep": made(b"[" * 50_000),
        "beyond": made(tensor(offsets=(0, 1 << 40))),
        "before": made(tensor(offsets=(-64, 0))),
        "backwards": made(tensor(offsets=(64, 0))),
        "overlap": made(tensor() | {"u": {**tensor()["t"]}}),
        "dtype": made(tensor(dtype="F33")),
        "dtype number": made(tensor(dtype=7)),
        "shape": made(tensor(shape=(1 << 40, 1 << 40))),
        "negative shape": made(tensor(shape=(-4, -4))),
        "shape text": made(tensor(shape="44")),
        "no offsets": made({"t": {"dtype": "F32", "shape": [4, 4]}}),
        "offsets": made(tensor(offsets=(0,))),
        "entry": made({"t": 3}),
        "hole": made(tensor(offsets=(0, 64)), bytes(128)),
        "page": b"<html>" + bytes(100),
        "pickle": b"\x80\x02}q\0." + bytes(100),
    }


_TOKENIZERS = {
    "empty": "",
    "list": "[]",
    "no model": "{}",
    "type": '{"model": {"type": "Unheard"}}',
    "vocabulary": '{"model": {"type": "WordLevel", "vocab": [], "unk_token": "x"}}',
    "cut": '{"model": {"type": "WordLevel", "vocab": {"a": 0',
    "zeros": "\0" * 64,
}
_TEMPLATES = {
    "syntax": "{% for %}",
    "not closed": "{{ messages",
    "raises": "{{ raise_exception('no') }}",
    "undefined": "{{ messages.x.y.z }}",
    "import": "{% import 'os' as os %}{{ os.system('ls') }}",
    "escape": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "division": "{{ 1 // 0 }}",
    "range": "{{ range(10**9) | list }}",
}


def _template(text: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / "model" / "chat_template.jinja").write_text(text)

    return spoil


def _edited(edit: dict[str, Any]) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / "model" / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | edit))

    return spoil


def corpus() -> dict[str, Case]:
    """Returns all cases by name."""
    cases: dict[str, Case] = {}
    for name, content in _json_lines().items():
        cases[f"forget: {name}"] = (_file("forget.jsonl", content), ())
        cases[f"retain: {name}"] = (_file("retain.jsonl", content), ())
    for name, (file, content) in _tables().items():
        cases[f"table: {name}"] = (_file(file, content), (f"data.forget.path={file}",))
    for name, text in _SETTINGS.items():
        cases[f"settings: {name}"] = (_file("run.yaml", text), ())
    for name in dotted_names(Config):  # No setting can have this value.
        cases[f"override: {name}"] = (lambda folder: None, (f"{name}={{x: [1]}}",))
    for name, edit in _configurations().items():
        cases[f"config: {name}"] = (_edited(edit), ())
    for name, content in _safetensors().items():
        cases[f"weights: {name}"] = (_file("model/model.safetensors", content), ())
    for value in ("x", -1, 2**70, [2, "x"], [[2]], {}, True, "\ud800"):
        content = json.dumps({"eos_token_id": value})
        cases[f"ends: {value!r}"] = (_file("model/generation_config.json", content), ())
    for name, text in _TOKENIZERS.items():
        cases[f"tokenizer: {name}"] = (_file("model/tokenizer.json", text), ())
    for name, text in _TEMPLATES.items():
        cases[f"template: {name}"] = (_template(text), ())
    for name in ("cut: {", "list: []", "text: a", "zeros: \0"):
        kind, _, content = name.partition(": ")
        cases[f"config.json: {kind}"] = (_file("model/config.json", content), ())
    return cases
