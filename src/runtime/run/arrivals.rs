//! Partitions that appear while a job runs: told to the worker that reads them, their topics named by the leader.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::opening::{open_kafka, owner};
use crate::config::Job;
use crate::decode::avro::Schemas;
use crate::publish::dead_letters::read::Letter;
use crate::runtime::workers::RunError;
use crate::source::kafka::{KafkaSource, Listed};
use crate::source::names::{PartitionNames, REPLAY};
use crate::source::operator::Arrival;
use crate::source::partition::Partition;

/// Partitions that appear while the job runs.
pub(super) struct Arrivals<'a> {
    pub job: &'a Job,
    pub names: &'a PartitionNames,
    pub schemas: &'a Arc<Schemas>,
    /// One per worker of this process.
    pub senders: Vec<Option<Sender<Arrival>>>,
    pub workers: Range<usize>,
    pub peers: usize,
    pub leader: bool,
    /// Those whose topic has no number yet.
    pub unnamed: Vec<Listed>,
}

impl Arrivals<'_> {
    pub(super) fn take(&mut self, kafka: &KafkaSource) -> Result<(), RunError> {
        let mut found = kafka.discovered();
        for listed in &found {
            if self.leader && !self.names.knows(&listed.topic) {
                let number = self.names.register(&listed.topic);
                self.send(0, Arrival::Topic(number, listed.topic.clone()));
            }
        }
        found.append(&mut self.unnamed);
        let (named, unnamed) = found.into_iter().partition(|listed| self.names.knows(&listed.topic));
        self.unnamed = unnamed;
        let named: Vec<Listed> = named;
        let mine: Vec<&Listed> =
            named.iter().filter(|listed| self.workers.contains(&owner(&listed.topic, listed.partition, self.peers))).collect();
        if mine.is_empty() {
            return Ok(());
        }
        for (partition, listed) in open_kafka(self.job, kafka, self.names, self.schemas, &mine, false)?.into_iter().zip(mine) {
            tracing::info!(topic = listed.topic, partition = listed.partition, "new partition");
            let worker = owner(&listed.topic, listed.partition, self.peers) - self.workers.start;
            self.send(worker, Arrival::Partition(Box::new(partition), listed.high > listed.start));
        }
        Ok(())
    }

    /// Takes a request to read dead letters again.
    pub(super) fn take_again(&self, number: u32, letters: Vec<Letter>) {
        tracing::info!(request = number, letters = letters.len(), "dead letters are read again");
        let worker = owner(REPLAY, number, self.peers) - self.workers.start;
        let partition = Partition::again(self.job, self.names, number, self.names.id(REPLAY, number), letters, self.schemas);
        self.send(worker, Arrival::Partition(Box::new(partition), true));
    }

    fn send(&self, worker: usize, arrival: Arrival) {
        // A worker that has ended takes nothing more, and needs nothing more.
        let _ = self.senders[worker].as_ref().map(|sender| sender.send(arrival));
    }
}
