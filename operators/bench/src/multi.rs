//! MaxSim against the limits of the machine, and against BLAS.

use std::ffi::c_int;
use std::hint::black_box;
use std::time::Duration;

use freshet_operators::index::multi::TokenRows;
use freshet_operators::index::multi::maxsim::{Kernel, Query, Tokens};
use freshet_operators::index::rows::{Pick, Row as RowNumber, RowIndex, RowSet, Search};
use freshet_operators::index::{FieldSpec, Metric, Probe, Scoring, TokenCoding, TokenMatrix};
use freshet_schemas::{Params, VectorKind};

use crate::data::Random;
use crate::report::{Report, Row, timed};

unsafe extern "C" {
    /// OpenBLAS, which FAISS is linked with: `C = alpha · A · Bᵀ + beta · C`, row-major.
    #[allow(clippy::too_many_arguments, reason = "the interface of BLAS")]
    fn cblas_sgemm(
        order: c_int,
        trans_a: c_int,
        trans_b: c_int,
        m: c_int,
        n: c_int,
        k: c_int,
        alpha: f32,
        a: *const f32,
        lda: c_int,
        b: *const f32,
        ldb: c_int,
        beta: f32,
        c: *mut f32,
        ldc: c_int,
    );
}

const QUERY_TOKENS: usize = 32;
const ROUNDS: usize = 15;

/// Measures.
pub(crate) fn run(report: &mut Report) {
    for dim in [128, 384] {
        rerank(report, dim);
    }
    first_stage(report);
    coded(report);
}

fn unit(dim: usize, random: &mut Random) -> Vec<f32> {
    let vector: Vec<f32> = (0..dim).map(|_| random.normal() as f32).collect();
    let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.into_iter().map(|value| value / norm).collect()
}

#[allow(clippy::cast_possible_truncation, reason = "rounded to ±127")]
fn quantised(rows: &[Vec<f32>], dim: usize) -> TokenMatrix {
    let mut matrix = TokenMatrix { dim, ..TokenMatrix::default() };
    for row in rows {
        let scale = row.iter().fold(0f32, |largest, value| largest.max(value.abs())) / 127.0;
        matrix.codes.extend(row.iter().map(|value| (value / scale).round() as i8));
        matrix.scales.push(scale);
    }
    matrix
}

fn best_of(mut work: impl FnMut()) -> Duration {
    (0..ROUNDS).map(|_| timed(&mut work)).min().unwrap_or_default()
}

/// 1,000 documents of 128 tokens.
fn rerank(report: &mut Report, dim: usize) {
    let (documents, tokens) = (report.scaled(1000), 128);
    let mut random = Random::new(11);
    let query: Vec<Vec<f32>> = (0..QUERY_TOKENS).map(|_| unit(dim, &mut random)).collect();
    let rows: Vec<Vec<f32>> = (0..documents * tokens).map(|_| unit(dim, &mut random)).collect();
    let matrix = quantised(&rows, dim);
    let floats: Vec<f32> = rows.concat();
    let all = |kernel: Kernel| {
        let query = Query::new(&query, dim);
        let documents = matrix.codes.chunks(tokens * dim).zip(matrix.scales.chunks(tokens));
        documents
            .filter_map(|(codes, scales)| query.max_sim_by(kernel, Tokens { codes, scales }))
            .sum::<f64>()
    };
    let what = format!("MaxSim, {QUERY_TOKENS} query tokens × {documents} documents of {tokens} × {dim}");
    let times: Vec<(Kernel, Duration)> = Kernel::all()
        .into_iter()
        .map(|kernel| {
            (
                kernel,
                best_of(|| {
                    black_box(all(kernel));
                }),
            )
        })
        .collect();
    let ours = best_of(|| {
        black_box(all(Kernel::best()));
    });
    let memory = best_of(|| {
        black_box(streamed(&matrix.codes));
    });
    let products = documents * tokens * dim * QUERY_TOKENS;
    let arithmetic = products_limit(products);
    let limit = memory.max(arithmetic);
    let note = format!(
        "value and reference are 1/s of the whole; memory {:.2} ms, arithmetic {:.2} ms; kernels {}",
        memory.as_secs_f64() * 1e3,
        arithmetic.as_secs_f64() * 1e3,
        times
            .iter()
            .map(|(kernel, time)| format!("{kernel:?} {:.2} ms", time.as_secs_f64() * 1e3))
            .collect::<Vec<_>>()
            .join(", ")
    );
    let row = |reference: Duration, name, bar, note: &str| Row {
        group: "multi",
        what: what.clone(),
        value: 1.0 / ours.as_secs_f64(),
        unit: "/s",
        reference: Some((1.0 / reference.as_secs_f64(), name)),
        bar: Some(bar),
        note: note.to_owned(),
    };
    report.add(row(limit, "limit of the machine by a plain loop", 0.67, &note));
    let flat: Vec<f32> = query.concat();
    let mut products = vec![0f32; QUERY_TOKENS * tokens];
    let blas = best_of(|| {
        black_box(blas(&flat, &floats, dim, tokens, &mut products));
    });
    report.add(row(blas, "f32 by OpenBLAS, document by document", 4.0, "sgemm, then maxima and their sum"));
}

