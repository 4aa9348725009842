//! The request and the answer of Cohere's and Jina's `/rerank`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::http::Protocol;

/// Services that score all texts of a request.
pub(super) struct Remote {
    /// What the service calls the model.
    pub(super) model: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Scored>,
}

#[derive(Deserialize)]
struct Scored {
    index: usize,
    relevance_score: f64,
}

impl Protocol for Remote {
    fn request(&self, query: &str, texts: &[String]) -> Value {
        let mut request =
            json!({"query": query, "documents": texts, "top_n": texts.len(), "return_documents": false});
        if let Some(model) = &self.model {
            request["model"] = json!(model);
        }
        request
    }

    /// Every text has exactly one score; in any order.
    fn scores(&self, answer: &[u8], texts: usize) -> Result<Vec<f64>, String> {
        let answer: Answer = serde_json::from_slice(answer)
            .map_err(|error| format!("its answer is no list of results: {error}"))?;
        let mut scores: Vec<Option<f64>> = vec![None; texts];
        for Scored { index, relevance_score } in answer.results {
            let Some(place) = scores.get_mut(index) else {
                return Err(format!("it scored text {index} of {texts}"));
            };
            if place.replace(relevance_score).is_some() {
                return Err(format!("it scored text {index} twice"));
            }
        }
        let missing = scores.iter().position(Option::is_none);
        missing.map_or_else(
            || Ok(scores.into_iter().flatten().collect()),
            |index| Err(format!("it did not score text {index} of {texts}")),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_are_those_of_the_services() {
        let remote = Remote { model: Some("rerank-v3.5".into()) };
        assert_eq!(
            remote.request("a", &["b".into(), "c".into()]),
            json!({"model": "rerank-v3.5", "query": "a", "documents": ["b", "c"], "top_n": 2,
                "return_documents": false})
        );
        let answer = json!({"id": "x", "results": [
            {"index": 1, "relevance_score": 0.9, "document": {"text": "c"}}, {"index": 0, "relevance_score": 0.1}]});
        assert_eq!(remote.scores(answer.to_string().as_bytes(), 2), Ok(vec![0.1, 0.9]));
    }

    #[test]
    fn answers_that_leave_something_open_are_refused() {
        let remote = Remote { model: None };
        let refused = |answer: &str| remote.scores(answer.as_bytes(), 2).expect_err("refused");
        let scored = |index: usize| format!(r#"{{"index": {index}, "relevance_score": 1}}"#);
        let list = |items: &[String]| format!(r#"{{"results": [{}]}}"#, items.join(","));
        assert_eq!(refused(&list(&[scored(0)])), "it did not score text 1 of 2");
        assert_eq!(refused(&list(&[scored(0), scored(0)])), "it scored text 0 twice");
        assert_eq!(refused(&list(&[scored(0), scored(2)])), "it scored text 2 of 2");
        assert!(refused("<html>").starts_with("its answer is no list of results"));
        assert!(refused(r#"{"results": [{"index": 0, "relevance_score": "NaN"}]}"#).contains("results"));
    }
}
