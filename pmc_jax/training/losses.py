"""The losses of all unlearning methods, one pure function each, and the rows they train on.

A term is a kind of rows: `collapse` (the model's own chosen answers), `forget` (the true answers to
the forget questions), `refusal` (a refusal as the answer to a forget question), `retain`. A loss is
a function of the terms' statistics (`Term`) and of the settings (`Objective`). To add a method, add
a function, an entry of `METHODS`, its name in `config/method.py` and its label in
`report/texts.yaml`. Letters as in the papers: l the mean cross-entropy of a
token, L the sum over the tokens of a row, f forget, r retain, ref the model before unlearning.

Losses use the natural logarithm. A method reads true answers exactly if `forget` is among its
terms; it is not among PMC's.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from pmc_jax.config.method import MethodConfig


@dataclasses.dataclass(frozen=True)
class Term:
    """Statistics of one term in a micro-batch of B rows; None where no loss reads them.

    Attributes:
        mean: f32[], l, the mean cross-entropy (of tokens, or of answers, see `train.loss_mean`).
        sums: f32[B], L of each row.
        lengths: f32[B], |y|, answer tokens of each row.
        reference: f32[B], L of each row under the model before unlearning.
        divergence: f32[], mean of KL(ref || model) over the answer tokens.
        adjusted: f32[], mean cross-entropy to softmax(z_ref - beta onehot(target)).
        steered: f32[], mean squared distance of hidden states from RMU's vector.
        moved: f32[], mean squared distance of hidden states from those of ref.
    """

    mean: Any = None
    sums: Any = None
    lengths: Any = None
    reference: Any = None
    divergence: Any = None
    adjusted: Any = None
    steered: Any = None
    moved: Any = None


@dataclasses.dataclass(frozen=True)
class Objective(MethodConfig):
    """A method's settings in a run, with `beta` and `layer` resolved; hashable, a static argument.

    Attributes:
        lambda_retain: weight of the retain term.
        seed: of RMU's vector.
    """

    lambda_retain: float = 1.0
    seed: int = 0

    @staticmethod
    def of(settings: MethodConfig, *, lambda_retain: float, layers: int, seed: int) -> "Objective":
        """Resolves the settings for a model with `layers` layers."""
        # Settings that no loss reads are left out: they must not recompile the step.
        values = dataclasses.asdict(settings) | {"refusals": None, "max_seconds": None}
        if settings.beta is None:
            values["beta"] = {"simnpo": 4.5, "undial": 10.0}.get(settings.name, 0.1)
        if settings.layer is None:
            values["layer"] = max(1, layers // 3)
        return Objective(**values, lambda_retain=lambda_retain, seed=seed)

    @property
    def method(self) -> "Method":
        return METHODS[self.name]


Terms = Mapping[str, Term]


def pmc(terms: Terms, o: Objective):
    """l(own answers) + lambda l_r (arXiv 2507.04219)."""
    return terms["collapse"].mean + o.lambda_retain * terms["retain"].mean


def pmc_alignment(terms: Terms, o: Objective):
    """PMC + alignment l(refusals); the caller multiplies `alignment` by the mean stored score of
    the batch, so that refusals count while there is something to collapse.
    """
    return pmc(terms, o) + o.alignment * terms["refusal"].mean


def retain_only(terms: Terms, o: Objective):
    """l_r: a control, which shows what the same training does without unlearning."""
    return terms["retain"].mean


def idk(terms: Terms, o: Objective):
    """l("I don't know.") + lambda l_r (arXiv 2401.06121)."""
    return terms["refusal"].mean + o.lambda_retain * terms["retain"].mean


def gradient_ascent(terms: Terms, o: Objective):
    """-l_f (arXiv 2210.01504)."""
    return -terms["forget"].mean


def gradient_difference(terms: Terms, o: Objective):
    """lambda l_r - l_f (arXiv 2203.12817)."""
    return o.lambda_retain * terms["retain"].mean - terms["forget"].mean


def kl(terms: Terms, o: Objective):
    """lambda KL(ref || model on retain rows) - l_f (arXiv 2401.06121)."""
    return o.lambda_retain * terms["retain"].divergence - terms["forget"].mean


def npo(terms: Terms, o: Objective):
    """lambda l_r - 2/beta mean log sigmoid(beta (L_f - L_f^ref)) (arXiv 2404.05868)."""
    forget = terms["forget"]
    return _preferred(forget.sums - forget.reference, terms, o)


def simnpo(terms: Terms, o: Objective):
    """lambda l_r - 2/beta mean log sigmoid(beta L_f/|y| - gamma) (arXiv 2410.07163, equation of
    the paper); with `margin_inside` beta (L_f/|y| - gamma), as in its authors' code.
    """
    forget = terms["forget"]
    margin = o.margin if o.margin_inside else o.margin / o.beta
    return _preferred(forget.sums / forget.lengths - margin, terms, o)


def dpo(terms: Terms, o: Objective):
    """lambda l_r - 2/beta mean log sigmoid(beta [(L_f - L_f^ref) - (L_idk - L_idk^ref)])
    (arXiv 2305.18290), the refusal preferred to the true answer.
    """
    forget, refusal = terms["forget"], terms["refusal"]
    forgotten = forget.sums - forget.reference
    return _preferred(forgotten - (refusal.sums - refusal.reference), terms, o)


def rmu(terms: Terms, o: Objective):
    """mse(h_l(f), c u/|u|) + anchor mse(h_l(r), h_l^ref(r)) at one layer l (arXiv 2403.03218)."""
    return terms["forget"].steered + o.anchor * terms["retain"].moved


def undial(terms: Terms, o: Objective):
    """lambda l_r + cross-entropy to softmax(z_ref - beta onehot(target)) (arXiv 2402.10052)."""
    return o.lambda_retain * terms["retain"].mean + terms["forget"].adjusted


def _preferred(gain, terms: Terms, o: Objective):
    """lambda l_r - 2/beta mean log sigmoid(beta gain)."""
    preference = -2 / o.beta * jnp.mean(jax.nn.log_sigmoid(o.beta * gain))
    return o.lambda_retain * terms["retain"].mean + preference


@dataclasses.dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        loss: a function of its terms and settings.
        terms: the rows that it trains on, `retain` last.
        needs: what the loss reads of its terms: `means` (it is linear in them, and the step
            projects onto the vocabulary once), `rows`, `distributions` or `hidden`.
        reference_rows: terms whose `reference` the loss reads.
    """

    loss: Callable[[Terms, Objective], Any]
    terms: tuple[str, ...]
    needs: str = "means"
    reference_rows: tuple[str, ...] = ()

    @property
    def reads_true_answers(self) -> bool:
        return "forget" in self.terms

    @property
    def needs_reference(self) -> bool:
        """Whether every step runs the model before unlearning."""
        return self.needs in ("distributions", "hidden")


