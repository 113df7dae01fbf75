"""`pmc finetune`: makes the target model."""

from collections.abc import Callable

from pmc_jax.artifacts import run_folder
from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.commands.inputs import _loaded
from pmc_jax.commands.target import Target
from pmc_jax.config.run import Config, model_path, output_dir
from pmc_jax.data.sets import finetune_rows


def run_finetune(config: Config, *, overwrite: bool, say: Callable[[str], None]) -> None:
    """`pmc finetune`: makes the target model under `output.dir/target`, or finds it made."""
    target = Target.of(config, finetune_rows(config))
    made = target.is_made(overwrite=overwrite)
    if not made:
        recorder = Recorder()
        with run_folder.locked(output_dir(config), make=True), recorder.watch.compiling_apart():
            target.make(_loaded(config, model_path(config), config.finetune), config, recorder)
    say(_target_line(target, made))


def _target_line(target: Target, made: bool) -> str:
    how = " (made before of the same settings and data)" if made else ""
    return f"target model: {target.folder}{how}"
