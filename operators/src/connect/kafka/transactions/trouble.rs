//! What keeps a transaction from being written, and how long it is worked at.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};

use super::super::clients::code_of;
use super::{Batch, LOOK};

/// Why an attempt came to nothing; the transaction is still open.
pub(super) enum Trouble {
    /// Records that will never be written as they are, with the reasons.
    Refused(Vec<(usize, String)>),
    /// Worth another attempt.
    Again(KafkaError),
    /// Nothing can be written with this producer any more.
    Fatal(KafkaError),
    /// Nobody waits any more.
    Closed,
}

impl Trouble {
    /// The producer comes to no end.
    const STUCK: Self = Self::Fatal(KafkaError::Global(Code::OperationTimedOut));
}

/// How long a producer is worked with.
#[derive(Clone, Copy)]
pub(super) struct Patience<'a> {
    /// Waits, and returns whether to go on.
    pub(super) pause: &'a dyn Fn(Duration) -> bool,
    pub(super) end: Instant,
}

impl Patience<'_> {
    /// Waits; an error where there is no patience left.
    pub(super) fn pause(self, time: Duration) -> Result<(), Trouble> {
        if !(self.pause)(time) {
            return Err(Trouble::Closed);
        }
        if Instant::now() < self.end { Ok(()) } else { Err(Trouble::STUCK) }
    }
}

/// Calls until there is an answer that stays.
pub(super) fn repeat(patience: Patience<'_>, call: impl Fn() -> Result<(), Trouble>) -> Result<(), Trouble> {
    loop {
        match call() {
            Err(Trouble::Again(KafkaError::Transaction(error))) if error.is_retriable() => {
                tracing::debug!(%error, "a transaction is not answered; asking again");
                patience.pause(LOOK)?;
            }
            result => return result,
        }
    }
}

/// Calls on a thread of its own what may not return, and waits as long as there is patience.
pub(super) fn aside(
    patience: Patience<'_>,
    call: impl FnOnce() -> KafkaResult<()> + Send + 'static,
) -> Result<(), Trouble> {
    let (answer, answered) = sync_channel(1);
    // Nobody may take the answer any more.
    let calling = move || drop(answer.send(call()));
    let started = std::thread::Builder::new().name("transaction offsets".to_owned()).spawn(calling);
    started.map_err(|error| Trouble::Fatal(KafkaError::ClientCreation(error.to_string())))?;
    loop {
        match answered.recv_timeout(LOOK) {
            Ok(result) => return result.map_err(trouble),
            Err(RecvTimeoutError::Timeout) => patience.pause(Duration::ZERO)?,
            Err(RecvTimeoutError::Disconnected) => return Err(Trouble::Fatal(KafkaError::Canceled)),
        }
    }
}

/// What an error of a call comes to.
pub(super) fn trouble(error: KafkaError) -> Trouble {
    let fatal = if let KafkaError::Transaction(inner) = &error {
        let passing = inner.txn_requires_abort() || inner.is_retriable() || inner.code() == Code::State;
        inner.is_fatal() || !passing
    } else {
        code_of(&error).is_some_and(is_fenced)
    };
    if fatal { Trouble::Fatal(error) } else { Trouble::Again(error) }
}

/// What to do about records that were not delivered.
pub(super) fn blame(failed: Vec<(usize, KafkaError)>, batch: &Batch) -> Trouble {
    let code = |error: &KafkaError| code_of(error).unwrap_or(Code::Unknown);
    if let Some((_, error)) =
        failed.iter().find(|(_, error)| is_fenced(code(error)) || code(error) == Code::Fatal)
    {
        return Trouble::Fatal(error.clone());
    }
    let reason = |number: usize, error: &KafkaError| {
        (number, format!("topic \"{}\": {error}", batch.entries[number].topic))
    };
    // Brokers refuse records together with those they were sent with: only the largest is surely too large.
    let large = failed.iter().filter(|(_, error)| code(error) == Code::MessageSizeTooLarge);
    if let Some((number, error)) = large.max_by_key(|(number, _)| batch.entries[*number].record.size_bytes())
    {
        return Trouble::Refused(vec![reason(*number, error)]);
    }
    let refused: Vec<(usize, String)> = failed
        .iter()
        .filter(|(_, error)| is_refusal(code(error)))
        .map(|(number, error)| reason(*number, error))
        .collect();
    if !refused.is_empty() {
        return Trouble::Refused(refused);
    }
    let error = failed.into_iter().next().map(|(_, error)| error);
    Trouble::Again(error.unwrap_or(KafkaError::Canceled))
}

/// Whether another producer of the same id has begun.
pub(super) fn is_fenced(code: Code) -> bool {
    matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
}

/// Whether the producer comes to no end.
pub(super) fn is_stuck(error: &KafkaError) -> bool {
    code_of(error) == Some(Code::OperationTimedOut)
}

/// Whether a record will be refused however often it is sent.
fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::MessageSizeTooLarge
            | Code::InvalidMessage
            | Code::InvalidMessageSize
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::InvalidTopic
            | Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::UnknownPartition
            | Code::TopicAuthorizationFailed
            | Code::PolicyViolation
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_does_not_return_is_waited_for_no_longer_than_there_is_patience() {
        let over = Instant::now();
        let call = |answer: KafkaResult<()>| {
            let (hold, held) = std::sync::mpsc::channel::<()>();
            let call = move || {
                assert!(held.recv().is_err(), "held until it is let go");
                answer
            };
            (hold, call)
        };
        let (hold, never) = call(Ok(()));
        let left = aside(Patience { pause: &|_| true, end: over }, never);
        assert!(matches!(left, Err(Trouble::Fatal(error)) if is_stuck(&error)));
        drop(hold);
        let (hold, never) = call(Ok(()));
        let left = aside(Patience { pause: &|_| false, end: over + Duration::from_secs(60) }, never);
        assert!(matches!(left, Err(Trouble::Closed)));
        drop(hold);
        let (hold, soon) = call(Err(KafkaError::Global(Code::Fenced)));
        drop(hold);
        let answered = aside(Patience { pause: &|_| true, end: over + Duration::from_secs(60) }, soon);
        assert!(matches!(answered, Err(Trouble::Fatal(error)) if !is_stuck(&error)));
    }
}
