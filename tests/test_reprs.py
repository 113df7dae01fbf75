"""The reprs of public objects are short and contain no text of the data."""

import numpy as np
import tiny_runs as tiny

import pmc_jax as pmc
from pmc_jax.artifacts.recorder import RunState
from pmc_jax.commands.inputs import RunInputs
from pmc_jax.data.files import table_of
from pmc_jax.data.records import EvalSet, FinetuneSet, ForgetAnswerSet, ForgetSet, RetainSet
from pmc_jax.data.sources import Rows
from pmc_jax.evaluation.context import AnswerCache, EvalContext, LoadedModel
from pmc_jax.evaluation.levels import secrets_of
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.unlearning.pmc import Rollout, Selection
from pmc_jax.unlearning.store import ReplacementStore

SECRET = "Orla Canaryson lives there."
ROWS = (("a:0",), (SECRET,), (SECRET,))


def test_short_and_without_texts(tmp_path):
    lm = pmc.load(tiny.write_model(tmp_path / "model"))
    generator = TextGenerator.of(lm, pmc.ModelConfig(system_prompt=SECRET))
    forget, retain = ForgetSet(*ROWS[:2]), RetainSet(*ROWS)
    evaluated, config = EvalSet("forget", *ROWS), pmc.EvaluateConfig()
    context = EvalContext({"forget": evaluated}, retain, config, pmc.DataConfig())
    cache = AnswerCache({8: {SECRET: SECRET}})
    result = pmc.Unlearned(lm, {"a": SECRET}, {"a": SECRET}, {"a": 0.0}, [{}], {"total": 3.0}, {})
    store = ReplacementStore(["a"])
    store.offer("a", SECRET, 0.0)
    objects = [
        *(
            lm,
            lm.model,
            generator,
            generator.encoder,
            result,
            store,
            forget,
            retain,
            evaluated,
            context,
        ),
        *(
            FinetuneSet(*ROWS),
            ForgetAnswerSet(*ROWS),
            cache,
            LoadedModel("after", generator, cache),
        ),
        RunInputs(forget, retain, None, [SECRET], [evaluated]),
        RunState(texts={SECRET: SECRET}),
        table_of("f.csv", [{SECRET: SECRET}]),
        Rows(("a:0",), (SECRET,), (), {"subject": (SECRET,)}),
        *secrets_of(forget, [SECRET], [evaluated], retain, config),
        Rollout([SECRET], np.ones(1), np.ones(1), np.ones(1, bool), np.ones(1, bool)),
        Selection("a:0", SECRET, 0.5, [0.5]),
        pmc.ModelConfig(system_prompt=SECRET),
        pmc.PMCConfig(score=pmc.ScoreConfig(name="forbidden", forbidden=(SECRET,))),
        pmc.Config(model=pmc.ModelConfig(path="model", system_prompt=SECRET)),
    ]
    for shown in [*map(repr, objects), *map(str, objects)]:
        assert "Canary" not in shown and len(shown) < 600 and "\n" not in shown, shown
    shown_in_notebooks = [one._repr_html_() for one in objects if hasattr(one, "_repr_html_")]
    assert len(shown_in_notebooks) >= 9
    assert not [text for text in shown_in_notebooks if "Canary" in text or len(text) > 2000]
    assert repr(lm).startswith(f"LanguageModel({str(tmp_path / 'model')!r}, 2 layers, ")
    assert repr(retain) == "RetainSet(1 rows)"
    model = "ModelConfig(path='model', system_prompt=a text of 27 characters)"
    assert repr(objects[-1]) == f"Config(model={model})"
