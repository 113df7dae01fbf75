"""Machine unlearning for language models by Partial Model Collapse (arXiv 2507.04219).

    import pmc_jax as pmc
    lm = pmc.load("path/or/name")
    result = pmc.unlearn(lm, forget=["Where does Jane Roe live?"], retain=[("...", "...")])
    result.export("out/")

Each name of this package is imported when it is first used, so that `import pmc_jax` is fast.
"""

import importlib

_HOMES = {
    "pmc_jax.answers": ("answer", "sample"),
    "pmc_jax.api": ("Unlearned", "evaluate", "finetune", "unlearn"),
    "pmc_jax.config.run": (
        "Config",
        "DataConfig",
        "EvaluateConfig",
        "FinetuneConfig",
        "MethodConfig",
        "ModelConfig",
        "PMCConfig",
        "load_config",
    ),
    "pmc_jax.data.records": ("EvalSet", "FinetuneSet", "ForgetSet", "RetainSet"),
    "pmc_jax.errors": ("UserError",),
    "pmc_jax.distributed.mesh": ("make_mesh",),
    "pmc_jax.models.export": ("export_hf",),
    "pmc_jax.models.load": ("LanguageModel", "load"),
    "pmc_jax.config.pmc": (
        "AugmentationConfig",
        "SamplingConfig",
        "ScheduleConfig",
        "ScoreConfig",
        "SelectionConfig",
        "StopConfig",
    ),
    "pmc_jax.config.train": ("LoRAConfig", "TrainConfig"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str):
    if name not in _HOME_OF:
        raise AttributeError(f"module 'pmc_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def command() -> int:
    """Runs the command line as the entry point of `pmc`, and returns the exit status.

    Ctrl-C ends the process silently while the modules of the command line are imported.
    """
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from pmc_jax import cli

    return cli.command()


def __dir__() -> list[str]:
    return [*globals(), *__all__]
