//! Several documents topics as one: their partitions are numbered as [`DocumentTopics`] says.

use std::collections::BTreeMap;

use freshet_schemas::{DocumentTopics, Offset, Partition};

use super::{ConnectError, Connector, Polled, Share, Source, Wake};

type Offsets = BTreeMap<Partition, Offset>;

/// First offset after the last record of each partition, now.
///
/// # Errors
/// As [`Connector::end_offsets`].
pub fn end_offsets(connector: &dyn Connector, topics: &DocumentTopics) -> Result<Offsets, ConnectError> {
    gather(topics, |topic| connector.end_offsets(topic))
}

/// Next offsets committed for the pipeline's group.
///
/// # Errors
/// As [`Connector::committed`].
pub fn committed(connector: &dyn Connector, topics: &DocumentTopics) -> Result<Offsets, ConnectError> {
    gather(topics, |topic| connector.committed(topic))
}

fn gather(
    topics: &DocumentTopics,
    of: impl Fn(&str) -> Result<Offsets, ConnectError>,
) -> Result<Offsets, ConnectError> {
    let mut offsets = Offsets::new();
    for (number, name) in topics.names().iter().enumerate() {
        let placed = |(partition, offset)| (DocumentTopics::place(number, partition), offset);
        offsets.extend(of(name)?.into_iter().map(placed));
    }
    Ok(offsets)
}

/// Those offsets that are of one topic, by its own partitions.
pub fn of_topic(offsets: &Offsets, number: usize) -> Offsets {
    let of = offsets.iter().map(|(partition, offset)| (DocumentTopics::split(*partition), *offset));
    of.filter(|((topic, _), _)| *topic == number)
        .map(|((_, partition), offset)| (partition, offset))
        .collect()
}

/// Opens a share of the partitions of all topics at the given next offsets, as [`Connector::follow`] does of one topic.
///
/// # Errors
/// As [`Connector::follow`].
pub fn follow(
    connector: &dyn Connector,
    topics: &DocumentTopics,
    share: Share,
    start: &Offsets,
    wake: &Wake,
) -> Result<Box<dyn Source>, ConnectError> {
    let open = |(number, name): (usize, &String)| {
        connector.follow(name, share.of_topic(number), &of_topic(start, number), Wake::clone(wake))
    };
    let mut sources = topics.names().iter().enumerate().map(open).collect::<Result<Vec<_>, _>>()?;
    if sources.len() == 1
        && let Some(only) = sources.pop()
    {
        return Ok(only);
    }
    Ok(Box::new(Several { sources, first: 0 }))
}

/// Reads several topics, each poll beginning with another one, so that none waits for a backlog of others.
struct Several {
    sources: Vec<Box<dyn Source>>,
    first: usize,
}

impl Source for Several {
    fn poll(&mut self, records_max: usize, bytes_max: usize) -> Result<Polled, ConnectError> {
        let mut all = Polled::default();
        let mut bytes = 0;
        let count = self.sources.len();
        for number in (self.first..count).chain(0..self.first) {
            let room = (records_max - all.records.len(), bytes_max.saturating_sub(bytes));
            // Positions are known whether there is room or not.
            let room = if room.0 == 0 || room.1 == 0 { (0, 0) } else { room };
            let polled = self.sources[number].poll(room.0, room.1)?;
            bytes += polled.records.iter().map(freshet_schemas::Record::size_bytes).sum::<usize>();
            let place = |partition| DocumentTopics::place(number, partition);
            all.records.extend(polled.records.into_iter().map(|mut record| {
                record.partition = place(record.partition);
                record
            }));
            all.positions
                .extend(polled.positions.into_iter().map(|(partition, next)| (place(partition), next)));
        }
        self.first = (self.first + 1) % count;
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Memory;
    use super::super::testing::record;
    use super::*;

    fn topics() -> DocumentTopics {
        DocumentTopics::new(["a", "b", "c"].map(str::to_owned))
    }

    fn memory() -> Memory {
        let memory = Memory::new();
        for (topic, partitions) in [("a", 1), ("b", 3), ("c", 2)] {
            memory.create(topic, partitions);
            for partition in 0..partitions {
                for number in 0..4 {
                    let key = format!("{topic}{partition}{number}");
                    memory.produce(topic, i32::try_from(partition).unwrap(), record(&key, "v"));
                }
            }
        }
        memory
    }

    #[test]
    fn every_partition_of_every_topic_has_one_reader_and_keeps_its_order() {
        let memory = memory();
        let wake: Wake = Arc::new(|| {});
        let mut seen: BTreeMap<Partition, Vec<String>> = BTreeMap::new();
        let mut readers = Vec::new();
        for index in 0..4 {
            let share = Share { index, peers: 4 };
            let mut source = follow(&memory, &topics(), share, &Offsets::new(), &wake).unwrap();
            let mut read = 0;
            loop {
                let polled = source.poll(3, usize::MAX).unwrap();
                assert!(polled.records.len() <= 3);
                assert!(polled.positions.keys().all(|partition| share.holds(*partition)));
                if polled.records.is_empty() {
                    assert_eq!(polled.positions.values().sum::<i64>(), read);
                    break;
                }
                read += i64::try_from(polled.records.len()).unwrap();
                for record in polled.records {
                    let key = String::from_utf8(record.key.unwrap()).unwrap();
                    seen.entry(record.partition).or_default().push(key);
                }
            }
            readers.push(read);
        }
        // Six partitions of four records: single partitions are not all read by the first.
        assert_eq!(readers.iter().sum::<i64>(), 24);
        assert!(readers.iter().filter(|read| **read > 0).count() >= 3, "{readers:?}");
        assert_eq!(seen.len(), 6);
        let ends = end_offsets(&memory, &topics()).unwrap();
        for (partition, keys) in &seen {
            let (topic, number) = DocumentTopics::split(*partition);
            let topics = topics();
            let name = &topics.names()[topic];
            let expected: Vec<String> = (0..4).map(|record| format!("{name}{number}{record}")).collect();
            assert_eq!((keys, ends[partition]), (&expected, 4));
        }
    }

    #[test]
    fn reading_goes_on_where_each_topic_was() {
        let memory = memory();
        let start =
            Offsets::from([(0, 3), (DocumentTopics::place(1, 2), 2), (DocumentTopics::place(2, 0), 4)]);
        let share = Share { index: 0, peers: 1 };
        let mut source = follow(&memory, &topics(), share, &start, &(Arc::new(|| {}) as Wake)).unwrap();
        let polled = source.poll(100, usize::MAX).unwrap();
        assert_eq!(polled.records.len(), 1 + 4 + 4 + 2 + 4);
        assert_eq!(polled.positions, end_offsets(&memory, &topics()).unwrap());
    }

    #[test]
    fn a_backlog_of_one_topic_does_not_keep_the_others_waiting() {
        let memory = memory();
        let share = Share { index: 0, peers: 1 };
        let wake: Wake = Arc::new(|| {});
        let mut source = follow(&memory, &topics(), share, &Offsets::new(), &wake).unwrap();
        let mut first = |_| DocumentTopics::split(source.poll(1, usize::MAX).unwrap().records[0].partition).0;
        assert_eq!([0; 4].map(&mut first), [0, 1, 2, 0]);
    }
}
