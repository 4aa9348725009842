"""What a program does with the client, against Freshet alone.

walk.py URL            makes collections, fills and asks them
walk.py URL again      after a restart: all of it is there
"""

import json
import sys
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor

from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

MODEL = "hashing-64"
TEXTS = {
    1: "the harbour has a berth for the ferry",
    2: "an invoice and a refund",
    3: "a berth, another berth, and the ship",
    4: "the lamp on the desk",
}


def refused(status, words, work):
    try:
        work()
    except UnexpectedResponse as error:
        assert error.status_code == status, error
        message = error.structured()["status"]["error"]
        assert words in message, message
        return
    raise AssertionError(f"{words}: not refused")


def ids(response):
    return [point.id for point in response.points]


def plain(client):
    """Unnamed vectors."""
    client.create_collection(
        "plain", vectors_config=models.VectorParams(size=4, distance=models.Distance.COSINE)
    )
    refused(409, "already exists", lambda: client.create_collection(
        "plain", vectors_config=models.VectorParams(size=4, distance=models.Distance.COSINE)))
    named = uuid.uuid4()
    result = client.upsert(
        "plain",
        points=[
            models.PointStruct(id=1, vector=[1, 0, 0, 0], payload={"city": "Kiel"}),
            models.PointStruct(id=str(named), vector=[0, 1, 0, 0], payload={"id": 5, "payload": {"a": 1}}),
        ],
        wait=True,
    )
    assert result.status == models.UpdateStatus.COMPLETED, result
    client.upsert(
        "plain",
        points=models.Batch(ids=[2, 3], vectors=[[0, 0, 1, 0], [0.9, 0.1, 0, 0]], payloads=[{"n": 2}, {"n": 3}]),
        wait=True,
    )
    found = client.query_points("plain", query=[1.0, 0, 0, 0], limit=2)
    assert ids(found) == [1, 3], found
    assert abs(found.points[0].score - 1) < 1e-6 and found.points[0].payload == {"city": "Kiel"}, found
    refused(400, "Vector dimension error: expected dim: 4, got 5", lambda: client.upsert(
        "plain", points=[models.PointStruct(id=9, vector=[1, 2, 3, 4, 5])], wait=True))
    refused(400, "Vector dimension error: expected dim: 4, got 2", lambda: client.query_points(
        "plain", query=[1.0, 2.0]))
    refused(400, "Not existing vector name error: no", lambda: client.query_points(
        "plain", query=[1.0, 2.0], using="no"))
    refused(404, "Collection `none` doesn't exist!", lambda: client.query_points("none", query=[1.0]))
    refused(400, "Manhattan", lambda: client.create_collection(
        "other", vectors_config=models.VectorParams(size=4, distance=models.Distance.MANHATTAN)))
    assert client.retrieve("plain", ids=[str(named)])[0].payload == {"id": 5, "payload": {"a": 1}}
    assert client.retrieve("plain", ids=[1], with_vectors=True)[0].vector == [1, 0, 0, 0]
    refused(404, "No point with id 77 found", lambda: client.set_payload(
        "plain", payload={"a": 1}, points=[77], wait=True))


def together(client):
    """Changes of parts of one point at once: none is lost."""
    client.upsert("plain", points=[models.PointStruct(id=50, vector=[0, 0, 0, 1], payload={})], wait=True)
    with ThreadPoolExecutor(8) as pool:
        work = [
            pool.submit(client.set_payload, "plain", {f"key {n}": n}, points=[50], wait=n % 2 == 0)
            for n in range(24)
        ]
        for one in work:
            one.result()
    client.set_payload("plain", {"last": True}, points=[50], wait=True)
    payload = client.retrieve("plain", ids=[50])[0].payload
    assert payload == {**{f"key {n}": n for n in range(24)}, "last": True}, payload
    client.delete("plain", points_selector=[50], wait=True)


