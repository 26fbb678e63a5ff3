//! RabbitMQ: one durable quorum queue per priority, dead letters beside them.
//!
//! The topology is declared by whoever connects first and is the same on RabbitMQ 3.10 and later:
//! direct exchange `prosector.jobs`, queues `prosector.jobs.<priority>`, fanout exchange and queue `prosector.dead`.
//! lapin does not recover channels, so a connection that failed is dropped and the next call makes a new one.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::select_all;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, BasicRejectOptions,
    ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
};
use prosector_storage::{JobId, Priority};
use tokio::sync::Mutex;

use super::{Announcement, QueueError, message};

const EXCHANGE: &str = "prosector.jobs";
const DEAD: &str = "prosector.dead";
/// Deliveries of one message before the broker puts it aside. Hints go back to the queue whenever a worker is
/// faster than another, so the limit is generous; the store counts a job's real attempts.
const DELIVERY_LIMIT: i64 = 20;
const PERSISTENT: u8 = 2;
/// How long the broker may take to answer: one that is stopped, or out of memory, keeps connections and says nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// A broker, with one connection for publishing and one for consuming.
#[derive(Debug, Clone)]
pub(crate) struct RabbitMq {
    url: Arc<str>,
    publisher: Arc<Mutex<Option<Link>>>,
    consumer: Arc<Mutex<Option<Link>>>,
}

/// A connection; the channel on it confirms what is published.
#[derive(Debug)]
struct Link {
    connection: Connection,
    channel: Channel,
}

/// A message that waits for its acknowledgement. Dropping it gives it back to the broker.
#[derive(Debug)]
pub(crate) struct Delivered {
    job_id: Option<JobId>,
    delivery: Delivery,
    /// Closing the channel gives back what else was prefetched on it.
    channel: Channel,
}

impl RabbitMq {
    pub(super) fn at(url: &str) -> Self {
        Self { url: url.into(), publisher: Arc::default(), consumer: Arc::default() }
    }

    pub(super) async fn publish(&self, announcements: &[Announcement]) -> Result<(), QueueError> {
        let mut link = self.publisher.lock().await;
        let published = match &*link {
            Some(link) if link.is_usable() => {
                in_time(publish_on(&link.channel, announcements)).await
            }
            _ => {
                let fresh = Link::connect(&self.url).await?;
                let published = in_time(publish_on(&fresh.channel, announcements)).await;
                *link = Some(fresh);
                published
            }
        };
        if published.is_err() {
            *link = None;
        }
        published
    }

    pub(super) async fn ping(&self) -> Result<(), QueueError> {
        let mut link = self.publisher.lock().await;
        if !link.as_ref().is_some_and(Link::is_usable) {
            *link = Some(Link::connect(&self.url).await?);
        }
        Ok(())
    }

    pub(super) async fn next(&self) -> Result<Delivered, QueueError> {
        let channel = {
            let mut link = self.consumer.lock().await;
            if !link.as_ref().is_some_and(Link::is_usable) {
                *link = None;
                *link = Some(Link::connect(&self.url).await?);
            }
            let usable = link.as_ref().expect("the link was just made");
            usable.connection.create_channel().await?
        };
        let received = receive(&channel).await;
        if received.is_err() {
            *self.consumer.lock().await = None;
        }
        let delivery = received?;
        Ok(Delivered { job_id: message::decode(&delivery.data), delivery, channel })
    }
}

impl Delivered {
    pub(super) async fn acknowledge(self) -> Result<(), QueueError> {
        in_time(self.answer()).await
    }

    async fn answer(self) -> Result<(), QueueError> {
        if self.job_id.is_some() {
            self.delivery.acker.ack(BasicAckOptions::default()).await?;
        } else {
            // Not a message of ours: the broker puts it with the dead letters.
            self.delivery.acker.reject(BasicRejectOptions { requeue: false }).await?;
        }
        self.channel.close(200, "done".into()).await?;
        Ok(())
    }
}

impl Link {
    async fn connect(url: &str) -> Result<Self, QueueError> {
        in_time(Self::open(url)).await
    }

    async fn open(url: &str) -> Result<Self, QueueError> {
        let options = ConnectionProperties::default().with_connection_name("prosector".into());
        let connection = Connection::connect(url, options).await?;
        let channel = connection.create_channel().await?;
        declare_topology(&channel).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { connection, channel })
    }

    fn is_usable(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }
}

/// What the broker answers, or that it did not.
async fn in_time<T>(answer: impl Future<Output = Result<T, QueueError>>) -> Result<T, QueueError> {
    tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| {
        Err(lapin::Error::from(std::io::Error::from(std::io::ErrorKind::TimedOut)).into())
    })
}

fn queue_name(priority: Priority) -> String {
    format!("{EXCHANGE}.{priority}")
}

async fn declare_topology(channel: &Channel) -> Result<(), lapin::Error> {
    let durable_exchange = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let durable_queue = QueueDeclareOptions { durable: true, ..Default::default() };
    for (exchange, kind) in [(EXCHANGE, ExchangeKind::Direct), (DEAD, ExchangeKind::Fanout)] {
        let nothing = FieldTable::default();
        channel.exchange_declare(exchange.into(), kind, durable_exchange, nothing).await?;
    }
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), long_string("quorum"));
    channel.queue_declare(DEAD.into(), durable_queue, quorum.clone()).await?;
    let nothing = FieldTable::default();
    channel
        .queue_bind(DEAD.into(), DEAD.into(), "".into(), QueueBindOptions::default(), nothing)
        .await?;

    let mut arguments = quorum;
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(DELIVERY_LIMIT));
    arguments.insert("x-dead-letter-exchange".into(), long_string(DEAD));
    for &priority in Priority::ALL {
        let name = queue_name(priority);
        channel.queue_declare(name.as_str().into(), durable_queue, arguments.clone()).await?;
        channel
            .queue_bind(
                name.as_str().into(),
                EXCHANGE.into(),
                priority.as_str().into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
    }
    Ok(())
}

fn long_string(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

/// Publishes all, then waits for every confirmation: the broker writes them together.
async fn publish_on(channel: &Channel, announcements: &[Announcement]) -> Result<(), QueueError> {
    let mut pending = Vec::with_capacity(announcements.len());
    for announcement in announcements {
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into());
        let confirm = channel
            .basic_publish(
                EXCHANGE.into(),
                announcement.priority.as_str().into(),
                BasicPublishOptions { mandatory: true, immediate: false },
                &message::encode(announcement.job_id),
                properties,
            )
            .await?;
        pending.push((announcement.job_id, confirm));
    }
    for (job_id, confirm) in pending {
        if !matches!(confirm.await?, Confirmation::Ack(None)) {
            return Err(QueueError::NotConfirmed { job_id });
        }
    }
    Ok(())
}

/// Listens to all queues and returns the first message, the most urgent queue first where several have one.
async fn receive(channel: &Channel) -> Result<Delivery, lapin::Error> {
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    let mut consumers = Vec::with_capacity(Priority::ALL.len());
    for &priority in Priority::ALL {
        let consumer = channel
            .basic_consume(
                queue_name(priority).as_str().into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        consumers.push(consumer);
    }
    let (first, _, _) = select_all(consumers.iter_mut().map(StreamExt::next)).await;
    match first {
        Some(delivery) => delivery,
        None => Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into()),
    }
}
