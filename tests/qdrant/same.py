"""The same scenario against Freshet and against the client's own local mode: the same ids, and the same scores.

same.py URL
"""

import random
import sys

from qdrant_client import QdrantClient, models

NAME = "same"
POINTS = 60
TOLERANCE = 1e-4
# Token vectors are held as int8: half a step of 127 in each of their numbers, for every token of the query.
TOKENS_TOLERANCE = 3 * 4 / 254


def sixteenths(rng, size):
    """Numbers that every float holds exactly."""
    vector = [rng.randint(-16, 16) / 16 for _ in range(size)]
    return vector if any(vector) else [1.0] * size


def sparse(rng):
    indices = sorted(rng.sample(range(12), rng.randint(1, 5)))
    return models.SparseVector(indices=indices, values=[rng.randint(1, 32) / 16 for _ in indices])


def fill(client):
    rng = random.Random(7)
    client.create_collection(
        NAME,
        vectors_config={
            "cosine": models.VectorParams(size=4, distance=models.Distance.COSINE),
            "dot": models.VectorParams(size=3, distance=models.Distance.DOT),
            "euclid": models.VectorParams(size=3, distance=models.Distance.EUCLID),
            "tokens": models.VectorParams(
                size=4,
                distance=models.Distance.COSINE,
                multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
            ),
        },
        sparse_vectors_config={
            "plain": models.SparseVectorParams(),
            "idf": models.SparseVectorParams(modifier=models.Modifier.IDF),
        },
    )
    points = []
    for number in range(POINTS):
        vector = {
            "cosine": sixteenths(rng, 4),
            "dot": sixteenths(rng, 3),
            "euclid": sixteenths(rng, 3),
            "plain": sparse(rng),
            "tokens": [sixteenths(rng, 4) for _ in range(rng.randint(1, 4))],
        }
        if number % 5:
            vector["idf"] = sparse(rng)
        payload = {
            "city": rng.choice(["Berlin", "Hamburg", "Kiel"]),
            "stars": rng.randint(1, 5),
            "tags": rng.sample(["quay", "desk", "lamp"], rng.randint(0, 2)),
            "id": "a key of the payload",
            "vectors": {"of": "the payload"},
        }
        points.append(models.PointStruct(id=number * 3 + 2, vector=vector, payload=payload))
    client.upsert(NAME, points, wait=True)


def key(point):
    return (-round(point.score, 4), str(point.id))


def check(what, here, there):
    """Ties may stand in another order; the scores tell which are ties."""
    last = round(there.points[-1].score, 3) if there.points else None
    here, there = sorted(here.points, key=key), sorted(there.points, key=key)
    assert len(here) == len(there), (what, len(here), len(there))
    for one, other in zip(here, there):
        assert abs(one.score - other.score) < TOLERANCE, (what, one, other)
    scores = [round(point.score, 3) for point in there]
    for score in set(scores):
        # The last score may be shared with a point that did not fit.
        if score == last:
            continue
        ids = {point.id for point in here if round(point.score, 3) == score}
        others = {point.id for point in there if round(point.score, 3) == score}
        assert ids == others, (what, score, ids, others)
    payloads = {point.id: point.payload for point in there}
    for point in here:
        if point.id in payloads:
            assert point.payload == payloads[point.id], (what, point)


def queries():
    rng = random.Random(11)
    berlin = models.Filter(must=[models.FieldCondition(key="city", match=models.MatchValue(value="Berlin"))])
    some = models.Filter(
        should=[models.HasIdCondition(has_id=[2, 5, 8, 11]), models.FieldCondition(key="stars", range=models.Range(gte=4))],
        must_not=[models.FieldCondition(key="tags", match=models.MatchAny(any=["desk"]))],
    )
    for number in range(16):
        for using, query in [
            ("cosine", sixteenths(rng, 4)),
            ("dot", sixteenths(rng, 3)),
            ("euclid", sixteenths(rng, 3)),
            ("plain", sparse(rng)),
            ("idf", sparse(rng)),
        ]:
            wanted = [None, berlin, some][number % 3]
            yield f"{using} {number}", dict(query=query, using=using, query_filter=wanted, limit=5 + number)
        legs = [
            models.Prefetch(query=sixteenths(rng, 4), using="cosine", limit=20),
            models.Prefetch(query=sparse(rng), using="idf", limit=15),
        ]
        rrf = models.FusionQuery(fusion=models.Fusion.RRF)
        examples = models.RecommendInput(positive=[2, 5 + 3 * number], negative=[8])
        yield f"average {number}", dict(query=models.RecommendQuery(recommend=examples), using="cosine", limit=6)
        best = models.RecommendInput(positive=[2, 14], negative=[8], strategy=models.RecommendStrategy.BEST_SCORE)
        yield f"best {number}", dict(query=models.RecommendQuery(recommend=best), using="dot", limit=6, query_filter=some)
        yield f"above {number}", dict(query=sixteenths(rng, 4), using="cosine", score_threshold=0.25, limit=50)
        yield f"near {number}", dict(query=sixteenths(rng, 3), using="euclid", score_threshold=1.2, limit=50)
        yield f"by id {number}", dict(query=2 + 3 * number, using="euclid", query_filter=berlin, limit=5)
        yield f"scored again {number}", dict(
            prefetch=models.Prefetch(query=sixteenths(rng, 4), using="cosine", limit=12),
            query=models.FormulaQuery(formula=models.SumExpression(sum=["$score", models.MultExpression(mult=[0.5, "stars"])])),
            limit=12,
        )
        yield f"rescored {number}", dict(prefetch=legs, query=sixteenths(rng, 3), using="dot", limit=7)
        yield f"filtered legs {number}", dict(prefetch=legs, query=rrf, query_filter=berlin, limit=30)


