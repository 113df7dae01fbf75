"""Access to the fields of a `config.json`, with errors that name the file and the fix."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pmc_jax.errors import UserError
from pmc_jax.models.config import RopeConfig


class Fields:
    """Fields of a `config.json`, or of an object in that file.

    A null field counts as absent, except in `with_defaults` and `optional_positive`. A method that
    reads a field raises a `UserError` if the value of the field is invalid.

    Args:
        hf: JSON object.
        where: path of the file, or of the GGUF file with these values, for error messages.
    """

    def __init__(self, hf: Mapping[str, Any], where: str):
        self.hf, self.where = hf, where

    def with_defaults(self, defaults: Mapping[str, Any]) -> "Fields":
        """Returns these fields, completed by `defaults`. A null field stays null."""
        return Fields({**defaults, **self.hf}, self.where)

    def fail(self, what: str) -> UserError:
        """Returns an error that names the file and says what is wrong with it."""
        return UserError(f"{self.where}: {what}")

    def wrong(self, what: str) -> UserError:
        """Returns the error `fail(what)`, completed by a sentence that says what to do."""
        is_gguf = self.where.endswith(".gguf")
        return self.fail(f"{what}. {'Use another GGUF file' if is_gguf else 'Correct the file'}.")

    def _invalid(self, key: str, expected: str, value: Any) -> UserError:
        found = "is missing or null" if value is None else f"is {value!r}"
        return self.wrong(f"{key} must be {expected}, but it {found}")

    def get(self, key: str, default: Any = None) -> Any:
        value = self.hf.get(key)
        return default if value is None else value

    def size(self, key: str, default: int | None = None) -> int:
        """Returns the value of the field `key`, which must be a positive integer."""
        value = self.get(key, default)
        if type(value) is not int or value < 1:
            raise self._invalid(key, "a positive integer", value)
        return value

    def positive(self, key: str, default: float | None = None) -> float:
        """Returns the value of the field `key`, which must be a finite number above 0."""
        value = self.get(key, default)
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise self._invalid(key, "a positive number", value)
        return float(value)

    def optional_positive(self, key: str, default: float | None = None) -> float | None:
        """Returns the value of the field `key`, which must be a finite number above 0 or null.

        The result is None if the field is null, or if it is absent and has no default.
        """
        if key in self.hf and self.hf[key] is None:
            return None
        return None if self.get(key, default) is None else self.positive(key, default)

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.get(key, default)
        if type(value) is not bool:
            raise self._invalid(key, "true or false", value)
        return value

    def one_of(self, key: str, choices: Mapping[str, Any], default: str) -> Any:
        """Returns the value in `choices` for the text in the field `key`, or for `default`."""
        value = self.get(key, default)
        if not isinstance(value, str) or value not in choices:
            raise self.fail(
                f"{key} {value!r} is not implemented. Use a model whose {key} is "
                f"{' or '.join(choices)}."
            )
        return choices[value]

    def refuse(self, key: str, *harmless: Any) -> None:
        """Rejects a field that requests a computation which is not implemented.

        Raises:
            UserError: the field is present and its value is not in `harmless`.
        """
        value = self.get(key)
        if value is not None and value not in harmless:
            raise self.fail(
                f"{key} {value!r} is not implemented. Use a model whose {key} is "
                f"{' or '.join(map(repr, harmless))}."
            )

    def part(self, key: str) -> "Fields":
        """Returns the nested object in the field `key`, or an empty object if it is absent."""
        value = self.get(key, {})
        if not isinstance(value, Mapping):
            raise self._invalid(key, "an object", value)
        return Fields(value, self.where)

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        """Returns the value of the field `key`, a list of `count` finite numbers above 0."""
        value = self.get(key)
        good = isinstance(value, Sequence) and len(value) == count
        if not good or not all(type(x) in (int, float) and 0 < x < math.inf for x in value):
            raise self.wrong(f"{key} must be a list of {count} positive numbers")
        return tuple(map(float, value))


def attention_shape(fields: Fields, *, kv_default: int | None = None) -> dict[str, int]:
    """Reads the sizes of a decoder from the fields that most families have in common.

    The result is a dict with arguments of `DecoderConfig`.

    Args:
        kv_default: default of `num_key_value_heads`; None = the number of attention heads.

    Raises:
        UserError: a size is missing or invalid, or the sizes are inconsistent.
    """
    heads = fields.size("num_attention_heads")
    kv_heads = fields.size("num_key_value_heads", kv_default or heads)
    hidden = fields.size("hidden_size")
    head_dim = fields.size("head_dim", hidden // heads)
    if heads % kv_heads:
        raise fields.wrong(
            f"num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}"
        )
    return {
        "vocab_size": fields.size("vocab_size"),
        "hidden_size": hidden,
        "intermediate_size": fields.size("intermediate_size"),
        "num_layers": fields.size("num_hidden_layers"),
        "num_heads": heads,
        "num_kv_heads": kv_heads,
        "head_dim": head_dim,
    }


def layer_windows(fields: Fields, default: Sequence[str], window: int | None) -> tuple[int, ...]:
    """Returns the attention window of each layer in tokens, or () if no layer has a window.

    A window of 0 means no limit.

    Args:
        default: list with the type of each layer, for a file without the field `layer_types`.
        window: window of the layers with sliding attention, in tokens; None = no limit.
    """
    num_layers = len(default)
    types = fields.get("layer_types", list(default))
    sizes = {"full_attention": 0, "sliding_attention": window or 0}
    if not isinstance(types, Sequence) or len(types) != num_layers:
        raise fields.wrong(
            f"layer_types must be a list with one entry per layer (num_hidden_layers {num_layers})"
        )
    if strange := [t for t in types if t not in list(sizes)]:
        raise fields.fail(
            f"layer_types: the type {strange[0]!r} is not implemented. "
            f"Use a model with {' or '.join(sizes)}."
        )
    windows = tuple(sizes[t] for t in types)
    return windows if any(windows) else ()


def sliding_windows(fields: Fields) -> tuple[int, ...]:
    """Returns the attention windows for families that apply `sliding_window` to all layers.

    The result has the number of tokens for each layer, or is () if no layer has a window.
    """
    window = fields.size("sliding_window") if fields.get("sliding_window") else None
    return layer_windows(fields, ["sliding_attention"] * fields.size("num_hidden_layers"), window)


def rope_config(
    fields: Fields,
    head_dim: int,
    *,
    default_theta: float = 10_000.0,
    default_share: float = 1.0,
    scaling: Fields | None = None,
) -> RopeConfig:
    """Returns the rotary embedding that the fields describe.

    Args:
        fields: fields of `config.json`.
        head_dim: number of channels per head.
        default_theta: default of `rope_theta`.
        default_share: default of `partial_rotary_factor`, the fraction of rotated channels.
        scaling: fields to read instead of `rope_parameters` or `rope_scaling`.

    Raises:
        UserError: the scaling rule is not implemented, or its parameters are invalid.
    """
    if scaling is None:
        # transformers 5 writes `rope_parameters`. Earlier versions wrote `rope_theta` and
        # `rope_scaling`.
        name = "rope_parameters" if fields.get("rope_parameters") else "rope_scaling"
        plain = {key: fields.get(key) for key in ("rope_theta", "partial_rotary_factor")}
        scaling = fields.part(name).with_defaults(plain)
    theta = scaling.positive("rope_theta", default_theta)
    share = scaling.positive("partial_rotary_factor", default_share)
    rotary = int(head_dim * share)
    if rotary % 2 or not 0 < rotary <= head_dim:
        raise fields.wrong(
            "the number of rotated channels must be even and from 2 to head_dim, but it is "
            f"{rotary} (head_dim {head_dim} * partial_rotary_factor {share:g})"
        )
    base = RopeConfig(theta, rotary_dim=None if rotary == head_dim else rotary)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if not isinstance(kind, str) or kind not in _RULES:
        raise fields.fail(
            f"rope_type {kind!r} is not implemented. Use a model whose rope_type is "
            f"{' or '.join(_RULES)}."
        )
    return _RULES[kind](base, scaling, fields, rotary // 2)


# A rule takes the unscaled configuration, its own fields, the file's fields, and the number of
# rotated channel pairs.


def _linear(base: RopeConfig, scaling: Fields, fields: Fields, pairs: int) -> RopeConfig:
    return dataclasses.replace(base, kind="linear", factor=scaling.positive("factor"))


def _llama3(base: RopeConfig, scaling: Fields, fields: Fields, pairs: int) -> RopeConfig:
    low, high = scaling.positive("low_freq_factor"), scaling.positive("high_freq_factor")
    if high <= low:
        raise fields.wrong("high_freq_factor must be above low_freq_factor")
    return dataclasses.replace(
        base,
        kind="llama3",
        factor=scaling.positive("factor"),
        low_freq_factor=low,
        high_freq_factor=high,
        original_max_positions=scaling.size("original_max_position_embeddings"),
    )


def _longrope(base: RopeConfig, scaling: Fields, fields: Fields, pairs: int) -> RopeConfig:
    longest = fields.size("max_position_embeddings")
    original = scaling.size("original_max_position_embeddings", longest)
    original = fields.size("original_max_position_embeddings", original)
    factor = scaling.positive("factor", longest / original)
    computed = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    return dataclasses.replace(
        base,
        kind="longrope",
        original_max_positions=original,
        factors=scaling.numbers("short_factor", pairs),
        long_factors=scaling.numbers("long_factor", pairs),
        magnitude=scaling.positive("attention_factor", computed),
    )


_RULES = {
    "default": lambda base, scaling, fields, pairs: base,
    "linear": _linear,
    "llama3": _llama3,
    "longrope": _longrope,
    "su": _longrope,  # This is the earlier name of longrope.
}
