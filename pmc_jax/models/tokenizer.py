"""Construction of tokenizers from a model folder or from GGUF metadata."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from pmc_jax.config.reading import check_regular
from pmc_jax.errors import UserError, reason
from pmc_jax.models.gguf import GGUFFile
from pmc_jax.models.remote import TEXT_FILES
from pmc_jax.models.tokenizer_calls import panics_as_errors

logger = logging.getLogger(__name__)

_CONTROL, _USER_DEFINED = 3, 4  # These are values of tokenizer.ggml.token_type.


def load_tokenizer(
    folder: str | Path, *, where: str | Path | None = None
) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a local model folder, without running code from the folder.

    `tokenizer.json` describes the complete pipeline and is used unchanged. The tokenizer classes of
    transformers 5 would replace its pre-tokenizer, so they are used only if this file is absent.
    For example, SmolLM2 names `GPT2Tokenizer`, which splits "½" and runs of digits differently than
    in training.

    Args:
        folder: local model folder.
        where: name of the folder in messages; None = `folder`.

    Raises:
        UserError: the folder has no tokenizer, or its files cannot be read.
    """
    folder = Path(folder)
    try:
        check_regular(folder, TEXT_FILES)
        kind, options = PreTrainedTokenizerFast, {}
        if not (folder / "tokenizer.json").is_file():
            kind, options = AutoTokenizer, {"trust_remote_code": False}
        with panics_as_errors():
            return kind.from_pretrained(folder, local_files_only=True, **options)
    # The tokenizers library raises plain Exception.
    except Exception as error:
        raise UserError(
            f"{where or folder}: the tokenizer cannot be read ({reason(error)}). "
            "Put the model's tokenizer.json and tokenizer_config.json into the folder."
        ) from None


@dataclasses.dataclass(frozen=True)
class PreTokenizer:
    """Rules that split text before byte-level BPE, and options of the same tokenizer.

    Attributes:
        steps: pre-tokenizers that split the text, applied in order.
        gpt2_split: whether to split the text by GPT-2's own pattern after these steps.
        add_bos: whether to prepend the beginning-of-sequence token, unless the file says otherwise.
        ignore_merges: whether a piece of text that is in the vocabulary always becomes one token.
        nfc: whether to normalise the text to Unicode NFC first.
    """

    steps: tuple[pre_tokenizers.PreTokenizer, ...] = ()
    gpt2_split: bool = True
    add_bos: bool = False
    ignore_merges: bool = False
    nfc: bool = False


def _words(digits: str) -> pre_tokenizers.PreTokenizer:
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + digits + r"|"
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    return pre_tokenizers.Split(Regex(pattern), behavior="isolated")


_GPT2 = PreTokenizer()
_LLAMA3 = PreTokenizer((_words(r"\p{N}{1,3}"),), False, add_bos=True, ignore_merges=True)
_PRE_TOKENIZERS = {
    "gpt-2": _GPT2,
    "default": _GPT2,
    "smollm": PreTokenizer((pre_tokenizers.Digits(individual_digits=True),)),
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "qwen2": PreTokenizer((_words(r"\p{N}"),), False, nfc=True),
}


def gguf_tokenizer(file: GGUFFile) -> PreTrainedTokenizerFast:
    """Builds the tokenizer that the metadata of a GGUF file describes, with its chat template.

    Raises:
        UserError: the kind of tokenizer or pre-tokenizer is unknown, or the metadata is damaged.
    """
    tokens = file.get("tokenizer.ggml.tokens", list)
    if not tokens or not all(isinstance(token, str) for token in tokens):
        raise UserError(
            f"{file.path}: tokenizer.ggml.tokens is missing or invalid. Use a complete GGUF file."
        )
    vocabulary = {token: i for i, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise UserError(
            f"{file.path}: tokenizer.ggml.tokens contains a duplicate token. "
            "Download the file again."
        )
    kind = file.get("tokenizer.ggml.model", str)
    special = {
        name: _token(file, tokens, key)
        for name, key in {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}.items()
    }
    try:
        if kind == "gpt2":
            backend, add_bos = _byte_level(file, vocabulary)
        elif kind == "llama":
            backend, add_bos = _sentencepiece(file, tokens, vocabulary, special["unk"]), True
        else:
            found = "is missing" if kind is None else f"{kind!r} is not supported"
            raise UserError(
                f"{file.path}: tokenizer.ggml.model {found}. Use a file whose tokenizer is gpt2 or "
                "llama, or load the safetensors version of this model."
            )
        _add_special_tokens(file, backend, tokens)
        _add_ends(file, backend, vocabulary, special, add_bos)
    except UserError:
        raise
    # The tokenizers library raises plain Exception.
    except Exception as error:
        raise UserError(
            f"{file.path}: the tokenizer metadata is invalid ({reason(error)}). "
            "Download the file again."
        ) from None
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        clean_up_tokenization_spaces=False,
        model_max_length=file.get(f"{file.architecture}.context_length", int),
        chat_template=file.get("tokenizer.chat_template", str),
        **{f"{name}_token": token for name, token in special.items() if token is not None},
    )


