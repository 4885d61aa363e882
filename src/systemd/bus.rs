//! The connection to systemd: the system bus, else systemd's own private socket.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::timeout;
use zbus::connection::Builder;
use zbus::message::Type;
use zbus::{Connection, Message, MessageStream};

use super::private_socket;

/// The well-known name of the manager, and the prefix of its interfaces.
pub const SYSTEMD: &str = "org.freedesktop.systemd1";
/// The manager's object.
pub const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
/// The interface of that object.
pub const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// The interface that every object's properties are read through.
pub const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// How long connecting may take, authentication included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long handing a message to the socket may take: longer means that nobody reads.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);
/// Messages held while they wait for the table; a daemon-reload of 2,000 units sends 4,400.
const QUEUE: NonZeroUsize = NonZeroUsize::new(8192).unwrap();

/// Why systemd could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// Neither the bus nor the private socket took the connection.
    #[error("cannot reach systemd: the system bus: {bus}; its private socket: {private}")]
    Connect { bus: String, private: String },
    /// The connection ended.
    #[error("the connection to systemd ended: {0}")]
    Closed(String),
    /// No reply came in time.
    #[error("systemd did not answer {0} in time")]
    Timeout(&'static str),
    /// systemd, or the bus in its place, refused.
    #[error("systemd refused {call}: {name}: {text}")]
    Refused {
        call: &'static str,
        name: String,
        text: String,
    },
    /// The reply was not of the form that systemd documents.
    #[error("systemd's answer to {call} cannot be read: {source}")]
    Reply {
        call: &'static str,
        source: zbus::Error,
    },
}

impl BusError {
    /// A refusal that says that nobody was there to answer.
    pub fn is_of_nobody(&self) -> bool {
        let Self::Refused { name, .. } = self else {
            return false;
        };
        [
            "NoReply",
            "ServiceUnknown",
            "NameHasNoOwner",
            "Disconnected",
        ]
        .iter()
        .any(|end| name.ends_with(end))
    }
}

/// Messages so far, over all connections.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Sent to the bus or to systemd.
    pub sent: AtomicU64,
    /// Received, signals and replies alike.
    pub received: AtomicU64,
}

/// One connection. All messages, signals and replies, come through [`Bus::next`] in the order in
/// which systemd sent them: so a reply is never older than a signal taken before it.
#[derive(Debug)]
pub struct Bus<'a> {
    connection: Connection,
    messages: MessageStream,
    traffic: &'a Traffic,
    /// True on the system bus, false on the private socket, which has no bus daemon to ask.
    pub is_bus: bool,
}

impl<'a> Bus<'a> {
    /// Connects to the system bus, or to the private socket if that fails and we are root.
    pub async fn connect(traffic: &'a Traffic) -> Result<Self, BusError> {
        let bus = match connect(Builder::system()).await {
            Ok(connection) => return Ok(Self::over(connection, true, traffic)),
            Err(reason) => reason,
        };
        let private = match timeout(CONNECT_TIMEOUT, private_socket::connect()).await {
            Ok(Ok(builder)) => match connect(builder).await {
                Ok(connection) => return Ok(Self::over(connection, false, traffic)),
                Err(reason) => reason,
            },
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        Err(BusError::Connect { bus, private })
    }

    fn over(connection: Connection, is_bus: bool, traffic: &'a Traffic) -> Self {
        Self {
            messages: MessageStream::from(&connection),
            connection,
            traffic,
            is_bus,
        }
    }

    /// Sends a message and returns the serial that its reply will carry.
    pub async fn send(&self, message: &Message) -> Result<u32, BusError> {
        match timeout(SEND_TIMEOUT, self.connection.send(message)).await {
            Ok(Ok(())) => {
                self.traffic.sent.fetch_add(1, Ordering::Relaxed);
                Ok(message.primary_header().serial_num().get())
            }
            Ok(Err(error)) => Err(BusError::Closed(error.to_string())),
            // Half a message may be on its way: nothing can be sent after it.
            Err(_) => Err(BusError::Closed("nobody reads at the other end".to_owned())),
        }
    }

    /// The next message. Safe to cancel.
    pub async fn next(&mut self) -> Result<Message, BusError> {
        match self.messages.next().await {
            Some(Ok(message)) => {
                self.traffic.received.fetch_add(1, Ordering::Relaxed);
                Ok(message)
            }
            Some(Err(error)) => Err(BusError::Closed(error.to_string())),
            None => Err(BusError::Closed("the other end closed it".to_owned())),
        }
    }
}

async fn connect(builder: Builder<'_>) -> Result<Connection, String> {
    match timeout(CONNECT_TIMEOUT, builder.max_queued(QUEUE).build()).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

/// A call of the manager.
pub fn manager_call<B>(member: &'static str, body: &B) -> Result<Message, BusError>
where
    B: serde::Serialize + zbus::wire::DynamicType,
{
    call(SYSTEMD, MANAGER_PATH, MANAGER, member, body)
}

/// A call of any object.
pub fn call<B>(
    destination: &str,
    path: &str,
    interface: &str,
    member: &'static str,
    body: &B,
) -> Result<Message, BusError>
where
    B: serde::Serialize + zbus::wire::DynamicType,
{
    Message::method_call(path, member)
        .destination(destination)
        .interface(interface)
        .build(body)
        .map_err(|source| BusError::Reply {
            call: member,
            source,
        })
}

/// The reply itself, or the refusal that it is.
pub fn accept(call: &'static str, reply: Message) -> Result<Message, BusError> {
    if reply.message_type() != Type::Error {
        return Ok(reply);
    }
    let name = reply
        .header()
        .error_name()
        .map(ToString::to_string)
        .unwrap_or_default();
    let text = reply
        .body()
        .deserialize::<&str>()
        .unwrap_or_default()
        .to_owned();
    Err(BusError::Refused { call, name, text })
}
