//! The way from the store to the workers.
//!
//! A message is a hint: it says that a job may be waiting, and names it. The truth is the job's row, which a worker
//! takes on lease. A message that is lost, repeated or late does no harm: workers look into the store now and then,
//! and a job that stays queued is published again.

mod embedded;
mod message;
mod rabbitmq;

use prosector_storage::{JobId, Priority};

pub(crate) use embedded::Embedded;
pub(crate) use rabbitmq::RabbitMq;

/// A job that wants a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) job_id: JobId,
    pub(crate) priority: Priority,
}

/// Why the queue cannot be used at the moment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueueError {
    /// The URL is of neither kind.
    #[error("queue.url must be embedded: or amqp:// or amqps://")]
    Address,
    /// No connection, or one that broke.
    #[error("the message broker does not answer")]
    Broker(#[source] Box<lapin::Error>),
    /// The broker did not take responsibility for a message.
    #[error("the message broker returned or refused the message of job {job_id}")]
    NotConfirmed {
        /// The job, which stays in the outbox.
        job_id: JobId,
    },
}

impl From<lapin::Error> for QueueError {
    fn from(error: lapin::Error) -> Self {
        Self::Broker(Box::new(error))
    }
}

/// A queue, embedded or at a broker.
#[derive(Debug, Clone)]
pub(crate) enum Queue {
    /// In this process.
    Embedded(Embedded),
    /// At a RabbitMQ broker.
    RabbitMq(RabbitMq),
}

impl Queue {
    /// The queue that `url` names: `embedded:`, `amqp://…` or `amqps://…`. Connects at first use.
    ///
    /// # Errors
    /// [`QueueError::Address`] for any other URL.
    pub(crate) fn at(url: &str) -> Result<Self, QueueError> {
        if url == "embedded:" {
            return Ok(Self::Embedded(Embedded::default()));
        }
        if url.starts_with("amqp://") || url.starts_with("amqps://") {
            return Ok(Self::RabbitMq(RabbitMq::at(url)));
        }
        Err(QueueError::Address)
    }

    /// Hands announcements over. When it returns, the queue is responsible for every one of them.
    ///
    /// # Errors
    /// When the broker is away or does not confirm; some of the announcements may have been taken.
    pub(crate) async fn publish(&self, announcements: &[Announcement]) -> Result<(), QueueError> {
        match self {
            Self::Embedded(queue) => {
                queue.publish();
                Ok(())
            }
            Self::RabbitMq(queue) => queue.publish(announcements).await,
        }
    }

    /// Waits for a hint, the most urgent first.
    ///
    /// Safe to drop: a hint that was not returned stays with the broker.
    ///
    /// # Errors
    /// When the broker is away.
    pub(crate) async fn next(&self) -> Result<Hint, QueueError> {
        match self {
            Self::Embedded(queue) => {
                queue.next().await;
                Ok(Hint::AnyJob)
            }
            Self::RabbitMq(queue) => {
                queue.next().await.map(|delivered| Hint::Job(Box::new(delivered)))
            }
        }
    }

    /// Whether one hint may stand for many jobs: whoever has taken one looks for another before it listens.
    pub(crate) fn rings_once(&self) -> bool {
        matches!(self, Self::Embedded(_))
    }

    /// Whether the broker answers; the embedded queue always does.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) async fn ping(&self) -> Result<(), QueueError> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::RabbitMq(queue) => queue.ping().await,
        }
    }
}

/// What a worker hears from the queue.
#[derive(Debug)]
pub(crate) enum Hint {
    /// Some job is waiting: take the most urgent.
    AnyJob,
    /// A job is waiting, and the broker waits for the acknowledgement.
    Job(Box<rabbitmq::Delivered>),
}

impl Hint {
    /// Tells the broker that the hint was acted on. Called as soon as the job is on lease, so that no consumer
    /// timeout ever meets a long job.
    ///
    /// # Errors
    /// When the broker is away; it will repeat the hint, which does no harm.
    pub(crate) async fn acknowledge(self) -> Result<(), QueueError> {
        match self {
            Self::AnyJob => Ok(()),
            Self::Job(delivered) => delivered.acknowledge().await,
        }
    }
}
