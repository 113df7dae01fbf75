"""Defines `Unlearned`, the result of `unlearn`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from pmc_jax.answers import answer
from pmc_jax.config.arguments import Settings
from pmc_jax.config.model import ModelConfig
from pmc_jax.config.run import Config
from pmc_jax.config.train import LoRAConfig
from pmc_jax.data.records import RetainSet
from pmc_jax.errors import UserError
from pmc_jax.models.decoder import Decoder
from pmc_jax.models.load import LanguageModel
from pmc_jax.models.peft import export_adapter


@dataclasses.dataclass(frozen=True, repr=False)
class Unlearned:
    """Result of `unlearn`, with the unlearned model and the metrics of training.

    `originals`, `replacements` and `scores` are empty for methods other than PMC and PMC-alignment.

    Attributes:
        lm: unlearned model.
        originals: original answer to each forget question by the id of the question.
        replacements: replacement answer by the id of the question, or None if the question has no
            replacement answer.
        scores: score of the replacement answer by the id of the question; a score up to the
            threshold counts as 0, and inf means that there is no replacement answer.
        rounds: metrics of each round, such as losses. PMC adds the mean score and the number of
            questions without a replacement answer of score 0.
        seconds: wall time of each stage in seconds, and their sum as `total`.
        tokens: number of sampled tokens as `sampled`, and of trained tokens as `trained`.
        adapters: LoRA adapters, which are merged into `lm`, or None without LoRA.
        lora: settings of the adapters, or None without LoRA.
        retain: retain pairs that the model was trained on.
    """

    lm: LanguageModel
    originals: dict[str, str]
    replacements: dict[str, str | None]
    scores: dict[str, float]
    rounds: list[dict[str, float | None]]
    seconds: dict[str, float]
    tokens: dict[str, int]
    adapters: Decoder | None = None
    lora: LoRAConfig | None = None
    retain: RetainSet | None = None

    def __repr__(self) -> str:
        """Returns a summary of the result without questions and answers."""
        seconds = self.seconds.get("total", 0.0)
        return (
            f"Unlearned({self.lm!r}, {len(self.rounds)} rounds, {len(self.replacements)} "
            f"replacement answers, {seconds:.0f} s)"
        )

    def export(self, folder: str | Path, *, dtype: str | None = None) -> None:
        """Writes the unlearned model as a Hugging Face folder (see `LanguageModel.save`)."""
        self.lm.save(folder, dtype=dtype)

    def export_adapter(self, folder: str | Path) -> None:
        """Writes the LoRA adapters as a PEFT folder.

        Args:
            folder: folder to write, which must be absent or empty.

        Raises:
            UserError: the model has no adapters because all weights were trained, or the folder is
                not empty or cannot be written.
        """
        if self.adapters is None or self.lora is None:
            raise UserError(
                "export_adapter: the model has no adapters, because all weights were trained. "
                "Call unlearn with train=TrainConfig(lora=LoRAConfig(rank=8))."
            )
        export_adapter(self.lm, self.adapters, self.lora, folder)

    def answer(
        self,
        questions: Sequence[str],
        *,
        max_new_tokens: int = 96,
        batch_size: int = 64,
        model: ModelConfig | Config | Settings | None = None,
        progress: bool = False,
    ) -> list[str]:
        """Returns the greedy answer of the unlearned model to each question (see `answer`)."""
        options = dict(max_new_tokens=max_new_tokens, batch_size=batch_size, progress=progress)
        return answer(self.lm, questions, model=model, **options)
