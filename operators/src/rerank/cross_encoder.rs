//! Cross-encoders: models of the embedding service that read a query and a text together.

use std::sync::Arc;

use super::{RerankJob, Reranker};
use crate::embed::{EmbedJob, Embedding, EmbeddingService, Priority, Wants};

/// A cross-encoder of the embedding service, where the texts of all queries share batches.
pub struct CrossEncoder {
    service: Arc<EmbeddingService>,
    model: usize,
}

impl CrossEncoder {
    /// The model of this number.
    pub fn new(service: Arc<EmbeddingService>, model: usize) -> Self {
        Self { service, model }
    }
}

impl Reranker for CrossEncoder {
    fn submit(&self, job: RerankJob) -> Result<(), RerankJob> {
        let RerankJob { query, texts, deadline, reply } = job;
        // The service gives back what it does not take, and the reply is needed for that, too.
        let reply = Arc::new(std::sync::Mutex::new(Some(reply)));
        let kept = Arc::clone(&reply);
        let take = move |reply: &std::sync::Mutex<Option<super::ScoresReply>>| {
            reply.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
        };
        let taken = self.service.submit(EmbedJob {
            model: self.model,
            priority: Priority::Query,
            wants: Wants::Dense,
            against: Some(Arc::clone(&query)),
            texts,
            reply: Box::new(move |results| {
                if let Some(reply) = take(&kept) {
                    reply(scores(results));
                }
            }),
        });
        taken.map_err(|job| RerankJob {
            query,
            texts: job.texts,
            deadline,
            reply: take(&reply).unwrap_or_else(|| Box::new(|_| {})),
        })
    }
}

/// One text that cannot be scored leaves the query in the order before: a hole in the ranking would be an untruth.
fn scores(results: Vec<Result<Embedding, String>>) -> Result<Vec<f64>, String> {
    let score = |result: Result<Embedding, String>| {
        result?.score.map(f64::from).ok_or_else(|| "the model gives no scores".to_owned())
    };
    results.into_iter().map(score).collect()
}
