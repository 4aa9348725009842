//! Takes records and ends of partitions from a consumer.
//!
//! The safe API reports that a partition has come to its end, but not at which offset. Without it a position could
//! not move over transaction markers, or over compacted records at the end of a partition, and whoever waits for all
//! that a topic held would wait until its next record. So the consumer's queue is read through librdkafka's C API;
//! this file is all there is of it.

use std::borrow::Cow;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::slice;
use std::time::Duration;

use freshet_schemas::{Headers, Offset, Partition, Record};
use rdkafka::ClientContext;
use rdkafka::bindings as sys;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::clients::Reports;

/// What a consumer's queue holds.
pub(super) enum Event {
    Record(Record),
    /// The partition has no record before this offset that has not been taken.
    End(Partition, Offset),
    /// The partition is read no more: the broker does not have the offset that was to be read next, or not the records
    /// that stood before it.
    Gone(Partition, Code),
    Error {
        code: Code,
        reason: String,
    },
    /// Something that concerns only the client.
    Other,
}

/// The queue of a consumer. Nothing else polls that consumer.
pub(super) struct EventQueue<'a> {
    consumer: &'a BaseConsumer<Reports>,
    queue: *mut sys::rd_kafka_queue_t,
}

impl<'a> EventQueue<'a> {
    /// `None` if the consumer has no group.
    pub(super) fn of(consumer: &'a BaseConsumer<Reports>) -> Option<Self> {
        // SAFETY: the client lives as long as the borrow; the call takes a reference that `drop` gives back.
        let queue = unsafe { sys::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        (!queue.is_null()).then_some(Self { consumer, queue })
    }

    /// Takes one event, waiting at most this long.
    pub(super) fn poll(&self, limit: Duration) -> Option<Event> {
        let limit_ms = c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the queue is held by `self`; the event is null or owned here and destroyed by its guard.
        let event = unsafe { sys::rd_kafka_queue_poll(self.queue, limit_ms) };
        if event.is_null() {
            return None;
        }
        let event = OwnedEvent(event);
        // SAFETY: the event is valid until its guard is dropped.
        Some(match unsafe { sys::rd_kafka_event_type(event.0) } {
            sys::RD_KAFKA_EVENT_FETCH => record(&event),
            sys::RD_KAFKA_EVENT_ERROR => self.error(&event),
            sys::RD_KAFKA_EVENT_LOG => self.log(&event),
            _ => Event::Other,
        })
    }

    fn error(&self, event: &OwnedEvent) -> Event {
        // SAFETY: the event is valid; its strings live as long as it.
        let (code, reason) = unsafe {
            let reason = text(sys::rd_kafka_event_error_string(event.0));
            (Code::from(sys::rd_kafka_event_error(event.0)), reason.into_owned())
        };
        if !matches!(code, Code::PartitionEOF | Code::AutoOffsetReset | Code::LogTruncation) {
            self.consumer.context().error(KafkaError::Global(code), &reason);
            return Event::Error { code, reason };
        }
        // SAFETY: the partition is null or owned here until it is destroyed, after its fields have been read.
        unsafe {
            let partition = sys::rd_kafka_event_topic_partition(event.0);
            if partition.is_null() {
                return Event::Other;
            }
            let (number, offset) = ((*partition).partition, (*partition).offset);
            sys::rd_kafka_topic_partition_destroy(partition);
            if code == Code::PartitionEOF { Event::End(number, offset) } else { Event::Gone(number, code) }
        }
    }

    fn log(&self, event: &OwnedEvent) -> Event {
        let (mut facility, mut message): (*const c_char, *const c_char) = (ptr::null(), ptr::null());
        let mut level = 0;
        // SAFETY: the event is valid; the strings live as long as it.
        unsafe {
            if sys::rd_kafka_event_log(event.0, &mut facility, &mut message, &mut level) == 0 {
                let level = level_of(level);
                self.consumer.context().log(level, text(facility).trim(), text(message).trim());
            }
        }
        Event::Other
    }
}

impl Drop for EventQueue<'_> {
    fn drop(&mut self) {
        // SAFETY: gives back the reference taken by `of`.
        unsafe { sys::rd_kafka_queue_destroy(self.queue) }
    }
}

/// Owns an event.
struct OwnedEvent(*mut sys::rd_kafka_event_t);

impl Drop for OwnedEvent {
    fn drop(&mut self) {
        // SAFETY: owned, and destroyed only here.
        unsafe { sys::rd_kafka_event_destroy(self.0) }
    }
}

fn record(event: &OwnedEvent) -> Event {
    // SAFETY: the message and all that it points to belong to the event, which outlives this function; librdkafka
    // gives lengths that fit the pointers, and null pointers for what a record lacks.
    unsafe {
        let message = sys::rd_kafka_event_message_next(event.0);
        let Some(fields) = message.as_ref() else { return Event::Other };
        let code = Code::from(fields.err);
        if code != Code::NoError {
            let reason = text(sys::rd_kafka_message_errstr(message)).into_owned();
            return Event::Error { code, reason };
        }
        Event::Record(Record {
            partition: fields.partition,
            offset: fields.offset,
            key: bytes(fields.key, fields.key_len),
            value: bytes(fields.payload, fields.len),
            headers: headers(message),
        })
    }
}

/// # Safety
/// `start` is null or points to `length` bytes.
unsafe fn bytes(start: *const c_void, length: usize) -> Option<Vec<u8>> {
    // SAFETY: by contract.
    (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start.cast::<u8>(), length) }.to_vec())
}

/// # Safety
/// `message` is a message of a consumer.
unsafe fn headers(message: *const sys::rd_kafka_message_t) -> Headers {
    let mut headers = Headers::new();
    // SAFETY: by contract; the headers belong to the message, names end with NUL, values are null or as long as told.
    unsafe {
        let mut list = ptr::null_mut();
        if Code::from(sys::rd_kafka_message_headers(message, &mut list)) != Code::NoError {
            return headers;
        }
        let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
        while Code::from(sys::rd_kafka_header_get_all(
            list,
            headers.len(),
            &mut name,
            &mut value,
            &mut length,
        )) == Code::NoError
        {
            headers.push((text(name).into_owned(), bytes(value, length)));
        }
    }
    headers
}

/// # Safety
/// `start` is null or points to a string that ends with NUL and lives as long as the result.
unsafe fn text<'a>(start: *const c_char) -> Cow<'a, str> {
    // SAFETY: by contract.
    if start.is_null() { Cow::Borrowed("") } else { unsafe { CStr::from_ptr(start) }.to_string_lossy() }
}

/// Levels of syslog.
fn level_of(level: c_int) -> RDKafkaLogLevel {
    match level {
        ..=3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 | 6 => RDKafkaLogLevel::Info,
        _ => RDKafkaLogLevel::Debug,
    }
}
