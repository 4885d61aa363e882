//! Single calls of the manager, for commands that a person runs.

use std::time::Duration;

use tokio::time::timeout;
use zbus::Message;

use super::bus::{self, Bus, BusError, Traffic};
use super::watch::{property_call, reply_serial};

/// How long systemd may take to tell its version.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take to read all unit files; two thousand take it a second.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(90);

/// Makes systemd read its unit files again, as `systemctl daemon-reload` does, and waits until it
/// has.
///
/// # Errors
///
/// A sentence that says why it could not be told to, or that it has not answered.
pub async fn reload() -> Result<(), String> {
    let reload = async { ask("Reload", &bus::manager_call("Reload", &())?).await };
    match timeout(RELOAD_TIMEOUT, reload).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(BusError::Timeout("Reload").to_string()),
    }
}

/// systemd's version, as the distribution writes it; `None` if it cannot be asked.
pub async fn version() -> Option<String> {
    let version = async { ask("Get", &property_call("Version")?).await };
    let reply = timeout(ANSWER_TIMEOUT, version).await.ok()?.ok()?;
    let body = reply.body();
    let version = body.deserialize::<zbus::wire::Variant<'_>>().ok()?;
    version.downcast().ok()
}

/// Makes one call on a connection of its own.
async fn ask(call: &'static str, message: &Message) -> Result<Message, BusError> {
    let traffic = Traffic::default();
    let mut bus = Bus::connect(&traffic).await?;
    let serial = bus.send(message).await?;
    loop {
        let message = bus.next().await?;
        if reply_serial(&message) == Some(serial) {
            return bus::accept(call, message);
        }
    }
}
