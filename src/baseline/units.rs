//! Section `systemd` of the baseline: the lists of units, and what a unit's name and entry may be.

use std::time::Duration;

use super::{Expected, Systemd, Unit};
use crate::yaml::{Fields, Node, Reader, Seen, Value, closest, quoted, quoted_list};

const SUFFIXES: [&str; 11] = [
    "service",
    "socket",
    "target",
    "timer",
    "path",
    "mount",
    "automount",
    "swap",
    "slice",
    "scope",
    "device",
];

/// systemd's own limit, `UNIT_NAME_MAX` without its final zero.
const LONGEST_UNIT_NAME: usize = 255;

const DEFAULT_RESYNC: Duration = Duration::from_secs(60);
/// How long a start may take where the baseline does not say.
pub const START_WITHIN: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_secs(1);

/// The section, less what is wrong in it; every unit once.
pub fn systemd(reader: &mut Reader, node: &Node) -> Option<Systemd> {
    let keys = [
        "watch", "running", "active", "absent", "disabled", "retired", "resync",
    ];
    let mistakes_before = reader.mistakes.len();
    let fields = reader.mapping(node, "`systemd`", &keys)?;
    let mut systemd = Systemd {
        watch: Vec::new(),
        units: Vec::new(),
        retired: Vec::new(),
        resync: DEFAULT_RESYNC,
    };
    let mut seen = Seen::new();
    let mut subjects = 0;
    for (key, node) in fields.iter() {
        let expected = match key {
            "watch" => {
                let patterns = reader.list(node, "`watch`");
                subjects += patterns.len();
                systemd.watch = watch(reader, patterns);
                continue;
            }
            "resync" => {
                let why = "each comparison asks systemd for every unit";
                if let Some(resync) = reader.duration(node, "`resync`", SHORTEST, why) {
                    systemd.resync = resync;
                }
                continue;
            }
            "running" => Expected::Running,
            "active" => Expected::Active,
            "absent" => Expected::Absent,
            "disabled" => Expected::Disabled,
            // Read last: what it may say depends on the other lists.
            _ => continue,
        };
        let entries = reader.list(node, &format!("`{key}`"));
        subjects += entries.len();
        for entry in entries {
            let Some((name_node, unit)) = unit(reader, entry, expected) else {
                continue;
            };
            if reader.once(&mut seen, name_node, &unit.name, expected.as_str()) {
                systemd.units.push(unit);
            }
        }
    }
    if let Some(node) = fields.get("retired") {
        systemd.retired = retired(reader, node, &seen);
    }
    // After another mistake, that one is the reason, and one word is enough.
    if subjects == 0 && reader.mistakes.len() == mistakes_before {
        reader.refuse(
            node,
            "`systemd` names no unit: fill at least one of `watch`, `running`, `active`, \
             `absent` and `disabled`"
                .to_owned(),
        );
    }
    Some(systemd)
}

fn watch(reader: &mut Reader, entries: &[Node]) -> Vec<glob::Pattern> {
    let mut patterns = Vec::with_capacity(entries.len());
    let mut seen = Seen::new();
    for node in entries {
        let Some(pattern) = reader.pattern(node, "watch pattern") else {
            continue;
        };
        let text = pattern.as_str();
        if let Some(sentence) = pattern_fault(text) {
            reader.refuse(node, sentence);
        } else if reader.once(&mut seen, node, text, "watch") {
            patterns.push(pattern);
        }
    }
    patterns
}

/// A watch pattern as the command line has it.
///
/// # Errors
///
/// A sentence that says why no unit can match it.
pub fn watch_pattern(text: &str) -> Result<glob::Pattern, String> {
    let pattern = glob::Pattern::new(text).map_err(|error| {
        let (at, why) = (error.pos + 1, error.msg);
        format!("no glob pattern, character {at}: {why}")
    })?;
    pattern_fault(text).map_or(Ok(pattern), Err)
}

/// Why no unit's name can match this pattern.
fn pattern_fault(text: &str) -> Option<String> {
    let suffixed = text
        .rsplit_once('.')
        .is_some_and(|(_, suffix)| SUFFIXES.contains(&suffix) || suffix.contains(['*', '?', '[']));
    if text.contains('/') {
        let text = quoted(text);
        Some(format!(
            "watch pattern {text} holds `/`, which no unit name does: delete the directory"
        ))
    } else if !suffixed && !text.ends_with('*') {
        let (text, meant) = (quoted(text), quoted(format!("{text}.service")));
        Some(format!(
            "watch pattern {text} matches no unit, they all have a suffix: did you mean {meant}?"
        ))
    } else {
        None
    }
}

