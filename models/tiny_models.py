#!/usr/bin/env python3
"""Writes small models of every kind, each with what it must give for some texts.

    tiny_models.py FOLDER

Makes FOLDER/NAME/{model.onnx, tokenizer.json, freshet.json, reference.json} per model. The weights are random numbers of
a fixed seed, so that the models know nothing; what matters is that all that surrounds them is there: pooling by mean, by
the first and by the last token, prefixes, SPLADE's weights, ColBERT's markers, masks and punctuation, pairs with
segments, logits and sigmoids. `reference.json` is computed in NumPy from the same weights, text by text in double
precision, by none of the code that it tests: neither ONNX nor a tokenizer library.

Needs numpy, onnx and safetensors, as build_onnx.py beside it.
"""

import argparse
import json
import math
import re
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import build_onnx
from build_onnx import Bert, Float32, Graph

SEED = 20260117
HIDDEN, HEADS, LAYERS, WIDE, POSITIONS = 32, 4, 2, 64, 64
MAX_TOKENS = 24
COLBERT_DIM, QUERY_TOKENS = 16, 12
SPECIAL = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PUNCTUATION = list("""!"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~""")
WORDS = ("river flood water rain snow spring thaw stream ice melt dam bank level high low rise fall fast slow cold warm "
         "document query vector index search rank score merge batch token model topic record offset commit").split()
VOCABULARY = SPECIAL + PUNCTUATION + WORDS
ID = {token: number for number, token in enumerate(VOCABULARY)}
EPSILON = 1e-12

TEXTS = [
    "rain",
    "Rain, snow; and the spring thaw!",
    "the river will rise fast: water level high, dam low (bank fall?)",
    "search rank score merge batch token model topic record offset commit index vector query document",
    " ".join(WORDS),  # longer than the limit
    "...",
    "Ice melt — stream",
]
QUERIES = ["flood level", "which topic record was commit?", " ".join(WORDS)]


def weights(seed):
    """Random weights by the names of published checkpoints."""
    random = np.random.default_rng(seed)
    made = {}

    def matrix(name, *shape, scale=0.25):
        made[name] = (random.standard_normal(shape) * scale).astype(np.float32)

    def linear(name, out, inner):
        matrix(name + ".weight", out, inner)
        matrix(name + ".bias", out, scale=0.1)

    def norm(name, size):
        made[name + ".weight"] = (1 + random.standard_normal(size) * 0.1).astype(np.float32)
        matrix(name + ".bias", size, scale=0.1)

    matrix("embeddings.word_embeddings.weight", len(VOCABULARY), HIDDEN, scale=1)
    matrix("embeddings.position_embeddings.weight", POSITIONS, HIDDEN)
    matrix("embeddings.token_type_embeddings.weight", 2, HIDDEN)
    norm("embeddings.LayerNorm", HIDDEN)
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}."
        for part in ("query", "key", "value"):
            linear(at + "attention.self." + part, HIDDEN, HIDDEN)
        linear(at + "attention.output.dense", HIDDEN, HIDDEN)
        norm(at + "attention.output.LayerNorm", HIDDEN)
        linear(at + "intermediate.dense", WIDE, HIDDEN)
        linear(at + "output.dense", HIDDEN, WIDE)
        norm(at + "output.LayerNorm", HIDDEN)
    linear("words", len(VOCABULARY), HIDDEN)  # SPLADE: logits of words
    matrix("late.weight", COLBERT_DIM, HIDDEN)  # ColBERT: smaller token vectors
    linear("score", 1, HIDDEN)  # cross-encoder
    return made


# --- the reference: NumPy, one text at a time, without padding ---


def layer_norm(x, w, name):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON) * w[name + ".weight"] + w[name + ".bias"]


def linear(x, w, name):
    return x @ w[name + ".weight"].T + w[name + ".bias"]


