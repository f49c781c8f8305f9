"""Writes the default model's weights in the formats of the other engines.

    python make_models.py [CHECKPOINT [OUT]]      (defaults: ../../models/default, models)

needs: pip install onnx onnxruntime gguf safetensors

OUT becomes a directory that @huggingface/transformers can open:
  onnx/model.onnx            f32, in onnxruntime's fused operators (EmbedLayerNormalization, Attention, BiasGelu,
                             SkipLayerNormalization): what its own optimizer turns an exported BERT into
  onnx/model_quantized.onnx  int8: onnxruntime's dynamic quantization, one scale per output channel
  model-f32.gguf, model-q8_0.gguf   for llama.cpp, with "rank" pooling
"""
import json
import os
import shutil
import sys

import gguf
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from weights import load

HERE = os.path.dirname(os.path.abspath(__file__))

# llama.cpp scores tanh(x W + b) V + c. With W = SQUASH * I and V scaled back, tanh is the identity to within 1e-6 |x|^2.
SQUASH = 1e-3


def fused_onnx(config, tensors, head_weight, head_bias):
    nodes, initializers = [], []
    epsilon = config["layer_norm_eps"]

    def constant(name, value):
        initializers.append(numpy_helper.from_array(value, name))
        return name

    def tensor(name):
        return constant(name, tensors[name])

    def node(kind, inputs, outputs, domain="com.microsoft", **attributes):
        nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], domain=domain, **attributes))
        return outputs[0]

    def product(x, name):
        """x W^T; the bias goes into the operator that follows."""
        return node("MatMul", [x, constant(f"{name}.weight", tensors[f"{name}.weight"].T)], [f"{name}.out"], domain="")

    def residual(x, skip, norm, bias):
        inputs = [x, skip, tensor(f"{norm}.weight"), tensor(f"{norm}.bias"), tensor(bias)]
        return node("SkipLayerNormalization", inputs, [f"{norm}.out"], epsilon=epsilon)

    names = ["input_ids", "attention_mask", "token_type_ids"]
    ids, mask, types = (node("Cast", [n], [f"{n}.int32"], domain="", to=TensorProto.INT32) for n in names)
    tables = [f"embeddings.{n}_embeddings.weight" for n in ("word", "position", "token_type")]
    norm = [tensor(f"embeddings.LayerNorm.{n}") for n in ("weight", "bias")]
    x = "embeddings.out"
    node("EmbedLayerNormalization", [ids, types, *map(tensor, tables), *norm, mask], [x, "lengths"], epsilon=epsilon)

    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        parts = [f"{layer}.attention.self.{n}" for n in ("query", "key", "value")]
        weight = constant(f"{layer}.qkv.weight", np.concatenate([tensors[f"{p}.weight"].T for p in parts], axis=1))
        bias = constant(f"{layer}.qkv.bias", np.concatenate([tensors[f"{p}.bias"] for p in parts]))
        heads = config["num_attention_heads"]
        attended = node("Attention", [x, weight, bias, "lengths"], [f"{layer}.attention"], num_heads=heads)
        output = f"{layer}.attention.output"
        x = residual(product(attended, f"{output}.dense"), x, f"{output}.LayerNorm", f"{output}.dense.bias")
        up, down = f"{layer}.intermediate.dense", f"{layer}.output.dense"
        active = node("BiasGelu", [product(x, up), tensor(f"{up}.bias")], [f"{layer}.gelu"])
        x = residual(product(active, down), x, f"{layer}.output.LayerNorm", f"{down}.bias")

    first = node("Gather", [x, constant("first", np.array(0, np.int64))], ["cls"], domain="", axis=1)
    node("Gemm", [first, constant("head.weight", head_weight), constant("head.bias", head_bias)], ["logits"], domain="", transB=1)
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "length"]) for n in names]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(nodes, "cross-encoder", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def gguf_file(path, quantized, vocabulary, config, tensors, head_weight, head_bias):
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.RANK)
    writer.add_classifier_output_labels(["score"])

    writer.add_tokenizer_model("bert")
    writer.add_token_type_count(config["type_vocab_size"])
    special = {"[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"}
    words = sorted(vocabulary, key=vocabulary.get)

    def spelled(word):
        """llama.cpp marks the starts of words, where WordPiece marks what continues them."""
        if word.startswith("[") and word.endswith("]") and len(word) > 2:
            return word
        return word[2:] if word.startswith("##") else "\u2581" + word

    writer.add_token_list([spelled(word) for word in words])
    kinds = gguf.TokenType
    writer.add_token_types([kinds.CONTROL if word in special else kinds.NORMAL for word in words])
    writer.add_bos_token_id(vocabulary["[CLS]"])
    writer.add_eos_token_id(vocabulary["[SEP]"])
    writer.add_sep_token_id(vocabulary["[SEP]"])
    writer.add_unk_token_id(vocabulary["[UNK]"])
    writer.add_pad_token_id(vocabulary["[PAD]"])
    writer.add_mask_token_id(vocabulary["[MASK]"])

    def add(name, value):
        if quantized and value.ndim == 2 and (name.startswith("blk.") or name == "token_embd.weight"):
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(value, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, value)

    embeddings = {
        "word_embeddings.weight": "token_embd.weight",
        "position_embeddings.weight": "position_embd.weight",
        "token_type_embeddings.weight": "token_types.weight",
        "LayerNorm.weight": "token_embd_norm.weight",
        "LayerNorm.bias": "token_embd_norm.bias",
    }
    for ours, theirs in embeddings.items():
        add(theirs, tensors[f"embeddings.{ours}"])
    layer = {
        "attention.self.query": "attn_q",
        "attention.self.key": "attn_k",
        "attention.self.value": "attn_v",
        "attention.output.dense": "attn_output",
        "attention.output.LayerNorm": "attn_output_norm",
        "intermediate.dense": "ffn_up",
        "output.dense": "ffn_down",
        "output.LayerNorm": "layer_output_norm",
    }
    for i in range(config["num_hidden_layers"]):
        for ours, theirs in layer.items():
            for part in ("weight", "bias"):
                add(f"blk.{i}.{theirs}.{part}", tensors[f"encoder.layer.{i}.{ours}.{part}"])
    hidden = config["hidden_size"]
    add("cls.weight", np.eye(hidden, dtype=np.float32) * np.float32(SQUASH))
    add("cls.bias", np.zeros(hidden, np.float32))
    add("cls.output.weight", head_weight / np.float32(SQUASH))
    add("cls.output.bias", head_bias)

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(checkpoint=os.path.join(HERE, "..", "..", "models", "default"), out=os.path.join(HERE, "models")):
    model = load(checkpoint)
    os.makedirs(os.path.join(out, "onnx"), exist_ok=True)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(checkpoint, name), os.path.join(out, name))

    f32 = os.path.join(out, "onnx", "model.onnx")
    onnx.save(fused_onnx(*model), f32)
    quantize_dynamic(
        f32,
        os.path.join(out, "onnx", "model_quantized.onnx"),
        weight_type=QuantType.QInt8,
        per_channel=True,
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )

    with open(os.path.join(checkpoint, "tokenizer.json"), encoding="utf-8") as file:
        vocabulary = json.load(file)["model"]["vocab"]
    gguf_file(os.path.join(out, "model-f32.gguf"), False, vocabulary, *model)
    gguf_file(os.path.join(out, "model-q8_0.gguf"), True, vocabulary, *model)


if __name__ == "__main__":
    main(*sys.argv[1:])
