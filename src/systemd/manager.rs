//! Single calls of the manager, for commands that a person runs.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::timeout;
use zbus::Message;
use zbus::wire::Variant;

use super::bus::{self, Bus, BusError, Traffic};
use super::properties::{self, PULLED_IN_BY};
use super::settings::{as_text, fields, items};
use super::unit::suffix;
use super::watch::{
    UNIT_INTERFACE, WINDOW, known, object_path, own_interface, property_call, reply_serial,
};

/// How long systemd may take to tell a property.
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
    let version = body.deserialize::<Variant<'_>>().ok()?;
    version.downcast().ok()
}

/// Properties of a service that tell its environment.
const OF_ENVIRONMENT: [&str; 3] = ["Environment", "UnsetEnvironment", "EnvironmentFiles"];
/// Properties of a unit that tell whether its last start was passed over.
const OF_CONDITION: [&str; 2] = ["ConditionResult", "ConditionTimestampMonotonic"];

/// What the unit table does not keep, asked for once. Not `Debug`: an environment holds secrets.
#[derive(Default)]
pub struct Details {
    /// Environment=, each `NAME=value`, without the quotes of the unit file.
    pub environment: Vec<String>,
    /// UnsetEnvironment=: `NAME`, or `NAME=value`.
    pub unset: Vec<String>,
    /// EnvironmentFile=: paths or patterns, the later ones win.
    pub environment_files: Vec<String>,
    /// The units that start this one: WantedBy, RequiredBy, BoundBy, UpheldBy and TriggeredBy.
    pub pulled_in_by: Vec<String>,
    /// Its last start was passed over, because a Condition…= of its file did not hold.
    pub condition_failed: bool,
}

/// The details of these units, in their order. Asking loads a unit that systemd does not hold in
/// memory for a moment.
///
/// # Errors
///
/// A sentence that says why systemd could not be asked.
pub async fn details(ids: &[&str]) -> Result<Vec<Details>, String> {
    let mut wanted = Vec::new();
    for (unit, id) in ids.iter().enumerate() {
        let own = own_interface(id).unwrap_or_default();
        if suffix(id) == "service" {
            wanted.extend(OF_ENVIRONMENT.map(|name| (unit, own.clone(), name)));
        }
        let of_unit = PULLED_IN_BY.into_iter().chain(OF_CONDITION);
        wanted.extend(of_unit.map(|name| (unit, UNIT_INTERFACE.to_owned(), name)));
    }
    let make = |number: usize| {
        let (unit, interface, name) = &wanted[number];
        let path = object_path(ids[*unit]);
        bus::call(
            bus::SYSTEMD,
            &path,
            bus::PROPERTIES,
            "Get",
            &(interface, name),
        )
    };
    let values = ask_all(wanted.len(), make).await;
    let values = values.map_err(|error| error.to_string())?;

    let mut all: Vec<Details> = ids.iter().map(|_| Details::default()).collect();
    for ((unit, _, name), value) in wanted.iter().zip(values) {
        let details = &mut all[*unit];
        let texts = || properties::strings(value.as_ref()).unwrap_or_default();
        match *name {
            "Environment" => details.environment = texts(),
            "UnsetEnvironment" => details.unset = texts(),
            "EnvironmentFiles" => {
                let files = items(value.as_ref()).filter_map(|file| as_text(fields(file).first()?));
                details.environment_files = files.collect();
            }
            "ConditionResult" => {
                details.condition_failed = matches!(value, Some(Variant::Bool(false)));
            }
            // Zero: none was ever looked at.
            "ConditionTimestampMonotonic" => {
                details.condition_failed &= matches!(value, Some(Variant::U64(1..)));
            }
            _ => details.pulled_in_by.extend(texts()),
        }
    }
    for details in &mut all {
        details.pulled_in_by.sort_unstable();
        details.pulled_in_by.dedup();
    }
    Ok(all)
}

/// The values of these properties, in their order, asked for on a connection of its own; `None` for
/// what a unit does not have.
async fn ask_all(
    count: usize,
    make: impl Fn(usize) -> Result<Message, BusError>,
) -> Result<Vec<Option<Variant<'static>>>, BusError> {
    let traffic = Traffic::default();
    let mut bus = Bus::connect(&traffic).await?;
    let mut values: Vec<Option<Variant<'static>>> = (0..count).map(|_| None).collect();
    let mut in_flight = HashMap::new();
    let mut next = 0;
    while next < count || !in_flight.is_empty() {
        while next < count && in_flight.len() < WINDOW {
            in_flight.insert(bus.send(&make(next)?).await?, next);
            next += 1;
        }
        let answer = timeout(ANSWER_TIMEOUT, bus.next()).await;
        let message = answer.unwrap_or(Err(BusError::Timeout("Get")))?;
        let asked = reply_serial(&message).and_then(|serial| in_flight.remove(&serial));
        if let Some(number) = asked {
            values[number] = known(bus::accept("Get", message), properties::value)?;
        }
    }
    Ok(values)
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
