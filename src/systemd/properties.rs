//! From D-Bus messages to what the table understands.

use std::borrow::Cow;
use std::collections::HashMap;

use zbus::wire::Variant;
use zbus::{Message, wire};

use super::settings::{Settings, programs};
use super::unit::{Properties, Row, Stamps, word};

/// The properties in a PropertiesChanged signal; of those that were only invalidated it says
/// nothing.
pub fn of_signal(message: &Message) -> Result<Properties, zbus::Error> {
    let body = message.body();
    let (_, changed, _): (&str, HashMap<&str, Variant<'_>>, Vec<&str>) = body.deserialize()?;
    Ok(read(&changed))
}

/// The properties in a reply to GetAll.
pub fn of_reply(message: &Message) -> Result<Properties, zbus::Error> {
    let body = message.body();
    let all: HashMap<&str, Variant<'_>> = body.deserialize()?;
    Ok(read(&all))
}

/// One line of ListUnits as it travels: name, description, the three states, the unit it follows,
/// object path, and the queued job's number, type and path.
type ListedUnit<'a> = (
    &'a str,
    &'a str,
    &'a str,
    &'a str,
    &'a str,
    &'a str,
    wire::ObjectPath<'a>,
    u32,
    &'a str,
    wire::ObjectPath<'a>,
);

/// The lines in a reply to ListUnits, ListUnitsByPatterns or ListUnitsByNames.
pub fn rows(message: &Message) -> Result<Vec<Row>, zbus::Error> {
    let body = message.body();
    let units: Vec<ListedUnit<'_>> = body.deserialize()?;
    Ok(units
        .into_iter()
        .map(|(name, _, load, active, sub, ..)| Row {
            name: name.to_owned(),
            load_state: word(load),
            active_state: word(active),
            sub_state: word(sub),
        })
        .collect())
}

/// What of the Unit interface is read one by one. All at once would have systemd look for each
/// unit's enablement in every directory.
pub const OF_UNIT: [&str; 20] = [
    "ActiveState",
    "SubState",
    "StateChangeTimestamp",
    "StateChangeTimestampMonotonic",
    "InactiveExitTimestamp",
    "InactiveExitTimestampMonotonic",
    "ActiveEnterTimestamp",
    "ActiveEnterTimestampMonotonic",
    "ActiveExitTimestamp",
    "ActiveExitTimestampMonotonic",
    "InactiveEnterTimestamp",
    "InactiveEnterTimestampMonotonic",
    "InvocationID",
    "FragmentPath",
    "DropInPaths",
    "NeedDaemonReload",
    "Requires",
    "Requisite",
    "BindsTo",
    "PartOf",
];

/// What is read besides of the units that the baseline names: who starts them. A systemd that does
/// not know one of them says so.
pub const PULLED_IN_BY: [&str; 5] = [
    "WantedBy",
    "RequiredBy",
    "BoundBy",
    "UpheldBy",
    "TriggeredBy",
];

/// The value in a reply to Get.
pub fn value(reply: &Message) -> Result<Variant<'static>, zbus::Error> {
    let body = reply.body();
    let value: Variant<'_> = body.deserialize()?;
    Ok(value.try_to_owned()?.into())
}

