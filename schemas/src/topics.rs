//! Several documents topics: one numbering of their partitions within a pipeline, their names outside.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{AsOf, Offset, Partition};

/// What the documents topic is called where its offsets are named, if it is the only one.
pub const DOCUMENTS: &str = "documents";

/// Bits of a number that name the partition; those above name the topic. A topic of Kafka has far fewer partitions.
const PARTITION_BITS: u32 = 20;

/// The documents topics of a pipeline, in the order of its configuration.
///
/// Within a pipeline, partition `p` of topic number `n` is partition `n · 2²⁰ + p`: so the partitions of an only topic
/// have their own numbers. What leaves the pipeline has the names of the topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentTopics(Arc<[String]>);

impl<T: Into<String>> From<T> for DocumentTopics {
    /// The only topic.
    fn from(name: T) -> Self {
        Self::new([name.into()])
    }
}

impl DocumentTopics {
    /// Most topics.
    pub const MAX: usize = 1 << 10;

    /// The topics of these names, at least one.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().collect())
    }

    /// Their names, by number.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Name of the first, or of the only one.
    pub fn first(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    /// Their names in quotes, for messages.
    pub fn known_names(&self) -> String {
        crate::json::list(self.0.iter().map(String::as_str))
    }

    /// Whether partitions have to be told apart by the names of their topics.
    pub fn are_several(&self) -> bool {
        self.0.len() > 1
    }

    /// The number within the pipeline of a topic's partition. Partitions that no topic has become one that no topic has.
    pub fn place(topic: usize, partition: Partition) -> Partition {
        match Partition::try_from(topic) {
            Ok(0) => partition,
            Ok(number) if topic < Self::MAX && (0..1 << PARTITION_BITS).contains(&partition) => {
                (number << PARTITION_BITS) | partition
            }
            _ => Partition::MAX,
        }
    }

    /// The number of the topic, and that of the partition in it.
    pub fn split(partition: Partition) -> (usize, Partition) {
        let topic = usize::try_from(partition >> PARTITION_BITS).unwrap_or(0);
        (topic, partition & ((1 << PARTITION_BITS) - 1))
    }

    /// Name of the topic of a partition, and the number of the partition in it.
    pub fn name(&self, partition: Partition) -> (&str, Partition) {
        let (topic, partition) = Self::split(partition);
        (self.0.get(topic).map_or("", String::as_str), partition)
    }

    /// Offsets by the names that they have outside: `documents` for an only topic, else those of the topics.
    pub fn by_name(&self, offsets: &BTreeMap<Partition, Offset>) -> BTreeMap<String, AsOf> {
        if !self.are_several() {
            return BTreeMap::from([(DOCUMENTS.to_owned(), offsets.clone())]);
        }
        let mut named: BTreeMap<String, AsOf> =
            self.0.iter().map(|name| (name.clone(), AsOf::new())).collect();
        for (partition, offset) in offsets {
            let (name, partition) = self.name(*partition);
            named.entry(name.to_owned()).or_default().insert(partition, *offset);
        }
        named
    }

    /// Offsets by partition, of those that [`DocumentTopics::by_name`] has named.
    ///
    /// # Errors
    /// The name that no topic has.
    pub fn by_partition(&self, named: &BTreeMap<String, AsOf>) -> Result<AsOf, String> {
        let mut offsets = AsOf::new();
        for (name, of) in named {
            let topic = if self.are_several() {
                self.0.iter().position(|known| known == name)
            } else {
                (name == DOCUMENTS).then_some(0)
            };
            let topic = topic.ok_or_else(|| name.clone())?;
            offsets.extend(of.iter().map(|(partition, offset)| (Self::place(topic, *partition), *offset)));
        }
        Ok(offsets)
    }

    /// What offsets may be named by.
    pub fn known(&self) -> Vec<&str> {
        if self.are_several() { self.0.iter().map(String::as_str).collect() } else { vec![DOCUMENTS] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(names: &[&str]) -> DocumentTopics {
        DocumentTopics::new(names.iter().map(|name| (*name).to_owned()))
    }

    #[test]
    fn partitions_of_an_only_topic_keep_their_numbers() {
        let one = topics(&["tickets"]);
        let offsets = AsOf::from([(0, 5), (7, -1)]);
        assert_eq!(DocumentTopics::place(0, 7), 7);
        let named = one.by_name(&offsets);
        assert_eq!(named, BTreeMap::from([("documents".to_owned(), offsets.clone())]));
        assert_eq!(one.by_partition(&named), Ok(offsets));
        assert_eq!(
            one.by_partition(&BTreeMap::from([("tickets".into(), AsOf::new())])),
            Err("tickets".into())
        );
    }

    #[test]
    fn several_topics_go_by_their_names() {
        let two = topics(&["tickets", "news"]);
        let last = DocumentTopics::place(1, (1 << PARTITION_BITS) - 1);
        let offsets = AsOf::from([(3, 5), (DocumentTopics::place(1, 3), 6), (last, 0)]);
        assert_eq!(offsets.len(), 3);
        assert_eq!(two.name(last), ("news", (1 << PARTITION_BITS) - 1));
        let named = two.by_name(&offsets);
        assert_eq!((named["tickets"][&3], named["news"][&3]), (5, 6));
        assert_eq!(two.by_partition(&named), Ok(offsets));
        assert_eq!(two.by_name(&AsOf::new())["news"], AsOf::new());
        assert_eq!(two.known(), ["tickets", "news"]);
        let nowhere = BTreeMap::from([("news".to_owned(), AsOf::from([(1 << PARTITION_BITS, 1)]))]);
        assert_eq!(two.by_partition(&nowhere), Ok(AsOf::from([(Partition::MAX, 1)])));
    }
}
