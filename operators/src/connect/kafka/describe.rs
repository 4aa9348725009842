//! Asks brokers what topics are: their ids and partitions.
//!
//! A topic's id is what tells a topic from one that was made anew under its name. The safe API does not have it, so it is
//! asked for through librdkafka's C API; this file is all there is of it.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;
use std::slice;
use std::time::Duration;

use freshet_schemas::Partition;
use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};

use super::clients::Reports;

/// The id that brokers without ids give.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// A topic as a broker describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Description {
    /// Never the same for two topics; `None` from brokers before Kafka 2.8.
    pub(super) id: Option<String>,
    /// Ascending.
    pub(super) partitions: Vec<Partition>,
}

/// Describes topics, by name: each as it is, or why it is not described.
pub(super) fn describe(
    client: &BaseConsumer<Reports>,
    topics: &[String],
    limit: Duration,
) -> KafkaResult<BTreeMap<String, Result<Description, Code>>> {
    let names: Vec<CString> = topics.iter().filter_map(|topic| CString::new(topic.as_str()).ok()).collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let limit_ms = c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX);
    let client = client.client().native_ptr();
    // SAFETY: the client outlives this call. The topics are copied, and all that is made here is destroyed by its guard.
    // The queue outlives the request, or the request gives its answer up.
    let event = unsafe {
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let topics = Owned(topics, sys::rd_kafka_TopicCollection_destroy);
        let options = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options =
            Owned(sys::rd_kafka_AdminOptions_new(client, options), sys::rd_kafka_AdminOptions_destroy);
        sys::rd_kafka_AdminOptions_set_request_timeout(options.0, limit_ms, ptr::null_mut(), 0);
        let queue = Owned(sys::rd_kafka_queue_new(client), sys::rd_kafka_queue_destroy);
        sys::rd_kafka_DescribeTopics(client, topics.0, options.0, queue.0);
        Owned(sys::rd_kafka_queue_poll(queue.0, limit_ms), sys::rd_kafka_event_destroy)
    };
    if event.0.is_null() {
        return Err(KafkaError::AdminOp(Code::OperationTimedOut));
    }
    // SAFETY: the event is valid until its guard is dropped, and so is all that it points to.
    unsafe {
        let code = Code::from(sys::rd_kafka_event_error(event.0));
        if code != Code::NoError {
            return Err(KafkaError::AdminOp(code));
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event.0);
        if result.is_null() {
            return Err(KafkaError::AdminOp(Code::BadMessage));
        }
        let mut count = 0;
        let described = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        Ok(items(described, count).iter().map(|topic| described_topic(*topic)).collect())
    }
}

/// # Safety
/// `topic` is a description that a result holds.
unsafe fn described_topic(
    topic: *const sys::rd_kafka_TopicDescription_t,
) -> (String, Result<Description, Code>) {
    // SAFETY: by contract; strings end with NUL, and ids and partitions belong to the description.
    unsafe {
        let name = text(sys::rd_kafka_TopicDescription_name(topic));
        let code = Code::from(sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(topic)));
        if code != Code::NoError {
            return (name, Err(code));
        }
        let id = text(sys::rd_kafka_Uuid_base64str(sys::rd_kafka_TopicDescription_topic_id(topic)));
        let mut count = 0;
        let infos = sys::rd_kafka_TopicDescription_partitions(topic, &mut count);
        let infos = items(infos, count).iter();
        let mut partitions: Vec<Partition> =
            infos.map(|info| sys::rd_kafka_TopicPartitionInfo_partition(*info)).collect();
        partitions.sort_unstable();
        (name, Ok(Description { id: Some(id).filter(|id| id != NO_ID), partitions }))
    }
}

/// Destroys a pointer that is not null.
struct Owned<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: owned, and destroyed only here, by the function that belongs to its type.
            unsafe { (self.1)(self.0) }
        }
    }
}

/// # Safety
/// `start` is null or points to `count` pointers that live as long as the result.
unsafe fn items<'a, T>(start: *mut *const T, count: usize) -> &'a [*const T] {
    // SAFETY: by contract.
    if start.is_null() { &[] } else { unsafe { slice::from_raw_parts(start, count) } }
}

/// # Safety
/// `start` is null or points to a string that ends with NUL.
unsafe fn text(start: *const c_char) -> String {
    // SAFETY: by contract.
    if start.is_null() {
        String::new()
    } else {
        unsafe { CStr::from_ptr(start) }.to_string_lossy().into_owned()
    }
}