def hidden(w, ids, segments, attended):
    """Token vectors of one text, [tokens, HIDDEN]; nobody attends to tokens from `attended` on."""
    w = {name: value.astype(np.float64) for name, value in w.items()}
    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][segments]
    x = layer_norm(x + w["embeddings.position_embeddings.weight"][: len(ids)], w, "embeddings.LayerNorm")
    erf = np.vectorize(math.erf)
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}."
        q, k, v = (linear(x, w, f"{at}attention.self.{part}") for part in ("query", "key", "value"))
        size = HIDDEN // HEADS
        mixed = np.zeros_like(x)
        for head in range(HEADS):
            of = slice(head * size, (head + 1) * size)
            scores = q[:, of] @ k[:, of].T / math.sqrt(size)
            scores[:, attended:] = -np.inf
            shares = np.exp(scores - scores.max(-1, keepdims=True))
            mixed[:, of] = shares / shares.sum(-1, keepdims=True) @ v[:, of]
        x = layer_norm(linear(mixed, w, at + "attention.output.dense") + x, w, at + "attention.output.LayerNorm")
        wide = linear(x, w, at + "intermediate.dense")
        wide = wide / 2 * (1 + erf(wide / math.sqrt(2)))
        x = layer_norm(linear(wide, w, at + "output.dense") + x, w, at + "output.LayerNorm")
    return x, w


def pieces(text):
    """Numbers of words and of single characters of punctuation, in lower case."""
    return [ID.get(piece, ID["[UNK]"]) for piece in re.findall(r"\w+|[^\w\s]", text.lower())]


def single(text, limit):
    return [ID["[CLS]"], *pieces(text)[: limit - 2], ID["[SEP]"]]


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def dense_reference(w, manifest):
    def one(text, prefix):
        ids = single(prefix + text, MAX_TOKENS)
        rows, _ = hidden(w, ids, [0] * len(ids), len(ids))
        pooled = {"mean": rows.mean(0), "cls": rows[0], "last_token": rows[-1]}[manifest["pooling"]]
        pooled = unit(pooled) if manifest["normalize"] else pooled
        return {"text": text, "dense": pooled.tolist(), "tokens": unit(rows).tolist()}

    return {
        "documents": [one(text, manifest["passage_prefix"]) for text in TEXTS],
        "queries": [one(text, manifest["query_prefix"]) for text in QUERIES],
    }


def sparse_reference(w, _):
    def one(text):
        ids = single(text, MAX_TOKENS)
        rows, wide = hidden(w, ids, [0] * len(ids), len(ids))
        weighed = np.log1p(np.maximum(linear(rows, wide, "words"), 0)).max(0)
        words = np.flatnonzero(weighed)
        return {"text": text, "sparse": {"indices": words.tolist(), "values": weighed[words].tolist()}}

    return {"documents": [one(text) for text in TEXTS], "queries": [one(text) for text in QUERIES]}


def late_reference(w, _):
    def rows(ids, attended):
        found, wide = hidden(w, ids, [0] * len(ids), attended)
        return unit(found @ wide["late.weight"].T)

    def document(text):
        ids = single(text, MAX_TOKENS - 1)
        ids = [ids[0], ID["[unused1]"], *ids[1:]]
        keep = [place for place, number in enumerate(ids) if VOCABULARY[number] not in PUNCTUATION]
        return {"text": text, "tokens": rows(ids, len(ids))[keep].tolist()}

    def query(text):
        ids = single(text, QUERY_TOKENS - 1)
        ids = [ids[0], ID["[unused0]"], *ids[1:]]
        masks = [ID["[MASK]"]] * (QUERY_TOKENS - len(ids))
        return {"text": text, "tokens": rows(ids + masks, len(ids)).tolist()}

    return {"documents": [document(text) for text in TEXTS], "queries": [query(text) for text in QUERIES]}