/// Reads bytes as fast as they come.
fn streamed(codes: &[i8]) -> u64 {
    let words = codes.as_chunks::<64>().0;
    let mut sums = [0u64; 8];
    for word in words {
        for (sum, part) in sums.iter_mut().zip(word.as_chunks::<8>().0) {
            *sum ^= u64::from_le_bytes(part.map(|code| code.cast_unsigned()));
        }
    }
    sums.iter().sum()
}

/// How long so many products of bytes take in registers, with the widest instruction that the machine has for them.
fn products_limit(products: usize) -> Duration {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vnni") {
        // SAFETY: the machine has them.
        return best_of(|| {
            black_box(unsafe { vnni(products / 64) });
        });
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the machine has it.
        return best_of(|| {
            black_box(unsafe { madd(products / 16) });
        });
    }
    best_of(|| _ = black_box((0..products as u64).fold(1u64, |sum, n| sum.wrapping_add(n * n))))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn vnni(times: usize) -> i32 {
    use std::arch::x86_64::{
        _mm512_add_epi32, _mm512_dpbusd_epi32, _mm512_reduce_add_epi32, _mm512_set1_epi8,
    };
    let (a, b) = (black_box(_mm512_set1_epi8(3)), black_box(_mm512_set1_epi8(5)));
    let mut sums = [_mm512_set1_epi8(0); 16];
    for _ in 0..times / 16 {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, a, b);
        }
    }
    _mm512_reduce_add_epi32(sums.into_iter().fold(a, |all, sum| _mm512_add_epi32(all, sum)))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn madd(times: usize) -> i32 {
    use std::arch::x86_64::{
        _mm256_add_epi32, _mm256_extract_epi32, _mm256_madd_epi16, _mm256_set1_epi16, _mm256_xor_si256,
    };
    let a = black_box(_mm256_set1_epi16(3));
    let mut sums = [_mm256_set1_epi16(0); 8];
    for _ in 0..times / 8 {
        for sum in &mut sums {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_xor_si256(*sum, a), a));
        }
    }
    _mm256_extract_epi32::<0>(sums.into_iter().fold(a, |all, sum| _mm256_add_epi32(all, sum)))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "small sizes")]
fn blas(query: &[f32], documents: &[f32], dim: usize, tokens: usize, products: &mut [f32]) -> f64 {
    /// Row-major, as they are, transposed.
    const LAYOUT: (c_int, c_int, c_int) = (101, 111, 112);
    let (m, n, k) = (QUERY_TOKENS as c_int, tokens as c_int, dim as c_int);
    let mut sum = 0.0;
    for document in documents.chunks_exact(tokens * dim) {
        // SAFETY: query is [m, k], document [n, k], products [m, n].
        unsafe {
            let (a, b, c) = (query.as_ptr(), document.as_ptr(), products.as_mut_ptr());
            cblas_sgemm(LAYOUT.0, LAYOUT.1, LAYOUT.2, m, n, k, 1.0, a, k, b, k, 0.0, c, n);
        }
        let best = |row: &[f32]| row.iter().fold(f32::MIN, |best, dot| if *dot > best { *dot } else { best });
        sum += products.chunks_exact(tokens).map(|row| f64::from(best(row))).sum::<f64>();
    }
    sum
}

fn spec(dim: usize, coding: TokenCoding) -> FieldSpec {
    FieldSpec {
        name: "colbert".into(),
        kind: VectorKind::Multi,
        size: dim,
        scoring: Scoring::Dot,
        metric: Metric::Dot,
        factory: String::new(),
        coding,
    }
}