def older(url):
    """Routes that older clients use."""

    def post(path, body):
        request = urllib.request.Request(
            f"{url}/collections/plain/points/{path}",
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        answer = json.load(urllib.request.urlopen(request))
        assert answer["status"] == "ok" and answer["time"] >= 0, answer
        return answer["result"]

    found = post("search", {"vector": [1, 0, 0, 0], "limit": 2, "with_payload": True})
    assert [point["id"] for point in found] == [1, 3], found
    found = post("search/batch", {"searches": [{"vector": [0, 0, 1, 0], "limit": 1}]})
    assert [point["id"] for point in found[0]] == [2], found
    found = post("recommend", {"positive": [1], "limit": 1})
    assert [point["id"] for point in found] == [3], found
    one = json.load(urllib.request.urlopen(f"{url}/collections/plain/points/3"))
    assert one["result"]["payload"] == {"n": 3}, one


def hybrid(client):
    """Dense, BM25 and late interaction, all made of texts by the server."""
    client.create_collection(
        "hybrid",
        vectors_config={
            "dense": models.VectorParams(size=64, distance=models.Distance.COSINE),
            "colbert": models.VectorParams(
                size=64,
                distance=models.Distance.COSINE,
                multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
            ),
        },
        sparse_vectors_config={"bm25": models.SparseVectorParams(modifier=models.Modifier.IDF)},
    )
    points = [
        models.PointStruct(
            id=number,
            vector={
                "dense": models.Document(text=text, model=MODEL),
                "colbert": models.Document(text=text, model=MODEL),
                "bm25": models.Document(text=text, model="Qdrant/bm25"),
            },
            payload={"text": text, "even": number % 2 == 0},
        )
        for number, text in TEXTS.items()
    ]
    client.upsert("hybrid", points=points, wait=True)


def ask_hybrid(client):
    legs = [
        models.Prefetch(query=models.Document(text="berth", model=MODEL), using="dense", limit=20),
        models.Prefetch(query=models.Document(text="berths", model="Qdrant/bm25"), using="bm25", limit=20),
    ]
    bm25 = client.query_points(
        "hybrid", query=models.Document(text="a berth", model="Qdrant/bm25"), using="bm25"
    )
    assert ids(bm25) == [3, 1], bm25
    fused = client.query_points("hybrid", prefetch=legs, query=models.FusionQuery(fusion=models.Fusion.RRF))
    assert set(ids(fused)[:2]) == {1, 3} and len(fused.points) == 4, fused
    reranked = client.query_points(
        "hybrid",
        prefetch=legs,
        query=models.Document(text="berth for the ferry", model=MODEL),
        using="colbert",
        limit=2,
    )
    assert ids(reranked)[0] == 1, reranked
    even = models.Filter(must=[models.FieldCondition(key="even", match=models.MatchValue(value=True))])
    filtered = client.query_points(
        "hybrid", query=models.Document(text="berth", model=MODEL), using="dense", query_filter=even
    )
    assert set(ids(filtered)) == {2, 4}, filtered
    refused(404, "99", lambda: client.query_points("hybrid", query=99, using="dense"))
    refused(400, "modifier idf", lambda: client.query_points("hybrid", query=1, using="bm25"))
    refused(400, "is not known", lambda: client.query_points(
        "hybrid", query=models.Document(text="berth", model="no/such-model"), using="dense"))


def aliases(client):
    client.update_collection_aliases([
        models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name="plain", alias_name="current"))
    ])
    assert [a.alias_name for a in client.get_collection_aliases("plain").aliases] == ["current"]


def lists(client):
    names = {collection.name for collection in client.get_collections().collections}
    assert {"plain", "hybrid", "test"} <= names, names
    assert client.collection_exists("plain") and not client.collection_exists("none")
    info = client.get_collection("hybrid")
    assert info.status == models.CollectionStatus.GREEN and info.points_count == 4, info
    assert info.config.params.vectors["dense"].size == 64, info
    assert info.config.params.sparse_vectors["bm25"].modifier == models.Modifier.IDF, info
    assert info.payload_schema["even"].data_type == models.PayloadSchemaType.BOOL, info
    assert ids(client.query_points("current", query=[1.0, 0, 0, 0], limit=1)) == [1]


def counted(url):
    """What each collection counts stands under its name."""
    text = urllib.request.urlopen(f"{url}/metrics").read().decode()
    for name in ("plain", "hybrid"):
        assert f'freshet_documents_applied_total{{collection="{name}"}} ' in text, text
    assert text.count("# TYPE freshet_documents_applied_total ") == 1, text


def own(client):
    """The pipeline of the configuration is a collection, too."""
    client.upsert("test", points=[models.PointStruct(
        id=7, vector={"given": [1, 0, 0, 0]}, payload={"text": "a berth", "stars": 4})], wait=True)
    found = client.query_points("test", query=models.Document(text="berth", model="bm25"), using="bm25")
    assert ids(found) == [7] and found.points[0].payload["stars"] == 4, found
    assert client.retrieve("test", ids=[7])[0].payload["stars"] == 4
    refused(400, "whole points", lambda: client.set_payload("test", payload={"a": 1}, points=[7], wait=True))
    refused(400, "cannot be deleted", lambda: client.delete_collection("test"))


def main(url, again):
    client = QdrantClient(url=url, cloud_inference=True)
    if not again:
        plain(client)
        hybrid(client)
        client.create_payload_index("hybrid", "even", models.PayloadSchemaType.BOOL)
        together(client)
        older(url)
        aliases(client)
        own(client)
    ask_hybrid(client)
    lists(client)
    counted(url)
    if again:
        assert client.count("plain").count == 4
        client.delete_collection("plain")
        assert client.get_aliases().aliases == []
        # What had its name is gone for good.
        client.create_collection(
            "plain", vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT)
        )
        assert client.count("plain").count == 0
        client.upsert("plain", points=[models.PointStruct(id=1, vector=[3, 4])], wait=True)
        assert client.query_points("plain", query=[1.0, 1.0]).points[0].score == 7
        client.delete_collection("plain")
        client.delete_collection("hybrid")


main(sys.argv[1], sys.argv[2:] == ["again"])