METHODS: Mapping[str, Method] = {
    "pmc": Method(pmc, ("collapse", "retain")),
    "pmc_alignment": Method(pmc_alignment, ("collapse", "refusal", "retain")),
    "idk": Method(idk, ("refusal", "retain")),
    "retain_only": Method(retain_only, ("retain",)),
    "gradient_ascent": Method(gradient_ascent, ("forget",)),
    "gradient_difference": Method(gradient_difference, ("forget", "retain")),
    "kl": Method(kl, ("forget", "retain"), "distributions"),
    "dpo": Method(dpo, ("forget", "refusal", "retain"), "rows", ("forget", "refusal")),
    "npo": Method(npo, ("forget", "retain"), "rows", ("forget",)),
    "simnpo": Method(simnpo, ("forget", "retain"), "rows"),
    "rmu": Method(rmu, ("forget", "retain"), "hidden"),
    "undial": Method(undial, ("forget", "retain"), "distributions"),
}


def coefficients(objective: Objective) -> tuple[float, ...]:
    """The factor of each term in a loss that is linear in the means of its terms; ones for any
    other loss.
    """
    method = objective.method
    if method.needs != "means":
        return (1.0,) * len(method.terms)
    units = ({t: Term(mean=float(t == one)) for t in method.terms} for one in method.terms)
    return tuple(float(method.loss(unit, objective)) for unit in units)