def _token(file: GGUFFile, tokens: list[str], key: str) -> str | None:
    index = file.get(f"tokenizer.ggml.{key}_token_id", int)
    if index is not None and not 0 <= index < len(tokens):
        raise UserError(
            f"{file.path}: tokenizer.ggml.{key}_token_id {index} is not in the vocabulary. "
            "Download the file again."
        )
    return None if index is None else tokens[index]


def _byte_level(file: GGUFFile, vocabulary: dict[str, int]) -> tuple[Tokenizer, bool]:
    name = file.get("tokenizer.ggml.pre", str, "default")
    if name not in _PRE_TOKENIZERS:
        raise UserError(
            f"{file.path}: tokenizer.ggml.pre must be one of {', '.join(_PRE_TOKENIZERS)}, but it "
            f"is {name!r}. Load the safetensors version of this model."
        )
    if name == "default":
        logger.warning(
            "%s: tokenizer.ggml.pre names no pre-tokenizer, so GPT-2's pre-tokenizer is used. "
            "If the model has another one, load its safetensors version.",
            file.path,
        )
    cut = _PRE_TOKENIZERS[name]
    merges = [tuple(m.split(" ")) for m in file.get("tokenizer.ggml.merges", list, [])]
    if wrong := [i for i, merge in enumerate(merges) if len(merge) != 2]:
        raise UserError(
            f"{file.path}: entry {wrong[0]} (counted from 0) of tokenizer.ggml.merges is not a "
            "pair of tokens. Download the file again."
        )
    backend = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=cut.ignore_merges))
    if cut.nfc:
        backend.normalizer = normalizers.NFC()
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cut.gpt2_split)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*cut.steps, byte_level])
    backend.decoder = decoders.ByteLevel()
    return backend, cut.add_bos


def _sentencepiece(
    file: GGUFFile, tokens: list[str], vocabulary: dict[str, int], unknown: str | None
) -> Tokenizer:
    scores = file.metadata.get("tokenizer.ggml.scores", ())
    if len(scores) != len(tokens):
        raise UserError(
            f"{file.path}: tokenizer.ggml.scores and tokenizer.ggml.tokens differ in length. "
            "Download the file again."
        )
    merges = _merges_from_scores(tokens, vocabulary, [float(score) for score in scores])
    backend = Tokenizer(
        models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    steps = [normalizers.Replace(" ", "▁")]
    undo = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if file.get("tokenizer.ggml.add_space_prefix", bool, True):
        steps.insert(0, normalizers.Prepend("▁"))
        undo.append(decoders.Strip(" ", 1, 0))
    backend.normalizer = normalizers.Sequence(steps)
    backend.decoder = decoders.Sequence(undo)
    return backend


def _merges_from_scores(
    tokens: list[str], vocabulary: Mapping[str, int], scores: list[float]
) -> list[tuple[str, str]]:
    """Derives the BPE merges from the SentencePiece scores of the tokens.

    The merges are all pairs of tokens whose concatenation is a token, in order of decreasing score
    of that token.
    """
    pairs = []
    for token, score in zip(tokens, scores, strict=True):
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in vocabulary and right in vocabulary:
                pairs.append((-score, vocabulary[left], vocabulary[right], left, right))
    return [pair[3:] for pair in sorted(pairs)]


def _add_special_tokens(file: GGUFFile, backend: Tokenizer, tokens: list[str]) -> None:
    kinds = file.metadata.get("tokenizer.ggml.token_type", ())
    if len(kinds) not in (0, len(tokens)):
        raise UserError(
            f"{file.path}: tokenizer.ggml.token_type and tokenizer.ggml.tokens differ in length. "
            "Download the file again."
        )
    added = [
        AddedToken(token, special=kind == _CONTROL, normalized=False)
        for token, kind in zip(tokens, kinds, strict=False)
        if kind in (_CONTROL, _USER_DEFINED)
    ]
    backend.add_tokens(added)


def _add_ends(
    file: GGUFFile,
    backend: Tokenizer,
    vocabulary: Mapping[str, int],
    special: Mapping[str, str | None],
    add_bos: bool,
) -> None:
    bos, eos = special["bos"], special["eos"]
    first = [bos] if bos and file.get("tokenizer.ggml.add_bos_token", bool, add_bos) else []
    last = [eos] if eos and file.get("tokenizer.ggml.add_eos_token", bool, False) else []
    if first or last:
        single = [*first, "$A", *last]
        backend.post_processor = processors.TemplateProcessing(
            single=single,
            pair=[*single, *(f"{token.replace('$A', '$B')}:1" for token in single)],
            special_tokens=[(token, vocabulary[token]) for token in {*first, *last}],
        )