def ties(client, query):
    """Whether a leg of a fusion has ties, which the two order in their own ways."""
    for leg in query.get("prefetch", []) if isinstance(query["query"], models.FusionQuery) else []:
        found = client.query_points(
            NAME, query=leg.query, using=leg.using, limit=leg.limit + 1, query_filter=query.get("query_filter")
        )
        scores = [round(point.score, 5) for point in found.points]
        if len(set(scores)) < len(scores):
            return True
    return False


def tokens(here, there):
    """Late interaction: the same scores but for the rounding of token vectors."""
    rng = random.Random(13)
    for _ in range(10):
        query = dict(query=[sixteenths(rng, 4) for _ in range(3)], using="tokens", limit=POINTS)
        one, other = here.query_points(NAME, **query), there.query_points(NAME, **query)
        scores = {point.id: point.score for point in other.points}
        assert len(one.points) == len(scores) == POINTS
        for point in one.points:
            assert abs(point.score - scores[point.id]) < TOKENS_TOLERANCE, (point, scores[point.id])


def main(url):
    here, there = QdrantClient(url=url), QdrantClient(":memory:")
    for client in (here, there):
        fill(client)
    count, fused = 0, 0
    for what, query in queries():
        if ties(there, query):
            continue
        fused += isinstance(query["query"], models.FusionQuery)
        exact = models.SearchParams(exact=True)
        if "prefetch" not in query:
            query["search_params"] = exact
        query["with_payload"] = [True, ["city", "vectors.of"], models.PayloadSelectorExclude(exclude=["tags"])][count % 3]
        check(what, here.query_points(NAME, **query), there.query_points(NAME, **query))
        count += 1
    tokens(here, there)
    assert fused > 1, "all fusions have ties"
    print(f"{count} queries, the same answers")
    for function in (read, changed):
        for client in (here, there):
            result = function(client)
            if client is here:
                expected = result
        assert expected == result, (function.__name__, expected, result)
    here.delete_collection(NAME)
    assert not here.collection_exists(NAME)


def shown(records):
    return [(record.id, record.payload, record.vector and sorted(record.vector)) for record in records]


def read(client):
    """What reads points without a score."""
    result = [client.count(NAME).count]
    berlin = models.Filter(must=[models.FieldCondition(key="city", match=models.MatchValue(value="Berlin"))])
    result.append(client.count(NAME, count_filter=berlin).count)
    result.append(shown(client.retrieve(NAME, ids=[5, 2, 999], with_vectors=True)))
    offset, pages = None, []
    while True:
        records, offset = client.scroll(NAME, limit=17, offset=offset, with_payload=["city"])
        pages.append(shown(records))
        if offset is None:
            break
    result.append(pages)
    groups = client.query_points_groups(
        NAME, query=[1.0, 0.5, 0.25], using="dot", group_by="city", limit=3, group_size=2
    )
    result.append([(group.id, [(hit.id, round(hit.score, 4)) for hit in group.hits]) for group in groups.groups])
    page = client.query_points(NAME, query=[1.0, 0.5, 0.25], using="dot", limit=5, offset=3)
    result.append([(point.id, round(point.score, 4)) for point in page.points])
    listed = client.query_points(NAME, limit=4)
    result.append([point.id for point in listed.points])
    by_stars, _ = client.scroll(NAME, limit=300, order_by=models.OrderBy(key="stars", direction=models.Direction.DESC))
    # Equal values stand in another order.
    result.append([record.payload["stars"] for record in by_stars])
    many = client.query_batch_points(NAME, requests=[
        models.QueryRequest(query=[1.0, 0.5, 0.25], using="dot", limit=2, with_vector=["dot"]),
        models.QueryRequest(query=[0.25, 0.5, 1.0], using="euclid", limit=2),
    ])
    result.append([[(p.id, round(p.score, 4), p.vector and sorted(p.vector)) for p in one.points] for one in many])
    by_id = client.query_points(NAME, query=5, using="dot", limit=4)
    result.append([(point.id, round(point.score, 4)) for point in by_id.points])
    return result


def changed(client):
    """Changes, each of which sees those before it."""
    kiel = models.Filter(must=[models.FieldCondition(key="city", match=models.MatchValue(value="Kiel"))])
    client.set_payload(NAME, payload={"seen": True, "stars": 9}, points=[2, 5], wait=True)
    client.set_payload(NAME, payload={"deep": 1}, points=[5], key="vectors", wait=True)
    client.delete_payload(NAME, keys=["city", "vectors.of"], points=[5], wait=True)
    client.overwrite_payload(NAME, payload={"only": "this"}, points=[8], wait=True)
    client.clear_payload(NAME, points_selector=models.PointIdsList(points=[11]), wait=True)
    client.update_vectors(
        NAME, points=[models.PointVectors(id=14, vector={"dot": [0.5, 0.25, 1.0]})], wait=True
    )
    client.delete_vectors(NAME, vectors=["idf"], points=[14], wait=True)
    client.delete(NAME, points_selector=models.FilterSelector(filter=kiel), wait=True)
    client.delete(NAME, points_selector=[17], wait=True)
    client.batch_update_points(
        NAME,
        update_operations=[
            models.SetPayloadOperation(
                set_payload=models.SetPayload(payload={"batch": 1}, points=[8])
            ),
            models.DeleteOperation(delete=models.PointIdsList(points=[20])),
        ],
        wait=True,
    )
    records, _ = client.scroll(NAME, limit=200, with_vectors=True)
    return [
        (record.id, record.payload, sorted(record.vector), [round(x, 5) for x in record.vector["dot"]])
        for record in records
    ]


main(sys.argv[1])
