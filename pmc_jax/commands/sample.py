"""`pmc sample`: answers of a model to the forget questions."""

from typing import Any

from pmc_jax.commands.inputs import _loaded
from pmc_jax.config.run import Config, model_path
from pmc_jax.data.sets import forget_set, needed
from pmc_jax.sampling.generator import TextGenerator, pmc_sampler


def run_sample(config: Config) -> list[dict[str, Any]]:
    """`pmc sample`: `pmc.sampling.num_samples` answers of `model.path` to every forget question."""
    forget = forget_set(needed(config.data.forget, "data.forget"), config.data)
    lm = _loaded(config, model_path(config))
    generator = TextGenerator.of(lm, config.model)
    pmc = config.pmc
    generator.prompts(
        forget.questions, pmc.sampling.max_new_tokens, ids=forget.ids
    )  # names a long one
    answers = generator.sample(
        generator.snapshot(lm.model),
        forget.questions,
        pmc_sampler(pmc),
        num_samples=pmc.sampling.num_samples,
        max_new_tokens=pmc.sampling.max_new_tokens,
        batch_size=pmc.sampling.batch_size,
        seed=config.seed,
    )
    return [
        {"id": id_, "question": question, "answers": texts}
        for id_, question, texts in zip(forget.ids, forget.questions, answers, strict=True)
    ]
