#!/usr/bin/env python3
"""Turns the safetensors weights of a BERT sentence encoder into one ONNX file.

    build_onnx.py MODEL_DIR OUT.onnx [--precision fp32|int8] [--outliers CHANNEL...]

MODEL_DIR holds `config.json` and `model.safetensors` as Hugging Face publishes them. The graph takes and gives what the
public exports of such models do, so that one loader serves both:

    input_ids, attention_mask, token_type_ids   int64   [batch_size, sequence_length]
    last_hidden_state                           float32 [batch_size, sequence_length, hidden_size]

Pooling and normalisation stay with the caller: the same output serves one vector per text and one per token.

`int8` stores every weight matrix as integers with one scale per output channel, and quantises activations while the
model runs, with one scale per token. A token's integers therefore depend on that token alone, and integer products are
exact in any order: what else is in the batch, or how far it is padded, does not show in the result. (Schemes with one
scale per tensor do not have that property.) The graph uses operators of the ONNX standard only.

Needs numpy, onnx and safetensors; no deep-learning framework.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

# LayerNormalization is part of the standard from this version on.
OPSET = 17
IR_VERSION = 8
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "last_hidden_state"
EMBEDDING_NORM = "embeddings.LayerNorm"
# Activations become unsigned bytes, weights signed ones: the pair that ONNX Runtime has fast kernels for.
BYTE_MAX = 255
LEVEL_MAX = 127
ZERO_POINT = 128
# Keeps the scale of an all-zero row from being zero.
SCALE_MIN = 1e-12
# Just below the least value of GELU (−0.16997, at −0.7518).
GELU_FLOOR = 0.17
# The magnitude that an ordinary channel of a normalised token reaches in a short text, in standard deviations.
TYPICAL_REACH = 2.2


class Graph:
    """Collects nodes and constants; a tensor is known by its name, which is what every method returns."""

    def __init__(self):
        self.nodes = []
        self.constants = {}

    def constant(self, name, value):
        """Adds a constant, once: later calls with the same name must mean the same value."""
        array = np.asarray(value)
        array = array if array.ndim == 0 else np.ascontiguousarray(array)
        known = self.constants.setdefault(name, array)
        assert known.dtype == array.dtype and np.array_equal(known, array), f"two values for constant {name}"
        return name

    def shape(self, *sizes):
        """A shape or list of axes as a constant vector."""
        return self.constant("shape:" + ",".join(map(str, sizes)), np.array(sizes, np.int64))

    def scalar(self, name, value, dtype=np.float32):
        return self.constant(name, np.array(value, dtype))

    def op(self, kind, name, *inputs, **attributes):
        """Adds the node `kind` whose one output is called `name`."""
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def model(self, name, hidden_size):
        axes = ["batch_size", "sequence_length"]
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(key, TensorProto.INT64, axes) for key in INPUTS],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, axes + [hidden_size])],
            [numpy_helper.from_array(array, key) for key, array in self.constants.items()],
        )
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="freshet build_onnx.py",
        )


class Float32:
    """Weights as they are published."""

    def __init__(self, graph, weights):
        self.graph, self.weights = graph, weights

    def embedding(self, key, ids, name):
        return self.graph.op("Gather", name, self.graph.constant(key, self.weights[key]), ids, axis=0)

    def operand(self, x, keys, norm=None, floor=None):
        """What `linear` takes: `x`, made ready once for all the matrices `keys` that read it."""
        return x

    def linear(self, operand, key, name):
        """x · Wᵀ + b; published matrices are [out, in]."""
        g, weight = self.graph, self.weights[key + ".weight"]
        product = g.op("MatMul", name + "/matmul", operand, g.constant(key + ".weight.T", weight.T))
        return g.op("Add", name, product, g.constant(key + ".bias", self.weights[key + ".bias"]))


@dataclass
class Operand:
    """Activations as bytes: value ≈ ((byte − zero_point) · token_scale − floor) · channel_gain."""

    data: str
    token_scale: str
    zero_point: int
    floor: float
    channel_gain: np.ndarray


class Int8:
    """Weights as integers: one scale per output channel of a matrix, one per row of the word embeddings.

    Three things keep the loss small; each costs at most one cheap operator, and none needs sample texts:

    1. Equalised channels (SmoothQuant, Xiao et al. 2023, arXiv:2211.10438). A channel that is far larger than the rest
       would take most of a token's 256 levels. What a normalised input can reach is read from its norm's weights, and
       the square root of its ratio to the matrix is moved from activations to weights. Gains are powers of two, so that
       moving them rounds nothing.
    2. GELU's outputs start at −0.17: counted from there, all 256 levels are used instead of little more than half.
    3. Weight scales are as small as overflow permits, see `quantise_matrix`.
    """

    def __init__(self, graph, weights, outliers):
        self.graph, self.weights, self.outliers = graph, weights, outliers

    @staticmethod
    def quantise_rows(matrix):
        """Symmetric: row ≈ integers · scale, the row's largest magnitude at 127."""
        scale = (np.abs(matrix).max(axis=1, keepdims=True) / np.float32(LEVEL_MAX)).astype(np.float32)
        scale[scale == 0] = 1
        return np.rint(matrix / scale).clip(-LEVEL_MAX, LEVEL_MAX).astype(np.int8), scale

    @staticmethod
    def quantise_matrix(matrix):
        """Like `quantise_rows`, and safe on every CPU.

        Without VNNI, x86 kernels add two neighbouring byte products in 16 bits and clip the sum. An activation is at
        most 255, so neighbours may sum to ±128 before 255 · 128 = 32640 meets that edge. Weights of 7 bits would do,
        but few neighbours are both large and of one sign: it suffices to bound the pairs.
        """
        pairs = np.abs(matrix[:, 0::2] + matrix[:, 1::2])
        pairs[np.signbit(matrix[:, 0::2]) != np.signbit(matrix[:, 1::2])] = 0
        # Rounding adds at most a half to each neighbour.
        bound = np.maximum(np.abs(matrix).max(axis=1), pairs.max(axis=1))
        scale = (bound / np.float32(LEVEL_MAX)).astype(np.float32)[:, None]
        scale[scale == 0] = 1
        levels = np.rint(matrix / scale).clip(-LEVEL_MAX, LEVEL_MAX).astype(np.int8)
        sums = levels[:, 0::2].astype(np.int16) + levels[:, 1::2]
        assert np.abs(sums).max() * BYTE_MAX < 2**15, "neighbouring weights could overflow 16 bits"
        return levels, scale

    def embedding(self, key, ids, name):
        """Rows are looked up and never multiplied as integers."""
        g = self.graph
        levels, scale = self.quantise_rows(self.weights[key])
        levels = g.op("Gather", name + "/levels", g.constant(key + ".levels", levels), ids, axis=0)
        scale = g.op("Gather", name + "/scale", g.constant(key + ".scale", scale), ids, axis=0)
        return g.op("Mul", name, g.op("Cast", name + "/float", levels, to=TensorProto.FLOAT), scale)

    def operand(self, x, keys, norm=None, floor=None):
        """Quantises each token of `x`; `norm` is the layer norm that made it, `floor` how far below zero it can go."""
        g, gain = self.graph, np.ones(1, np.float32)
        at = x + "/quantise/"
        if norm is not None:
            gain = self.channel_gain(keys, norm)
            x = g.op("Mul", at + "equalised", x, g.constant(at + "gain", 1 / gain))
        if floor is not None:
            x = g.op("Add", at + "from_floor", x, g.scalar(at + "floor", floor))
            largest, levels_max, zero_point = x, BYTE_MAX, 0
        else:
            largest, levels_max, zero_point = g.op("Abs", at + "magnitude", x), LEVEL_MAX, ZERO_POINT
        largest = g.op("ReduceMax", at + "largest", largest, axes=[-1], keepdims=1)
        scale = g.op("Mul", at + "scale_raw", largest, g.scalar(f"1/{levels_max}", 1 / levels_max))
        scale = g.op("Max", at + "scale", scale, g.scalar("scale_min", SCALE_MIN))
        levels = g.op("Round", at + "levels", g.op("Div", at + "scaled", x, scale))
        if zero_point:
            levels = g.op("Add", at + "shifted", levels, g.scalar("zero_point.float", zero_point))
        data = g.op("Cast", at + "bytes", levels, to=TensorProto.UINT8)
        return Operand(data, scale, zero_point, floor or 0.0, gain)

    def channel_gain(self, keys, norm):
        """By how much each channel shrinks before it is quantised, while the matrices' columns grow."""
        weight, bias = (np.abs(self.weights[norm + part]).astype(np.float64) for part in (".weight", ".bias"))
        reach = np.full(weight.shape, TYPICAL_REACH)
        reach[self.outliers] = len(weight) ** 0.5  # all that a row of unit variance has
        columns = np.max([np.abs(self.weights[key + ".weight"]).max(axis=0) for key in keys], axis=0)
        gain = np.sqrt((weight * reach + bias) / columns)
        return (2 ** np.rint(np.log2(gain / np.median(gain)))).astype(np.float32)

    def linear(self, operand, key, name):
        """The product in integers, then both scales, then the bias in float."""
        g = self.graph
        levels, scale = self.quantise_matrix(self.weights[key + ".weight"] * operand.channel_gain)
        shift = operand.floor * (levels * scale).sum(axis=1)
        zero = g.scalar(f"zero_point:{operand.zero_point}", operand.zero_point, np.uint8)
        product = g.op("MatMulInteger", name + "/matmul", operand.data, g.constant(key + ".levels", levels.T), zero)
        product = g.op("Cast", name + "/float", product, to=TensorProto.FLOAT)
        product = g.op("Mul", name + "/token_scaled", product, operand.token_scale)
        product = g.op("Mul", name + "/scaled", product, g.constant(key + ".scale", scale[:, 0]))
        bias = (self.weights[key + ".bias"] - shift).astype(np.float32)
        return g.op("Add", name, product, g.constant(key + ".bias", bias))


