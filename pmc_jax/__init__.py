"""Machine unlearning for language models by Partial Model Collapse (arXiv 2507.04219).

    import pmc_jax as pmc
    lm = pmc.load("path/or/name")
    result = pmc.unlearn(lm, forget=["Where does Jane Roe live?"], retain=[("...", "...")])
    result.lm.save("out/")

Each name of this package is imported when it is first used, so that `import pmc_jax` is fast. Type
checkers read the imports below; a test compares them with the table `_HOMES`.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pmc_jax.answers import answer as answer
    from pmc_jax.answers import sample as sample
    from pmc_jax.api import evaluate as evaluate
    from pmc_jax.api import finetune as finetune
    from pmc_jax.api import unlearn as unlearn
    from pmc_jax.config.data import DataConfig as DataConfig
    from pmc_jax.config.data import PeopleConfig as PeopleConfig
    from pmc_jax.config.data import SourceConfig as SourceConfig
    from pmc_jax.config.evaluate import CorpusConfig as CorpusConfig
    from pmc_jax.config.evaluate import EvaluateConfig as EvaluateConfig
    from pmc_jax.config.evaluate import LeakageConfig as LeakageConfig
    from pmc_jax.config.evaluate import LevelsConfig as LevelsConfig
    from pmc_jax.config.evaluate import RelearnConfig as RelearnConfig
    from pmc_jax.config.mesh import MeshConfig as MeshConfig
    from pmc_jax.config.method import MethodConfig as MethodConfig
    from pmc_jax.config.model import ModelConfig as ModelConfig
    from pmc_jax.config.plan import PlanConfig as PlanConfig
    from pmc_jax.config.pmc import AbstentionConfig as AbstentionConfig
    from pmc_jax.config.pmc import AugmentationConfig as AugmentationConfig
    from pmc_jax.config.pmc import PMCConfig as PMCConfig
    from pmc_jax.config.pmc import SamplingConfig as SamplingConfig
    from pmc_jax.config.pmc import ScheduleConfig as ScheduleConfig
    from pmc_jax.config.pmc import ScoreConfig as ScoreConfig
    from pmc_jax.config.pmc import SelectionConfig as SelectionConfig
    from pmc_jax.config.pmc import StopConfig as StopConfig
    from pmc_jax.config.pmc import SubjectConfig as SubjectConfig
    from pmc_jax.config.report import ReportConfig as ReportConfig
    from pmc_jax.config.report import RequestConfig as RequestConfig
    from pmc_jax.config.run import Config as Config
    from pmc_jax.config.run import FinetuneConfig as FinetuneConfig
    from pmc_jax.config.run import LogConfig as LogConfig
    from pmc_jax.config.run import OutputConfig as OutputConfig
    from pmc_jax.config.run import load_config as load_config
    from pmc_jax.config.train import AdamWConfig as AdamWConfig
    from pmc_jax.config.train import LoRAConfig as LoRAConfig
    from pmc_jax.config.train import TrainConfig as TrainConfig
    from pmc_jax.data.records import EvalSet as EvalSet
    from pmc_jax.data.records import FinetuneSet as FinetuneSet
    from pmc_jax.data.records import ForgetAnswerSet as ForgetAnswerSet
    from pmc_jax.data.records import ForgetSet as ForgetSet
    from pmc_jax.data.records import RetainSet as RetainSet
    from pmc_jax.data.sets import load_data as load_data
    from pmc_jax.distributed.mesh import make_mesh as make_mesh
    from pmc_jax.errors import UserError as UserError
    from pmc_jax.evaluation.result import Evaluation as Evaluation
    from pmc_jax.evaluation.result import Numbers as Numbers
    from pmc_jax.models.load import LanguageModel as LanguageModel
    from pmc_jax.models.load import load as load
    from pmc_jax.scoring.base import Score as Score
    from pmc_jax.unlearned import Unlearned as Unlearned

    __version__: str

_HOMES = {
    "pmc_jax.answers": ("answer", "sample"),
    "pmc_jax.api": ("evaluate", "finetune", "unlearn"),
    "pmc_jax.config.data": ("DataConfig", "PeopleConfig", "SourceConfig"),
    "pmc_jax.config.evaluate": (
        "CorpusConfig",
        "EvaluateConfig",
        "LeakageConfig",
        "LevelsConfig",
        "RelearnConfig",
    ),
    "pmc_jax.config.mesh": ("MeshConfig",),
    "pmc_jax.config.method": ("MethodConfig",),
    "pmc_jax.config.model": ("ModelConfig",),
    "pmc_jax.config.plan": ("PlanConfig",),
    "pmc_jax.config.pmc": (
        "AbstentionConfig",
        "AugmentationConfig",
        "PMCConfig",
        "SamplingConfig",
        "ScheduleConfig",
        "ScoreConfig",
        "SelectionConfig",
        "StopConfig",
        "SubjectConfig",
    ),
    "pmc_jax.config.report": ("ReportConfig", "RequestConfig"),
    "pmc_jax.config.run": ("Config", "FinetuneConfig", "LogConfig", "OutputConfig", "load_config"),
    "pmc_jax.config.train": ("AdamWConfig", "LoRAConfig", "TrainConfig"),
    "pmc_jax.data.records": (
        "EvalSet",
        "FinetuneSet",
        "ForgetAnswerSet",
        "ForgetSet",
        "RetainSet",
    ),
    "pmc_jax.data.sets": ("load_data",),
    "pmc_jax.distributed.mesh": ("make_mesh",),
    "pmc_jax.errors": ("UserError",),
    "pmc_jax.evaluation.result": ("Evaluation", "Numbers"),
    "pmc_jax.models.load": ("LanguageModel", "load"),
    "pmc_jax.scoring.base": ("Score",),
    "pmc_jax.unlearned": ("Unlearned",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)

if not TYPE_CHECKING:  # With this function, type checkers would accept any name.

    def __getattr__(name: str):
        if name == "__version__":
            from importlib.metadata import version

            return version("pmc_jax")
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
