"""Queries a second through qdrant-client: Freshet over HTTP beside the client's own local mode, on the same vectors.

figures.py URL

Local mode compares with all vectors (numpy); so Freshet is asked twice, exactly and by its index. Recall is against local mode.
"""

import sys
import time

import numpy
from qdrant_client import QdrantClient, models

POINTS, SIZE, QUERIES, LIMIT, BATCH = 20_000, 384, 300, 10, 500


def vectors(random, count, centres):
    rows = centres[random.integers(len(centres), size=count)] + 0.6 * random.normal(size=(count, SIZE)) / SIZE**0.5
    return (rows / numpy.linalg.norm(rows, axis=1, keepdims=True)).astype(numpy.float32)


def fill(client, rows):
    client.create_collection(
        "figures", vectors_config=models.VectorParams(size=SIZE, distance=models.Distance.COSINE)
    )
    for start in range(0, len(rows), BATCH):
        part = rows[start:start + BATCH]
        points = [models.PointStruct(id=start + n, vector=row.tolist()) for n, row in enumerate(part)]
        client.upsert("figures", points, wait=start + BATCH >= len(rows))


def ask(client, queries, params):
    """Hits of each query, and the seconds that each took."""
    found, times = [], []
    for query in queries:
        began = time.perf_counter()
        response = client.query_points("figures", query=query, limit=LIMIT, search_params=params, with_payload=False)
        times.append(time.perf_counter() - began)
        found.append([point.id for point in response.points])
    return found, numpy.sort(times)


def main():
    random = numpy.random.default_rng(7)
    centres = random.normal(size=(500, SIZE)) / SIZE**0.5
    rows, queries = vectors(random, POINTS, centres), vectors(random, QUERIES, centres).tolist()
    local, far = QdrantClient(":memory:"), QdrantClient(url=sys.argv[1], timeout=120)
    began = time.perf_counter()
    fill(far, rows)
    print(f"{POINTS} points of {SIZE} written and searchable in {time.perf_counter() - began:.1f} s")
    fill(local, rows)
    expected, times = ask(local, queries, None)
    print(f"{'':28} {'queries/s':>10} {'p50 ms':>8} {'p99 ms':>8} {'recall@10':>10}")

    def show(name, found, times):
        hits = sum(len(set(a) & set(b)) for a, b in zip(found, expected))
        p50, p99 = times[len(times) // 2] * 1e3, times[len(times) * 99 // 100] * 1e3
        print(f"{name:28} {len(times) / times.sum():>10.0f} {p50:>8.2f} {p99:>8.2f} {hits / (LIMIT * QUERIES):>10.4f}")

    show("local mode, exact", expected, times)
    show("Freshet over HTTP, exact", *ask(far, queries, models.SearchParams(exact=True)))
    # Segments are built in the background.
    ask(far, queries, None)
    show("Freshet over HTTP, HNSW32", *ask(far, queries, None))


main()
