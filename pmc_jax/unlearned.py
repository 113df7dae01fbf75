"""Defines `Unlearned`, the result of `unlearn`."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pmc_jax.answers import answer
from pmc_jax.artifacts import figure
from pmc_jax.artifacts.figure import Line, Panel
from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.artifacts.run_files import REPORT
from pmc_jax.commands.library_report import LibraryRun, write_library_report
from pmc_jax.config.arguments import Settings, section_of
from pmc_jax.config.evaluate import EvaluateConfig
from pmc_jax.config.model import ModelConfig
from pmc_jax.config.notebook import table
from pmc_jax.config.paths import output_path
from pmc_jax.config.report import ReportConfig, RequestConfig
from pmc_jax.config.run import Config
from pmc_jax.config.train import LoRAConfig
from pmc_jax.data.records import RetainSet
from pmc_jax.errors import UserError, system_errors
from pmc_jax.evaluation.result import Evaluation
from pmc_jax.models.decoder import Decoder
from pmc_jax.models.load import LanguageModel
from pmc_jax.models.peft import export_adapter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SCORES = {"score_mean": "all samples", "sampled_score": "selected samples"}


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
        heldout: how much of the given answers to the retain questions that were held out of
            training the model gives: number of `rows`, mean ROUGE-L recall `before` and `after`
            unlearning from 0 to 1, and the reason `not_measured` if there are no such rows.
        run: settings and rows of the run, which `report` reads.

    Example:
        >>> result.scores
        {'question:0': ...}
        >>> result.seconds["total"] >= result.seconds["train"]
        True
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
    heldout: dict[str, float | str | None] = dataclasses.field(default_factory=dict)
    run: LibraryRun | None = None

    def __repr__(self) -> str:
        """Returns a summary of the result without questions and answers."""
        seconds = self.seconds.get("total", 0.0)
        return (
            f"Unlearned({self.lm!r}, {len(self.rounds)} rounds, {len(self.replacements)} "
            f"replacement answers, {seconds:.0f} s)"
        )

    def _repr_html_(self) -> str:
        """Returns the summary as a table for notebooks, without questions and answers."""
        good = sum(score == 0 for score in self.scores.values())
        rows = {
            "model": repr(self.lm),
            "rounds": len(self.rounds),
            "replacement answers": f"{len(self.replacements)}, of which {good} have score 0",
            "sampled tokens": f"{self.tokens.get('sampled', 0):,}",
            "trained tokens": f"{self.tokens.get('trained', 0):,}",
            "seconds": f"{self.seconds.get('total', 0.0):.1f}",
        }
        return table("Unlearned", rows)

    def plot(self) -> "Figure":
        """Draws the scores and the losses over the gradient steps.

        Returns:
            A figure of matplotlib, which a notebook shows and `savefig` writes. The first panel has
            the mean score of the sampled and of the selected answers of each round (0 to 1), and
            the last panel has the mean loss of each term (cross-entropy per token). Methods that do
            not sample have no panel of scores.

        Raises:
            UserError: the run has no round.

        Example:
            >>> result.plot().savefig("curve.png")
        """
        if not self.rounds:
            raise UserError("plot: the run has no round. Set config.schedule.epochs to 1 or more.")
        losses = {name: name.removesuffix("_loss") for name in self.rounds[0] if "_loss" in name}
        panels = [
            Panel(lines, "step", label, bounds=None)
            for names, label in ((_SCORES, "mean score, 0 to 1"), (losses, "loss per token"))
            if (lines := self._lines(names))
        ]
        return figure.Figure("run", "", "", panels, size=(640, 240 * len(panels))).drawn()

    def _lines(self, names: Mapping[str, str]) -> list[Line]:
        """Returns the line of each metric of the rounds, by a mapping from names to labels."""
        lines = []
        for number, (name, label) in enumerate(names.items(), 1):
            points = [(r["step"], r[name]) for r in self.rounds if r.get(name) is not None]
            if points:
                steps, values = zip(*points, strict=True)
                lines.append(Line(label, steps, values, f"run{number}", marker="o", size=4))
        return lines

    def report(
        self,
        path: str | Path,
        *,
        evaluation: Evaluation | None = None,
        config: EvaluateConfig | Config | Settings | None = None,
        request: RequestConfig | Settings | None = None,
        text: bool = False,
        progress: bool = False,
    ) -> Path:
        """Writes the HTML report that `pmc unlearn` writes, and its content as JSON next to it.

        This call measures at which level the model still tells the original answers, which takes
        about 20 answers per forget question.

        Args:
            path: HTML file to write, or a folder, which gets report.html. An earlier report is
                replaced, and no other file is.
            evaluation: result of `evaluate` for `lm`, with `before`; None leaves unlearn quality
                and utility out.
            config: settings of evaluation. Only `levels`, `leakage`, `max_new_tokens` and
                `batch_size` are read.
            request: removal request that the report names: its `reference`, its `date` and the
                `responsible` person. None selects the request of the settings of `unlearn`.
            text: whether both files contain questions and answers, which may be personal data.
            progress: whether to show progress bars on stderr.

        Returns:
            The path of the HTML file.

        Raises:
            UserError: a file exists and is not a report, or cannot be written, or the result was
                not made by `unlearn`.

        Example:
            >>> levels = {"levels": {"measured": ["said"]}}
            >>> result.report("report", config=levels, request={"reference": "R-17"}).name
            'report.html'
        """
        if self.run is None:
            raise UserError("report: the result has no run. Call it on a result of unlearn.")
        page = output_path(path, "path")
        if page.suffix != ".html":
            page = page / REPORT
        with system_errors(f"{page.parent}: the folder cannot be made", "Choose another path."):
            page.parent.mkdir(parents=True, exist_ok=True)
        write_library_report(
            self.run,
            self.lm,
            page,
            settings=section_of(EvaluateConfig, config, "config"),
            evaluation=evaluation and evaluation["evaluation"],
            request=ReportConfig(request=request or RequestConfig()).request,
            text=text,
            recorder=Recorder(bars=progress),
        )
        return page

    def export_adapter(self, folder: str | Path) -> None:
        """Writes the LoRA adapters as a PEFT folder.

        Args:
            folder: folder to write, which must be absent or empty.

        Raises:
            UserError: the model has no adapters because all weights were trained, or the folder is
                not empty or cannot be written.

        Example:
            >>> result.export_adapter("adapter")
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
        """Returns the greedy answer of the unlearned model to each question, as `answer` does.

        Example:
            >>> len(result.answer(["Where does Jane Roe live?"], max_new_tokens=8))
            1
        """
        options = dict(max_new_tokens=max_new_tokens, batch_size=batch_size, progress=progress)
        return answer(self.lm, questions, model=model, **options)
