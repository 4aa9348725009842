//! Exactly-once answers: what earlier runs have answered, and how this one writes.

use std::collections::BTreeMap;

use freshet_config::{Config, Delivery as Configured};
use freshet_operators::connect::topics::end_offsets;
use freshet_operators::connect::{ConnectError, Connector, Progress, Share, Transactions, Wake, raise};
use freshet_operators::produce::{Delivery, Offsets, Together};
use freshet_schemas::{AsOf, DocumentTopics, Offset, Partition};

/// Answers are written in one transaction with the progress of their queries.
pub(crate) struct ExactlyOnce {
    transactions: Transactions,
    recovered: BTreeMap<Partition, Progress>,
    /// What answers of earlier runs reflect, as far as the documents topic still has it.
    pub(crate) floor: AsOf,
}

impl ExactlyOnce {
    /// Takes the pipeline over from an earlier run, if it answers exactly once.
    pub(crate) fn recover(config: &Config, connector: &dyn Connector) -> Result<Option<Self>, ConnectError> {
        if config.queries.delivery == Configured::AtLeastOnce {
            return Ok(None);
        }
        let topics = &config.topics;
        let (recovered, writer) = connector.transactions(&topics.queries)?;
        // Looked at now that nobody else writes progress any more: the topics hold all that it speaks of.
        check(&topics.queries, &recovered, &connector.end_offsets(&topics.queries)?)?;
        let ends = end_offsets(connector, &topics.documents)?;
        let floor = floor(&topics.documents, &recovered, &ends);
        Ok(Some(Self { transactions: Transactions::start(writer)?, recovered, floor }))
    }

    /// Offsets at which reading starts.
    pub(crate) fn next(&self) -> BTreeMap<Partition, Offset> {
        self.recovered.iter().map(|(partition, progress)| (*partition, progress.next())).collect()
    }

    /// How a worker writes that reads this share of the partitions.
    pub(crate) fn delivery(&self, share: Share, wake: Wake) -> Delivery {
        Delivery::Together(Together::new(self.transactions.sink(wake), self.part(share)))
    }

    /// Which queries of this share are to be answered.
    pub(crate) fn offsets(&self, share: Share) -> Offsets {
        Offsets::resume(&self.part(share), &self.floor)
    }

    fn part(&self, share: Share) -> BTreeMap<Partition, Progress> {
        let own = self.recovered.iter().filter(|(partition, _)| share.holds(**partition));
        own.map(|(partition, progress)| (*partition, progress.clone())).collect()
    }
}

/// Refuses to skip queries of a topic that ends before what was answered: they are other queries.
fn check(
    topic: &str,
    recovered: &BTreeMap<Partition, Progress>,
    ends: &BTreeMap<Partition, Offset>,
) -> Result<(), ConnectError> {
    for (partition, progress) in recovered {
        let end = ends.get(partition).copied().unwrap_or(0);
        if progress.upto > end {
            let what = format!(
                "partition {partition} of \"{topic}\" ends at offset {end}, but was answered up to {} before: the topic \
                 was created anew or has lost records; reset the group's offsets to begin again",
                progress.upto
            );
            return Err(ConnectError::World { what, source: None, retry: false });
        }
    }
    Ok(())
}

/// What answers have reflected, cut to what there is: nobody waits for documents that are gone.
fn floor(
    topics: &DocumentTopics,
    recovered: &BTreeMap<Partition, Progress>,
    ends: &BTreeMap<Partition, Offset>,
) -> AsOf {
    let mut floor = AsOf::new();
    for progress in recovered.values() {
        raise(&mut floor, &progress.as_of);
    }
    for (partition, last) in &mut floor {
        let end = ends.get(partition).copied().unwrap_or(0);
        if *last >= end {
            let reflected = *last;
            let (topic, partition) = topics.name(*partition);
            tracing::warn!(
                topic,
                partition,
                end,
                reflected,
                "earlier answers reflect documents that the topic does not have any more; going on with those it has"
            );
            *last = end - 1;
        }
    }
    floor
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recovered(upto: Offset, as_of: &[(Partition, Offset)]) -> BTreeMap<Partition, Progress> {
        BTreeMap::from([(0, Progress { as_of: as_of.iter().copied().collect(), ..Progress::before(upto) })])
    }

    #[test]
    fn the_floor_is_what_the_topic_still_has() {
        let mut two = recovered(1, &[(0, 5), (1, 7), (2, 3)]);
        two.extend(recovered(1, &[(0, 8)]).into_values().map(|progress| (1, progress)));
        let floor = floor(&"documents".into(), &two, &BTreeMap::from([(0, 20), (1, 4)]));
        assert_eq!(floor, AsOf::from([(0, 8), (1, 3), (2, -1)]));
    }

    #[test]
    fn a_topic_of_queries_that_was_created_anew_is_refused() {
        assert!(check("queries", &recovered(9, &[]), &BTreeMap::from([(0, 9)])).is_ok());
        let refused = check("queries", &recovered(9, &[]), &BTreeMap::from([(0, 8)])).unwrap_err();
        assert!(refused.to_string().contains("created anew"), "{refused}");
    }
}