def pair_reference(w, manifest):
    def one(query, text):
        # The longer of the two is cut first, token by token, until both fit with their three special tokens.
        first, second = pieces(query), pieces(text)
        while len(first) + len(second) > MAX_TOKENS - 3:
            (first if len(first) > len(second) else second).pop()
        ids = [ID["[CLS]"], *first, ID["[SEP]"], *second, ID["[SEP]"]]
        segments = [0] * (len(first) + 2) + [1] * (len(second) + 1)
        rows, wide = hidden(w, ids, segments, len(ids))
        logit = linear(rows[0], wide, "score")[0]
        score = 1 / (1 + math.exp(-logit)) if manifest["activation"] == "sigmoid" else logit
        return {"query": query, "text": text, "score": float(score)}

    # Which of two equally long texts is cut is the tokenizer's affair: one text of the longest pair is short.
    pairs = [(query, text) for query in QUERIES for text in TEXTS if query != text]
    return {"pairs": [one(query, text) for query, text in pairs]}


# --- the models ---


def head_nodes(kind, graph, w):
    """Adds what comes after the encoder; the name and the shape of the output."""
    rows = ["batch_size", "sequence_length"]
    last = build_onnx.OUTPUT
    if kind == "dense":
        return last, [*rows, HIDDEN]
    if kind == "sparse":
        product = graph.op("MatMul", "words/matmul", last, graph.constant("words.T", w["words.weight"].T))
        graph.op("Add", "logits", product, graph.constant("words.bias", w["words.bias"]))
        return "logits", [*rows, len(VOCABULARY)]
    if kind == "late_interaction":
        graph.op("MatMul", "contextual", last, graph.constant("late.T", w["late.weight"].T))
        return "contextual", [*rows, COLBERT_DIM]
    first = graph.op("Gather", "first", last, graph.scalar("int64:0", 0, np.int64), axis=1)
    product = graph.op("MatMul", "score/matmul", first, graph.constant("score.T", w["score.weight"].T))
    graph.op("Add", "logits", product, graph.constant("score.bias", w["score.bias"]))
    return "logits", ["batch_size", 1]


def model(kind, w):
    graph = Graph()
    config = {"hidden_size": HIDDEN, "num_attention_heads": HEADS, "num_hidden_layers": LAYERS,
              "layer_norm_eps": EPSILON}
    encoder = {name: value for name, value in w.items() if name.startswith(("embeddings.", "encoder."))}
    Bert(config, encoder, Float32(graph, encoder)).build()
    name, shape = head_nodes(kind, graph, w)
    return onnx_model(kind, graph, build_onnx.INPUTS, name, shape)


def onnx_model(kind, graph, inputs, name, shape):
    """The checked model of a graph with one output."""
    inputs = [helper.make_tensor_value_info(key, TensorProto.INT64, ["batch_size", "sequence_length"])
              for key in inputs]
    made = helper.make_model(
        helper.make_graph(graph.nodes, f"tiny-{kind}", inputs,
                          [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
                          [numpy_helper.from_array(array, key) for key, array in graph.constants.items()]),
        opset_imports=[helper.make_opsetid("", build_onnx.OPSET)],
        ir_version=build_onnx.IR_VERSION,
        producer_name="freshet tiny_models.py",
    )
    onnx.checker.check_model(made, full_check=True)
    return made


def hanging(w):
    """A model of word vectors alone that counts for a thousand hours when it reads the word "flood"."""
    graph = Graph()
    scalar = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["count", "one"], ["counted"])],
        "count",
        [scalar("turn", TensorProto.INT64, []), scalar("go", TensorProto.BOOL, []),
         scalar("count", TensorProto.FLOAT, [])],
        [scalar("go_on", TensorProto.BOOL, []), scalar("counted", TensorProto.FLOAT, [])],
        [numpy_helper.from_array(np.array(1, np.float32), "one")],
    )
    found = graph.op("Equal", "is_flood", "input_ids", graph.scalar("flood", ID["flood"], np.int64))
    found = graph.op("ReduceMax", "has_flood", graph.op("Cast", "flags", found, to=TensorProto.INT64), keepdims=0)
    turns = graph.op("Mul", "turns", found, graph.scalar("many", 10**13, np.int64))
    count = graph.op("Loop", "total", turns, graph.scalar("yes", True, bool), graph.scalar("none", 0), body=body)
    rows = graph.constant("table", w["embeddings.word_embeddings.weight"])
    rows = graph.op("Gather", "rows", rows, "input_ids", axis=0)
    graph.op("Add", build_onnx.OUTPUT, rows, graph.op("Mul", "nothing", count, graph.scalar("zero", 0)))
    return onnx_model("hang", graph, ["input_ids", "attention_mask"], build_onnx.OUTPUT,
                      ["batch_size", "sequence_length", HIDDEN])