class Bert:
    """Writes the encoder of Devlin et al. 2018 (arXiv:1810.04805) into a graph."""

    def __init__(self, config, weights, precision):
        self.config, self.weights, self.precision = config, weights, precision
        self.graph = precision.graph
        self.hidden = config["hidden_size"]
        self.heads = config["num_attention_heads"]

    def build(self):
        x, norm = self.embeddings(), EMBEDDING_NORM
        mask = self.additive_mask()
        for layer in range(self.config["num_hidden_layers"]):
            x, norm = self.layer(x, norm, mask, f"encoder.layer.{layer}.", f"layer{layer}/")
        self.graph.op("Identity", OUTPUT, x)

    def layer_norm(self, x, key, name):
        g = self.graph
        parts = [g.constant(key + part, self.weights[key + part]) for part in (".weight", ".bias")]
        return g.op("LayerNormalization", name, x, *parts, axis=-1, epsilon=self.config["layer_norm_eps"])

    def embeddings(self):
        """Word + token type + position, normalised."""
        g = self.graph
        zero, one = g.scalar("int64:0", 0, np.int64), g.scalar("int64:1", 1, np.int64)
        length = g.op("Gather", "length", g.op("Shape", "input_shape", "input_ids"), one, axis=0)
        positions = g.op("Range", "positions", zero, length, one)
        word = self.precision.embedding("embeddings.word_embeddings.weight", "input_ids", "embed/word")

        def table(kind, ids):
            key = f"embeddings.{kind}_embeddings.weight"
            return g.op("Gather", f"embed/{kind}", g.constant(key, self.weights[key]), ids, axis=0)

        total = g.op("Add", "embed/word+type", word, table("token_type", "token_type_ids"))
        total = g.op("Add", "embed/sum", total, table("position", positions))
        return self.layer_norm(total, EMBEDDING_NORM, "embed/norm")

    def additive_mask(self):
        """[batch, 1, 1, token]: 0 to keep a token, the lowest float to make its softmax weight exactly zero."""
        g = self.graph
        keep = g.op("Unsqueeze", "mask/4d", "attention_mask", g.shape(1, 2))
        keep = g.op("Cast", "mask/float", keep, to=TensorProto.FLOAT)
        drop = g.op("Sub", "mask/drop", g.scalar("1", 1), keep)
        return g.op("Mul", "mask", drop, g.scalar("lowest", np.finfo(np.float32).min))

    def layer(self, x, norm, mask, key, name):
        """One encoder layer; `norm` names the layer norm that made `x`. Returns its output and that one's norm."""
        g, inner, outer = self.graph, key + "attention.output.LayerNorm", key + "output.LayerNorm"
        attended = self.attention(x, norm, mask, key + "attention.self.", name + "attention/")
        projected = self.linear(attended, key + "attention.output.dense", name + "attention/output")
        x = self.layer_norm(g.op("Add", name + "attention/residual", projected, x), inner, name + "attention/norm")
        widened = self.linear(x, key + "intermediate.dense", name + "feed/wide", norm=inner)
        bent = self.gelu(widened, name + "feed/")
        narrowed = self.linear(bent, key + "output.dense", name + "feed/output", floor=GELU_FLOOR)
        x = self.layer_norm(g.op("Add", name + "feed/residual", narrowed, x), outer, name + "feed/norm")
        return x, outer

    def linear(self, x, key, name, **origin):
        return self.precision.linear(self.precision.operand(x, [key], **origin), key, name)

    def attention(self, x, norm, mask, key, name):
        """softmax(Q · Kᵀ / √d + mask) · V, head by head."""
        g, size = self.graph, self.hidden // self.heads
        operand = self.precision.operand(x, [key + part for part in ("query", "key", "value")], norm=norm)

        def heads(part, order):
            split = self.precision.linear(operand, key + part, name + part)
            split = g.op("Reshape", f"{name}{part}/split", split, g.shape(0, 0, self.heads, size))
            return g.op("Transpose", f"{name}{part}/heads", split, perm=order)

        query, value = (heads(part, [0, 2, 1, 3]) for part in ("query", "value"))
        scores = g.op("MatMul", name + "scores", query, heads("key", [0, 2, 3, 1]))
        scores = g.op("Div", name + "scaled", scores, g.scalar("sqrt(head_size)", size**0.5))
        scores = g.op("Add", name + "masked", scores, mask)
        shares = g.op("Softmax", name + "shares", scores, axis=-1)
        mixed = g.op("Transpose", name + "merge", g.op("MatMul", name + "mixed", shares, value), perm=[0, 2, 1, 3])
        return g.op("Reshape", name + "merged", mixed, g.shape(0, 0, self.hidden))

    def gelu(self, x, name):
        """x/2 · (1 + erf(x/√2)), the exact form that BERT was trained with."""
        g = self.graph
        erf = g.op("Erf", name + "erf", g.op("Div", name + "erf_in", x, g.scalar("sqrt(2)", 2**0.5)))
        doubled = g.op("Mul", name + "doubled", x, g.op("Add", name + "erf+1", erf, g.scalar("1", 1)))
        return g.op("Mul", name + "gelu", doubled, g.scalar("1/2", 0.5))