/// What these properties say.
pub fn read(all: &HashMap<&str, Variant<'_>>) -> Properties {
    let micros = |key: &str| number(all.get(key));
    let stamps = micros("StateChangeTimestampMonotonic").map(|_| {
        let stamp = |realtime: &str, monotonic: &str| super::unit::Stamp {
            realtime: micros(realtime).unwrap_or(0),
            monotonic: micros(monotonic).unwrap_or(0),
        };
        Stamps {
            state_change: stamp("StateChangeTimestamp", "StateChangeTimestampMonotonic"),
            inactive_exit: stamp("InactiveExitTimestamp", "InactiveExitTimestampMonotonic"),
            active_enter: stamp("ActiveEnterTimestamp", "ActiveEnterTimestampMonotonic"),
            active_exit: stamp("ActiveExitTimestamp", "ActiveExitTimestampMonotonic"),
            inactive_enter: stamp("InactiveEnterTimestamp", "InactiveEnterTimestampMonotonic"),
        }
    });
    let requires = all.contains_key("Requires").then(|| {
        ["Requires", "Requisite", "BindsTo"]
            .iter()
            .flat_map(|key| strings(all.get(*key)).unwrap_or_default())
            // Every unit has these; what they miss, the whole host misses.
            .filter(|name| !name.ends_with(".slice") && name != "sysinit.target")
            .collect()
    });
    let pulled_in = PULLED_IN_BY
        .iter()
        .filter_map(|key| strings(all.get(*key)))
        .map(|units| !units.is_empty())
        .reduce(|pulled_in, also| pulled_in || also);
    Properties {
        load_state: text(all.get("LoadState")),
        active_state: text(all.get("ActiveState")),
        sub_state: text(all.get("SubState")),
        fragment_path: text(all.get("FragmentPath")).map(Cow::into_owned),
        drop_in_paths: strings(all.get("DropInPaths")),
        need_daemon_reload: flag(all.get("NeedDaemonReload")),
        remain_after_exit: flag(all.get("RemainAfterExit")),
        stamps,
        invocation: bytes(all.get("InvocationID")),
        requires,
        part_of: strings(all.get("PartOf")),
        pulled_in,
        kind: text(all.get("Type")),
        restart: text(all.get("Restart")),
        n_restarts: count(all.get("NRestarts")),
        result: text(all.get("Result")),
        exec_main_code: integer(all.get("ExecMainCode")),
        exec_main_status: integer(all.get("ExecMainStatus")),
        exec_main_start: micros("ExecMainStartTimestampMonotonic"),
        main_pid: count(all.get("MainPID")),
        control_pid: count(all.get("ControlPID")),
        settings: Settings::read(all),
        programs: programs(all),
        control_group: text(all.get("ControlGroup")).map(Cow::into_owned),
        slice: text(all.get("Slice")).map(Cow::into_owned),
        last_trigger: micros("LastTriggerUSec"),
        next_elapse_realtime: micros("NextElapseUSecRealtime"),
        next_elapse_monotonic: micros("NextElapseUSecMonotonic"),
        n_accepted: count(all.get("NAccepted")),
        n_connections: count(all.get("NConnections")),
        n_refused: count(all.get("NRefused")),
    }
}

fn text(value: Option<&Variant<'_>>) -> Option<Cow<'static, str>> {
    match value {
        Some(Variant::Str(text)) => Some(word(text.as_str())),
        _ => None,
    }
}

fn flag(value: Option<&Variant<'_>>) -> Option<bool> {
    match value {
        Some(Variant::Bool(flag)) => Some(*flag),
        _ => None,
    }
}

fn number(value: Option<&Variant<'_>>) -> Option<u64> {
    match value {
        Some(Variant::U64(number)) => Some(*number),
        _ => None,
    }
}

fn count(value: Option<&Variant<'_>>) -> Option<u32> {
    match value {
        Some(Variant::U32(number)) => Some(*number),
        _ => None,
    }
}

fn integer(value: Option<&Variant<'_>>) -> Option<i32> {
    match value {
        Some(Variant::I32(number)) => Some(*number),
        _ => None,
    }
}

/// The texts in a list; `None` if it is none.
pub fn strings(value: Option<&Variant<'_>>) -> Option<Vec<String>> {
    let Some(Variant::Array(array)) = value else {
        return None;
    };
    let texts = array.inner().iter().filter_map(|item| match item {
        Variant::Str(text) => Some(text.as_str().to_owned()),
        _ => None,
    });
    Some(texts.collect())
}

/// The sixteen bytes of an InvocationID as one number; none at all mean zero.
fn bytes(value: Option<&Variant<'_>>) -> Option<u128> {
    let Some(Variant::Array(array)) = value else {
        return None;
    };
    let number = array.inner().iter().fold(0, |number, item| match item {
        Variant::U8(byte) => number << 8 | u128::from(*byte),
        _ => number,
    });
    Some(number)
}