/// One entry of a list of units, and the node that holds its name.
fn unit<'n>(reader: &mut Reader, entry: &'n Node, expected: Expected) -> Option<(&'n Node, Unit)> {
    let stands = matches!(expected, Expected::Running | Expected::Active);
    // A unit that is not to start has no time to start within.
    let keys: &[&'static str] = if stands {
        &["name", "tier", "because", "start_within"]
    } else {
        &["name", "tier", "because"]
    };
    let (name_node, fields) = named_entry(reader, entry, keys)?;
    let name = unit_name(reader, name_node);
    let mut unit = Unit {
        name: name.unwrap_or_default().to_owned(),
        expected,
        tier: if expected == Expected::Running { 1 } else { 2 },
        because: None,
        start_within: START_WITHIN,
    };
    if let Some(fields) = fields {
        if let Some(tier) = fields.get("tier").and_then(|node| tier(reader, node)) {
            unit.tier = tier;
        }
        unit.because = fields
            .get("because")
            .and_then(|node| reader.text(node, "`because`"))
            .map(str::to_owned);
        let why = "every start would count as stuck";
        if let Some(start_within) = fields
            .get("start_within")
            .and_then(|node| reader.duration(node, "`start_within`", SHORTEST, why))
        {
            unit.start_within = start_within;
        }
    }
    let name = name?;
    if let Some((prefix, rest)) = name.split_once('@')
        && rest
            .rsplit_once('.')
            .is_some_and(|(instance, _)| instance.is_empty())
    {
        let (name, meant) = (quoted(name), quoted(format!("{prefix}@NAME{rest}")));
        reader.refuse(
            name_node,
            format!(
                "{name} is a template, which has no state of its own: \
                 name an instance, such as {meant}"
            ),
        );
        return None;
    }
    if expected == Expected::Running && !name.ends_with(".service") {
        let name = quoted(name);
        reader.refuse(
            name_node,
            format!("{name} is no service, and only services run: move it to `active`"),
        );
        return None;
    }
    Some((name_node, unit))
}

/// An entry that is a name, or a mapping with `name` among its `keys`.
fn named_entry<'n>(
    reader: &mut Reader,
    entry: &'n Node,
    keys: &[&'static str],
) -> Option<(&'n Node, Option<Fields<'n>>)> {
    match &entry.value {
        Value::Text(_) => Some((entry, None)),
        Value::Mapping(_) => {
            let fields = reader.mapping(entry, "a unit's entry", keys)?;
            let name = reader.required(&fields, "name", "a unit's entry", "ssh.service")?;
            Some((name, Some(fields)))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) => {
            reader.refuse(
                entry,
                format!(
                    "a unit is written as its name, such as ssh.service, or as a mapping of {}, \
                     found {}",
                    quoted_list(keys),
                    entry.value.kind(),
                ),
            );
            None
        }
    }
}

/// A full unit name as systemd takes it.
pub fn unit_name<'n>(reader: &mut Reader, node: &'n Node) -> Option<&'n str> {
    let name = reader.text(node, "a unit name")?;
    match name_fault(name) {
        None => Some(name),
        Some(sentence) => {
            reader.refuse(node, sentence);
            None
        }
    }
}

/// Whether a list of the baseline can name this unit: a full name, and no template's.
pub fn is_unit_name(name: &str) -> bool {
    name_fault(name).is_none() && !name.contains("@.")
}

/// Why systemd would not take the name, as a sentence.
fn name_fault(name: &str) -> Option<String> {
    if name.len() > LONGEST_UNIT_NAME {
        return Some(format!(
            "{} is longer than systemd's limit of {LONGEST_UNIT_NAME} characters: shorten it",
            quoted(name)
        ));
    }
    if let Some(bad) = name.chars().find(|c| !is_unit_character(*c)) {
        return Some(format!(
            "{} holds {}, which no unit name does: write letters, digits and `:-_.\\@` only",
            quoted(name),
            quoted(bad)
        ));
    }
    let (prefix, suffix) = name.rsplit_once('.').unwrap_or((name, ""));
    if !SUFFIXES.contains(&suffix) {
        let meant = closest(suffix, &SUFFIXES).map_or_else(
            || format!("{name}.service"),
            |suffix| format!("{prefix}.{suffix}"),
        );
        return Some(format!(
            "{} has no unit suffix: did you mean {}?",
            quoted(name),
            quoted(meant)
        ));
    }
    (prefix.is_empty() || prefix.starts_with('@')).then(|| {
        format!(
            "{} is a suffix without a name: put the name before it",
            quoted(name)
        )
    })
}

fn is_unit_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@')
}

fn tier(reader: &mut Reader, node: &Node) -> Option<u8> {
    let found = match &node.value {
        Value::Number(number) => match number.parse() {
            Ok(tier @ 1..=3) => return Some(tier),
            _ => number.as_str(),
        },
        other => other.kind(),
    };
    reader.refuse(
        node,
        format!(
            "`tier` must be 1 (pages), 2 (opens a ticket) or 3 (dashboard only), found {found}"
        ),
    );
    None
}

fn retired(reader: &mut Reader, node: &Node, units: &Seen) -> Vec<String> {
    let mut retired = Vec::new();
    let mut seen = Seen::new();
    for entry in reader.list(node, "`retired`") {
        let Some((name_node, fields)) = named_entry(reader, entry, &["name", "because"]) else {
            continue;
        };
        // The reason is for whoever reads the file; no finding shows it.
        if let Some(because) = fields.and_then(|fields| fields.get("because")) {
            reader.text(because, "`because`");
        }
        let Some(name) = unit_name(reader, name_node) else {
            continue;
        };
        match units.get(name) {
            Some((list, first)) if *list != Expected::Absent.as_str() => {
                let (name, line) = (quoted(name), first.line);
                reader.refuse(
                    name_node,
                    format!(
                        "{name} is retired here and stands under `{list}` on line {line}: \
                         a retired unit is gone for good, delete one"
                    ),
                );
            }
            _ => {
                if reader.once(&mut seen, name_node, name, "retired") {
                    retired.push(name.to_owned());
                }
            }
        }
    }
    retired
}
