"""Defines the loss of each unlearning method as a pure function, and the rows that the loss reads.

A term is a part of the loss over one kind of rows: `collapse` (replacement answers), `forget` (true
answers to the forget questions), `refusal` (refusals as answers to the forget questions) or
`retain` (retain pairs). A loss is a function of the terms' statistics (`Term`) and the settings
(`Objective`). To add a method, add a function, an entry in `METHODS`, a name in `config/method.py`
and a label in `report/texts.yaml`.

The letters are those of the papers: l is the mean cross-entropy of a token, L is the sum over the
tokens of a row, f is forget, and ref is the model before unlearning. r is the retain loss: the mean
cross-entropy of the retain pairs or, with `retain_loss=kl`, the mean of KL(ref || model) on them.
The letters lambda, beta and gamma are the settings `lambda_retain`, `beta` and `margin`. Losses use
the natural logarithm. A method reads true answers if and only if `forget` is one of its terms. PMC
has no such term.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from pmc_jax.config.method import FIXED_RETAIN_LOSS, MethodConfig


@dataclasses.dataclass(frozen=True)
class Term:
    """Statistics of one term in a micro-batch of B rows.

    A statistic that the loss does not read may be None. In the formulas, ref is the model before
    unlearning, z_ref are its logits and target is the answer token.

    Attributes:
        mean: mean cross-entropy l over tokens or answers (see `TrainConfig.loss_mean`), f32[].
        sums: cross-entropy L of each row, f32[B].
        lengths: number of answer tokens |y| in each row, f32[B].
        reference: cross-entropy L of each row under ref, f32[B].
        divergence: mean of KL(ref || model) over the answer tokens, f32[].
        adjusted: mean cross-entropy to softmax(z_ref - beta onehot(target)), f32[].
        steered: mean squared distance of hidden states from the random vector of RMU, f32[].
        moved: mean squared distance of hidden states from the hidden states of ref, f32[].
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
    """Settings of an unlearning method, in which `beta` and `layer` are never None.

    The class is hashable, so it can be a static argument of a jitted function.

    Attributes:
        lambda_retain: weight of the retain term.
        seed: seed of the random vector that RMU uses.
    """

    lambda_retain: float = 1.0
    seed: int = 0

    @staticmethod
    def of(settings: MethodConfig, *, lambda_retain: float, layers: int, seed: int) -> "Objective":
        """Builds the objective from a method's settings, for a model with `layers` layers."""
        # Settings that no loss reads are left out, so that they do not recompile the step.
        values = dataclasses.asdict(settings) | {"refusals": None, "max_seconds": None}
        if settings.beta is None:
            values["beta"] = {"simnpo": 4.5, "undial": 10.0}.get(settings.name, 0.1)
        if settings.layer is None:
            values["layer"] = max(1, layers // 3)
        if settings.name in FIXED_RETAIN_LOSS:
            values["retain_loss"] = None
        return Objective(**values, lambda_retain=lambda_retain, seed=seed)

    @property
    def method(self) -> "Method":
        return METHODS[self.name]

    @property
    def reads_distributions(self) -> bool:
        """Whether the loss reads the token distributions of the model before unlearning."""
        return self.method.needs == "distributions" or self.retain_loss == "kl"

    @property
    def needs_reference(self) -> bool:
        """Whether every step runs the model before unlearning."""
        return self.method.needs == "hidden" or self.reads_distributions

    @property
    def is_linear(self) -> bool:
        """Whether the loss is linear in the mean cross-entropies of its terms.

        Then the step projects onto the vocabulary only once.
        """
        return self.method.needs == "means" and not self.reads_distributions


Terms = Mapping[str, Term]


def pmc(terms: Terms, o: Objective):
    """Computes the loss of PMC (arXiv 2507.04219).

    The loss is the cross-entropy of replacement answers + the retain term.
    """
    return terms["collapse"].mean + _retain(terms, o)


def pmc_alignment(terms: Terms, o: Objective):
    """Computes the loss of `pmc` + `alignment` x the cross-entropy of refusals.

    The caller multiplies the refusal term by the mean score of the step's replacement answers.
    Refusals therefore have no weight after the collapse.
    """
    return pmc(terms, o) + o.alignment * terms["refusal"].mean


def retain_only(terms: Terms, o: Objective):
    """Computes the cross-entropy of retain pairs, for a control run that trains only on them."""
    return terms["retain"].mean


def idk(terms: Terms, o: Objective):
    """Computes the loss of IDK (arXiv 2401.06121).

    The loss is the cross-entropy of refusals + the retain term. By default, the refusal is
    "I don't know."
    """
    return terms["refusal"].mean + _retain(terms, o)


def gradient_ascent(terms: Terms, o: Objective):
    """Computes the loss of gradient ascent (arXiv 2210.01504).

    The loss is the negative cross-entropy of true answers.
    """
    return -terms["forget"].mean


def gradient_difference(terms: Terms, o: Objective):
    """Computes the loss of gradient difference (arXiv 2203.12817).

    The loss is the retain term - the cross-entropy of true answers. With `retain_loss=kl`, this is
    the method "KL minimization" (arXiv 2401.06121).
    """
    return _retain(terms, o) - terms["forget"].mean


def npo(terms: Terms, o: Objective):
    """Computes lambda r - 2/beta mean log sigmoid(beta (L_f - L_f^ref)) (arXiv 2404.05868).

    The module docstring defines the letters.
    """
    forget = terms["forget"]
    return _preferred(forget.sums - forget.reference, terms, o)


def simnpo(terms: Terms, o: Objective):
    """Computes lambda r - 2/beta mean log sigmoid(beta L_f/|y| - gamma).

    This is the equation in the paper (arXiv 2410.07163). With `margin_inside`, the argument of the
    sigmoid is beta (L_f/|y| - gamma), as in the authors' code. |y| is the number of answer tokens.
    The module docstring defines the letters.
    """
    forget = terms["forget"]
    margin = o.margin if o.margin_inside else o.margin / o.beta
    return _preferred(forget.sums / forget.lengths - margin, terms, o)


def dpo(terms: Terms, o: Objective):
    """Computes lambda r - 2/beta mean log sigmoid(beta [(L_f - L_f^ref) - (L_idk - L_idk^ref)]).

    This is the DPO loss (arXiv 2305.18290), where the refusal (idk) is preferred to the true
    answer. The module docstring defines the letters.
    """
    forget, refusal = terms["forget"], terms["refusal"]
    forgotten = forget.sums - forget.reference
    return _preferred(forgotten - (refusal.sums - refusal.reference), terms, o)


def rmu(terms: Terms, o: Objective):
    """Computes mse(h_l(f), c u/|u|) + anchor mse(h_l(r), h_l^ref(r)) (arXiv 2403.03218).

    Here, h_l are the hidden states after layer l, on forget rows f or retain rows r. h_l^ref are
    those of the model before unlearning, c is `steering` and u is a random vector.
    """
    return terms["forget"].steered + o.anchor * terms["retain"].moved


def undial(terms: Terms, o: Objective):
    """Computes lambda r + the cross-entropy to softmax(z_ref - beta onehot(target)).

    Here, z_ref are the logits of ref and target is the token of the true answer (arXiv 2402.10052).
    The module docstring defines the letters.
    """
    return _retain(terms, o) + terms["forget"].adjusted


def _retain(terms: Terms, o: Objective):
    """Computes the retain term, `lambda_retain` x the retain loss r.

    r is the cross-entropy of retain pairs or, with `retain_loss=kl`, KL(ref || model) on them.
    """
    retain = terms["retain"]
    return o.lambda_retain * (retain.divergence if o.retain_loss == "kl" else retain.mean)


def _preferred(gain, terms: Terms, o: Objective):
    """Computes lambda r - 2/beta mean log sigmoid(beta gain), with one `gain` per row.

    The module docstring defines the letters.
    """
    preference = -2 / o.beta * jnp.mean(jax.nn.log_sigmoid(o.beta * gain))
    return _retain(terms, o) + preference


@dataclasses.dataclass(frozen=True)
class Method:
    """Loss of one unlearning method, with the rows that the method trains on.

    Attributes:
        loss: function that maps the terms and the settings to the loss.
        terms: names of the terms. If `retain` is one of them, it is the last.
        needs: kind of statistics that the loss reads of all terms but `retain`: `means`, `rows`,
            `distributions` or `hidden`. With `hidden`, it reads them of `retain`, too.
        reference_rows: names of the terms whose `reference` the loss reads.
    """

    loss: Callable[[Terms, Objective], Any]
    terms: tuple[str, ...]
    needs: str = "means"
    reference_rows: tuple[str, ...] = ()

    @property
    def reads_true_answers(self) -> bool:
        return "forget" in self.terms


METHODS: Mapping[str, Method] = {
    "pmc": Method(pmc, ("collapse", "retain")),
    "pmc_alignment": Method(pmc_alignment, ("collapse", "refusal", "retain")),
    "idk": Method(idk, ("refusal", "retain")),
    "retain_only": Method(retain_only, ("retain",)),
    "gradient_ascent": Method(gradient_ascent, ("forget",)),
    "gradient_difference": Method(gradient_difference, ("forget", "retain")),
    "dpo": Method(dpo, ("forget", "refusal", "retain"), "rows", ("forget", "refusal")),
    "npo": Method(npo, ("forget", "retain"), "rows", ("forget",)),
    "simnpo": Method(simnpo, ("forget", "retain"), "rows"),
    "rmu": Method(rmu, ("forget", "retain"), "hidden"),
    "undial": Method(undial, ("forget", "retain"), "distributions"),
}


def coefficients(objective: Objective) -> tuple[float, ...]:
    """Returns the factor of each term in a loss that is linear in the means of its terms.

    For any other loss, every factor is 1.
    """
    method = objective.method
    if not objective.is_linear:
        return (1.0,) * len(method.terms)
    units = ({t: Term(mean=float(t == one)) for t in method.terms} for one in method.terms)
    return tuple(float(method.loss(unit, objective)) for unit in units)