def tokenizer():
    """A file of the tokenizers library: words and punctuation, in lower case, with BERT's special tokens."""
    def special(token):
        return {"id": ID[token], "content": token, "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True}

    def piece(token, segment):
        return {"SpecialToken": {"id": token, "type_id": segment}}

    def sequence(name, segment):
        return {"Sequence": {"id": name, "type_id": segment}}

    both = [piece("[CLS]", 0), sequence("A", 0), piece("[SEP]", 0)]
    return {
        "version": "1.0", "truncation": None,
        "padding": {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None,
                    "pad_id": ID["[PAD]"], "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [special(token) for token in SPECIAL],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "WhitespaceSplit"},
            {"type": "Split", "pattern": {"Regex": "[^\\w\\s]"}, "behavior": "Isolated", "invert": False}]},
        "post_processor": {
            "type": "TemplateProcessing", "single": both,
            "pair": [*both, sequence("B", 1), piece("[SEP]", 1)],
            "special_tokens": {token: {"id": token, "ids": [ID[token]], "tokens": [token]}
                               for token in ("[CLS]", "[SEP]")}},
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": ID, "unk_token": "[UNK]"},
    }


def manifests():
    common = {"source": "models/tiny_models.py", "license": "Apache-2.0", "max_tokens": MAX_TOKENS,
              "file": "model.onnx", "query_prefix": "", "passage_prefix": ""}
    dense = {**common, "kind": "dense", "pooling": "mean", "normalize": True, "dimension": HIDDEN}
    late = {**common, "kind": "late_interaction", "dimension": COLBERT_DIM, "query_marker": "[unused0]",
            "document_marker": "[unused1]", "mask": "[MASK]", "query_tokens": QUERY_TOKENS, "skip_punctuation": True}
    pair = {**common, "kind": "cross_encoder", "activation": "none", "dimension": 1}
    return {
        "tiny-mean": (dense, dense_reference),
        "tiny-cls": ({**dense, "pooling": "cls", "query_prefix": "query: ", "passage_prefix": "document: "},
                     dense_reference),
        "tiny-last": ({**dense, "pooling": "last_token", "normalize": False}, dense_reference),
        "tiny-splade": ({**common, "kind": "sparse", "dimension": len(VOCABULARY)}, sparse_reference),
        "tiny-colbert": (late, late_reference),
        "tiny-cross": (pair, pair_reference),
        "tiny-cross-sigmoid": ({**pair, "activation": "sigmoid"}, pair_reference),
    }


def main():
    parser = argparse.ArgumentParser(description="Writes small models of every kind, and what they must give.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for number, (name, (manifest, reference)) in enumerate(manifests().items()):
        w = weights(SEED + number)
        write(folder / name, manifest, model(manifest["kind"], w), reference(w, manifest))
    manifest, _ = manifests()["tiny-mean"]
    write(folder / "tiny-hang", manifest, hanging(weights(SEED)), {})
    print(f"{folder}: {', '.join(manifests())}, tiny-hang")


def write(to, manifest, made, reference):
    to.mkdir(parents=True, exist_ok=True)
    onnx.save(made, to / "model.onnx")
    for file, content in (("tokenizer.json", tokenizer()), ("freshet.json", {"name": to.name, **manifest}),
                          ("reference.json", reference)):
        (to / file).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
