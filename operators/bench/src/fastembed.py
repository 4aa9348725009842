"""Embeds texts with fastembed on one thread, as its users do; prints the best time in seconds and the first vector.

Reads JSON: {"folder": …, "file": …, "dim": …, "rounds": …, "texts": […]}.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType

asked = json.load(sys.stdin)
with tempfile.TemporaryDirectory() as folder:
    # The files that it wants beside the model, and that our folder does not need.
    for file in (asked["file"], "tokenizer.json", "config.json"):
        (Path(folder) / file).symlink_to(Path(asked["folder"]).resolve() / file)
    (Path(folder) / "tokenizer_config.json").write_text('{"model_max_length": 256, "pad_token": "[PAD]"}')
    (Path(folder) / "special_tokens_map.json").write_text("{}")
    TextEmbedding.add_custom_model(
        model="same/file", pooling=PoolingType.MEAN, normalization=True, sources=ModelSource(hf="same/file"),
        dim=asked["dim"], model_file=asked["file"],
    )
    model = TextEmbedding("same/file", specific_model_path=folder, threads=1)
    list(model.embed(asked["texts"][:8]))
    best = float("inf")
    for _ in range(asked["rounds"]):
        begun = time.perf_counter()
        vectors = list(model.embed(asked["texts"]))
        best = min(best, time.perf_counter() - begun)
    print(json.dumps({"seconds": best, "first": vectors[0].tolist()}))
