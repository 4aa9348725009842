// Dense rows on FAISS, behind a C interface: what FAISS' own C API lacks (search parameters of HNSW and IVF together
// with a selector, the storage inside an HNSW index, indexes in memory), and no C++ exception gets out.
#include <faiss/Index.h>
#include <faiss/IndexFlat.h>
#include <faiss/IndexHNSW.h>
#include <faiss/IndexIVF.h>
#include <faiss/IndexPreTransform.h>
#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/DistanceComputer.h>
#include <faiss/impl/IDSelector.h>
#include <faiss/impl/ResultHandler.h>
#include <faiss/impl/io.h>
#include <faiss/index_factory.h>
#include <faiss/index_io.h>
#include <faiss/utils/distances.h>

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>

namespace {

// Invariants: `flat` is the one copy of the vectors: `own`, or the storage inside `near` if that is an HNSW graph over
// plain vectors. `near` knows no rows, or those of `flat`.
struct Rows {
    std::unique_ptr<faiss::Index> near;
    std::unique_ptr<faiss::IndexFlat> own;
    faiss::IndexFlat* flat = nullptr;

    void settle() {
        auto* graph = dynamic_cast<faiss::IndexHNSW*>(near.get());
        auto* inner = graph ? dynamic_cast<faiss::IndexFlat*>(graph->storage) : nullptr;
        flat = inner ? inner : own.get();
    }
    bool shares() const { return near && flat != own.get(); }
};

template <class Body>
int guarded(char* error, size_t room, Body body) {
    const char* what = "unknown C++ exception";
    try {
        body();
        return 0;
    } catch (const std::exception& e) {
        what = e.what();
        std::strncpy(error, what, room - 1);
    } catch (...) {
        std::strncpy(error, what, room - 1);
    }
    error[room - 1] = 0;
    return -1;
}

struct Slice : faiss::IOReader {
    const uint8_t* at;
    size_t left;
    Slice(const uint8_t* at, size_t left) : at(at), left(left) {}
    size_t operator()(void* to, size_t size, size_t items) override {
        if (size == 0) return 0;
        items = std::min(items, left / size);
        std::memcpy(to, at, items * size);
        at += items * size;
        left -= items * size;
        return items;
    }
};

// Stands for the storage of a graph that holds all rows before the graph is made: what is added is there already.
struct Stored : faiss::Index {
    const faiss::IndexFlat& rows;
    explicit Stored(const faiss::IndexFlat& rows) : Index(rows.d, rows.metric_type), rows(rows) {
        ntotal = rows.ntotal;
    }
    void add(faiss::idx_t, const float*) override {}
    void reset() override {}
    void search(faiss::idx_t n, const float* probes, faiss::idx_t k, float* distances, faiss::idx_t* labels,
                const faiss::SearchParameters* params) const override {
        rows.search(n, probes, k, distances, labels, params);
    }
    faiss::DistanceComputer* get_distance_computer() const override { return rows.get_distance_computer(); }
};

// Puts another storage into a graph, and the former one back.
struct Lent {
    faiss::IndexHNSW& graph;
    faiss::Index* kept;
    Lent(faiss::IndexHNSW& graph, faiss::Index* other) : graph(graph), kept(graph.storage) { graph.storage = other; }
    ~Lent() { graph.storage = kept; }
};

// Which rows a search has seen, kept per thread: to make it for each search would cost a share of that.
faiss::VisitedTable& seen(size_t rows) {
    thread_local std::unique_ptr<faiss::VisitedTable> table;
    if (!table || table->visited.size() < rows) table = std::make_unique<faiss::VisitedTable>(static_cast<int>(rows));
    // A search that ended with an exception has left its marks.
    table->advance();
    return *table;
}

// The nearest rows by a graph, as `IndexHNSW::search` finds them for one probe; less is nearer.
void walk(const faiss::IndexHNSW& graph, const float* probe, int64_t k, const faiss::SearchParametersHNSW& params,
          float* distances, int64_t* labels) {
    std::unique_ptr<faiss::DistanceComputer> distance(graph.storage->get_distance_computer());
    if (faiss::is_similarity_metric(graph.metric_type)) {
        distance = std::make_unique<faiss::NegativeDistanceComputer>(distance.release());
    }
    distance->set_query(probe);
    using Results = faiss::HeapBlockResultHandler<faiss::HNSW::C>;
    Results results(1, distances, labels, static_cast<size_t>(k));
    Results::SingleResultHandler result(results);
    result.begin(0);
    graph.hnsw.search(*distance, result, seen(static_cast<size_t>(graph.ntotal)), &params);
    result.end();
}

constexpr uint8_t HAS_OWN = 1, HAS_NEAR = 2, HAS_LINKS = 4;
// Bytes that a large page has.
constexpr uintptr_t LARGE_PAGE = uintptr_t{2} << 20;
// Of vectors that are about to come; more may, or fewer.
constexpr size_t ROOM_MAX = size_t{1} << 32;

}  // namespace