def load(model_dir):
    """The config and the weights by name, without the prefix that some checkpoints put before every name."""
    config = json.loads((model_dir / "config.json").read_text())
    if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
        raise SystemExit(f'{model_dir / "config.json"}: only BERT encoders with "hidden_act": "gelu" can be exported')
    weights = load_file(model_dir / "model.safetensors")
    return config, {key.removeprefix("bert."): value.astype(np.float32) if value.dtype == np.float16 else value
                    for key, value in weights.items()}


def export(model_dir, precision, outliers):
    """The checked ONNX model of a checkpoint folder."""
    config, weights = load(model_dir)
    graph = Graph()
    numbers = Int8(graph, weights, outliers) if precision == "int8" else Float32(graph, weights)
    Bert(config, weights, numbers).build()
    # Nothing of the folder's name reaches the file: the same weights give the same bytes everywhere.
    model = graph.model(f"bert-{precision}", config["hidden_size"])
    onnx.checker.check_model(model, full_check=True)
    return model


def main():
    parser = argparse.ArgumentParser(description="Writes the ONNX file of a BERT sentence encoder.")
    parser.add_argument("model_dir", type=Path, help="folder with config.json and model.safetensors")
    parser.add_argument("out", type=Path, help="ONNX file to write")
    parser.add_argument("--precision", choices=("fp32", "int8"), default="fp32", help="default: %(default)s")
    parser.add_argument("--outliers", type=int, nargs="*", default=[], metavar="CHANNEL",
                        help="int8: channels of the hidden state that dwarf all others in every text")
    args = parser.parse_args()
    onnx.save(export(args.model_dir, args.precision, args.outliers), args.out)
    print(f"{args.out}: {args.precision}, {args.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