/// A search over all of 100,000 documents of 64 tokens.
fn first_stage(report: &mut Report) {
    let (documents, tokens, dim) = (report.scaled(100_000), 64, 128);
    let mut random = Random::new(12);
    let spec = spec(dim, TokenCoding::Int8);
    let mut head = TokenRows::head(&spec).expect("a field");
    for _ in 0..documents {
        #[allow(clippy::cast_possible_truncation, reason = "a byte")]
        let codes = (0..tokens * dim).map(|_| ((random.bits() % 255) as i16 - 127) as i8).collect();
        head.push(&TokenMatrix { dim, codes, scales: vec![1.0 / 830.0; tokens] })
            .expect("a matrix that fits");
    }
    let picks: Vec<Pick> = (0..documents as RowNumber).map(|row| Pick { from: 0, row }).collect();
    let sealed = TokenRows::seal(&spec, &[&head], &picks).expect("a sealed index");
    drop(head);
    let probe = Probe::Multi((0..QUERY_TOKENS).map(|_| unit(dim, &mut random)).collect());
    let visible = RowSet::all(documents);
    let params = Params::default();
    let search =
        Search { probe: &probe, visible: &visible, want: 10, above: f64::NEG_INFINITY, params: &params };
    let time = (0..3).map(|_| timed(|| drop(black_box(sealed.search(&search))))).min().unwrap_or_default();
    let bytes = documents * tokens * dim;
    report.add(Row {
        group: "multi",
        what: format!("first stage: all of {documents} documents × {tokens} tokens × {dim}"),
        value: 1.0 / time.as_secs_f64(),
        unit: "queries/s",
        reference: None,
        bar: None,
        note: format!(
            "{:.1} GB/s of codes; {:.0} bytes per token",
            bytes as f64 / time.as_secs_f64() / 1e9,
            sealed.bytes() as f64 / (documents * tokens) as f64
        ),
    });
}

/// A scan of 1,000 documents of 128 tokens as int8, and coded.
fn coded(report: &mut Report) {
    let (documents, tokens, dim) = (report.scaled(1000), 128, 384);
    let mut random = Random::new(13);
    let centres: Vec<Vec<f32>> = (0..1000).map(|_| unit(dim, &mut random)).collect();
    let mut token = || {
        let centre = &centres[random.bits() as usize % centres.len()];
        let noise = unit(dim, &mut random);
        centre.iter().zip(noise).map(|(centre, noise)| centre + 0.6 * noise).collect::<Vec<f32>>()
    };
    let matrices: Vec<TokenMatrix> =
        (0..documents).map(|_| quantised(&(0..tokens).map(|_| token()).collect::<Vec<_>>(), dim)).collect();
    let probe = Probe::Multi((0..QUERY_TOKENS).map(|_| token()).collect());
    let visible = RowSet::all(documents);
    let picks: Vec<Pick> = (0..documents as RowNumber).map(|row| Pick { from: 0, row }).collect();
    let measure = |coding| {
        let spec = spec(dim, coding);
        let mut head = TokenRows::head(&spec).expect("a field");
        matrices.iter().for_each(|matrix| head.push(matrix).expect("a matrix that fits"));
        let mut sealed = None;
        let seal = timed(|| sealed = TokenRows::seal(&spec, &[&head], &picks).ok());
        let sealed = sealed.expect("a sealed index");
        (best_of(|| drop(black_box(sealed.scan(&probe, &visible)))), seal, sealed.bytes())
    };
    let (plain, _, plain_bytes) = measure(TokenCoding::Int8);
    let (coded, seal, coded_bytes) = measure(TokenCoding::Residual);
    let all = documents * tokens;
    report.add(Row {
        group: "multi",
        what: format!("residual coding: scan of {documents} documents of {tokens} × {dim}"),
        value: 1.0 / coded.as_secs_f64(),
        unit: "/s",
        reference: Some((1.0 / plain.as_secs_f64(), "the same as int8")),
        bar: None,
        note: format!(
            "{:.1} bytes per token with the codebook, int8 {:.1}; codebook made and {all} tokens coded in {:.1} s",
            coded_bytes as f64 / all as f64,
            plain_bytes as f64 / all as f64,
            seal.as_secs_f64()
        ),
    });
}