extern "C" {

// Rows without any; `factory`: of the approximate index, or null.
int freshet_rows_new(Rows** out, int64_t dim, int euclid, const char* factory, char* error, size_t room) {
    return guarded(error, room, [&] {
        auto metric = euclid ? faiss::METRIC_L2 : faiss::METRIC_INNER_PRODUCT;
        auto rows = std::make_unique<Rows>();
        if (factory) {
            rows->near.reset(faiss::index_factory(static_cast<int>(dim), factory, metric));
        }
        rows->settle();
        if (!rows->flat) {
            rows->own = std::make_unique<faiss::IndexFlat>(dim, metric);
            rows->settle();
        }
        *out = rows.release();
    });
}

void freshet_rows_free(Rows* rows) { delete rows; }

// Adds rows; an approximate index gets them with `freshet_rows_build`.
int freshet_rows_add(Rows* rows, int64_t n, const float* vectors, char* error, size_t room) {
    return guarded(error, room, [&] {
        // As `IndexFlat::add` does, which writes zeros first: a code is the vector itself.
        auto& codes = rows->flat->codes;
        auto* from = reinterpret_cast<const uint8_t*>(vectors);
        codes.owned_data.insert(codes.owned_data.end(), from, from + n * rows->flat->code_size);
        codes.resize(codes.owned_data.size());
        rows->flat->ntotal += n;
    });
}

// Makes the approximate index of all rows, at once: a graph gets its upper levels first and the rest in random order, and
// one that is made in pieces finds less for the same work.
int freshet_rows_build(Rows* rows, int ef, char* error, size_t room) {
    return guarded(error, room, [&] {
        if (!rows->near) return;
        const float* vectors = rows->flat->get_xb();
        if (!rows->near->is_trained) rows->near->train(rows->flat->ntotal, vectors);
        auto* outer = dynamic_cast<faiss::IndexPreTransform*>(rows->near.get());
        auto* graph = dynamic_cast<faiss::IndexHNSW*>(outer ? outer->index : rows->near.get());
        if (graph) graph->hnsw.efConstruction = ef;
        if (rows->shares()) {
            Stored stored(*rows->flat);
            Lent lent(*graph, &stored);
            graph->add(rows->flat->ntotal, vectors);
        } else {
            rows->near->add(rows->flat->ntotal, vectors);
        }
    });
}

const float* freshet_rows_data(const Rows* rows) { return rows->flat->get_xb(); }
int64_t freshet_rows_len(const Rows* rows) { return rows->flat->ntotal; }

// The `k` nearest rows with their distances, −1 where there is none; `bits`: those that may be found, or null for all.
int freshet_rows_scan(const Rows* rows, const float* probe, int64_t k, const uint8_t* bits, size_t bytes,
                      float* distances, int64_t* labels, char* error, size_t room) {
    return guarded(error, room, [&] {
        faiss::IDSelectorBitmap allowed(bytes, bits);
        faiss::SearchParameters params;
        params.sel = bits ? &allowed : nullptr;
        rows->flat->search(1, probe, k, distances, labels, &params);
    });
}

// About the `k` nearest rows by the approximate index, with `ef` and `nprobe`; as `freshet_rows_scan`, except that the
// distances are of no use.
int freshet_rows_near(const Rows* rows, const float* probe, int64_t k, const uint8_t* bits, size_t bytes, int ef,
                      int64_t nprobe, float* distances, int64_t* labels, char* error, size_t room) {
    return guarded(error, room, [&] {
        faiss::IDSelectorBitmap allowed(bytes, bits);
        const faiss::Index* index = rows->near.get();
        std::unique_ptr<const float[]> transformed;
        if (const auto* outer = dynamic_cast<const faiss::IndexPreTransform*>(index)) {
            const float* to = outer->apply_chain(1, probe);
            if (to != probe) transformed.reset(to);
            probe = to;
            index = outer->index;
        }
        if (const auto* graph = dynamic_cast<const faiss::IndexHNSW*>(index)) {
            faiss::SearchParametersHNSW params;
            params.sel = bits ? &allowed : nullptr;
            params.efSearch = ef;
            walk(*graph, probe, k, params, distances, labels);
        } else {
            faiss::SearchParametersIVF params;
            params.sel = bits ? &allowed : nullptr;
            params.nprobe = static_cast<size_t>(nprobe);
            index->search(1, probe, k, distances, labels, &params);
        }
    });
}

// Inner products or squared distances of given rows, with the same kernel that scans of all rows use.
void freshet_rows_compare(const Rows* rows, const float* probe, size_t n, const uint32_t* which, float* to) {
    size_t dim = rows->flat->d;
    const float* data = rows->flat->get_xb();
    bool euclid = rows->flat->metric_type == faiss::METRIC_L2;
    // Rows lie apart: the next ones are fetched while one is computed.
    constexpr size_t AHEAD = 4, LINE = 16;
    for (size_t i = 0; i < n; i++) {
        if (i + AHEAD < n) {
            const float* next = data + which[i + AHEAD] * dim;
            for (size_t at = 0; at < dim; at += LINE) __builtin_prefetch(next + at);
        }
        const float* row = data + which[i] * dim;
        to[i] = euclid ? faiss::fvec_L2sqr(probe, row, dim) : faiss::fvec_inner_product(probe, row, dim);
    }
}

// Makes room for so many more rows, so that they need not be moved while they come.
int freshet_rows_reserve(Rows* rows, size_t n, char* error, size_t room) {
    return guarded(error, room, [&] {
        auto& codes = rows->flat->codes;
        codes.owned_data.reserve(std::min(ROOM_MAX, codes.size() + n * rows->flat->code_size));
        codes.resize(codes.size());
        // Large pages, where the machine has them to give: filling small ones takes as long as copying what fills them.
        auto begin = reinterpret_cast<uintptr_t>(codes.data()), end = begin + codes.owned_data.capacity();
        begin = (begin + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE;
        if (begin + LARGE_PAGE <= end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
    });
}

// The approximate index as bytes, to be freed with `freshet_bytes_free`; of a graph that shares its vectors the links.
int freshet_rows_write(const Rows* rows, faiss::VectorIOWriter** out, const uint8_t** data, size_t* len, char* error,
                       size_t room) {
    return guarded(error, room, [&] {
        if (!rows->near) throw std::runtime_error("no approximate index");
        auto writer = std::make_unique<faiss::VectorIOWriter>();
        uint8_t parts = rows->shares() ? HAS_LINKS : HAS_NEAR;
        (*writer)(&parts, 1, 1);
        faiss::write_index(rows->near.get(), writer.get(), rows->shares() ? faiss::IO_FLAG_SKIP_STORAGE : 0);
        *data = writer->data.data();
        *len = writer->data.size();
        *out = writer.release();
    });
}

// Gives rows without one the approximate index that was written of them.
int freshet_rows_attach(Rows* rows, const uint8_t* data, size_t len, char* error, size_t room) {
    return guarded(error, room, [&] {
        Slice reader(data, len);
        uint8_t parts = 0;
        if (!rows->own || reader(&parts, 1, 1) != 1) throw std::runtime_error("no bytes, or an index is there");
        std::unique_ptr<faiss::Index> near(faiss::read_index(&reader));
        bool fits = near && near->d == rows->own->d && near->metric_type == rows->own->metric_type;
        if (!fits || near->ntotal != rows->own->ntotal) throw std::runtime_error("an index of other rows");
        auto* graph = dynamic_cast<faiss::IndexHNSW*>(near.get());
        bool links = graph && !graph->storage;
        if (reader.left || links != (parts == HAS_LINKS)) throw std::runtime_error("too many bytes, or too few");
        if (links) {
            graph->storage = rows->own.release();
            graph->own_fields = true;
        }
        rows->near = std::move(near);
        rows->settle();
    });
}

void freshet_bytes_free(faiss::VectorIOWriter* bytes) { delete bytes; }

// Reads rows with their index, as earlier versions wrote them; `dim` and `euclid` must be those of the field.
int freshet_rows_read(Rows** out, int64_t dim, int euclid, const uint8_t* data, size_t len, char* error, size_t room) {
    return guarded(error, room, [&] {
        auto metric = euclid ? faiss::METRIC_L2 : faiss::METRIC_INNER_PRODUCT;
        Slice reader(data, len);
        uint8_t parts = 0;
        if (reader(&parts, 1, 1) != 1) throw std::runtime_error("no bytes");
        auto rows = std::make_unique<Rows>();
        if (parts & HAS_OWN) {
            std::unique_ptr<faiss::Index> read(faiss::read_index(&reader));
            if (!dynamic_cast<faiss::IndexFlat*>(read.get())) throw std::runtime_error("rows are not flat");
            rows->own.reset(static_cast<faiss::IndexFlat*>(read.release()));
        }
        if (parts & HAS_NEAR) rows->near.reset(faiss::read_index(&reader));
        rows->settle();
        if (!rows->flat || reader.left) throw std::runtime_error("rows are missing, or too many bytes");
        bool fits = rows->flat->d == dim && rows->flat->metric_type == metric;
        bool whole = !rows->near || (rows->near->d == dim && rows->near->ntotal == rows->flat->ntotal);
        if (!fits || !whole) throw std::runtime_error("rows of another field");
        *out = rows.release();
    });
}

}  // extern "C"
