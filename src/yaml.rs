//! YAML as a tree that knows where everything stands, read by type with every mistake collected.

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::AliasLimits;
use serde_saphyr::{
    Budget, DuplicateKeyPolicy, Error, MergeKeyPolicy, MessageFormatter, NonFiniteFloatPolicy,
    Spanned, UserMessageFormatter,
};

/// A baseline of a thousand units stays well below; refused before it is parsed.
const MOST_BYTES: u64 = 1024 * 1024;

/// A baseline needs five levels; the rest is room for mistakes worth a better message.
const DEEPEST: usize = 32;
const TOO_DEEP: &str =
    "nested more than 32 levels deep: five are enough for any, look for a stray bracket";

/// More values than any host has units, few enough to report on at once.
const MOST_VALUES: usize = 50_000;

/// The largest file there may be, and as much again that aliases repeat.
const MOST_TEXT: usize = 2 * 1024 * 1024;

/// Enough to give a reason once and use it for every unit; too few to blow a file up.
const MOST_ALIASES: usize = 1_000;

/// How alike two keys must be before one is offered for the other.
const ALIKE: f64 = 0.8;

/// Longer texts are cut in messages.
const LONGEST_QUOTE: usize = 80;

/// A value and where it stands.
pub type Node = Spanned<Value>;

/// One YAML value. Mappings are lists of pairs, so that a key given twice can be seen.
#[derive(Debug)]
pub enum Value {
    Null,
    Bool(bool),
    /// As written, or nearly so: whoever wants a number parses it into the type it needs.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
}

impl Value {
    /// What the value is, for "found ...". Never its text: that may be a secret in the wrong place.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Mapping(_) => "a mapping",
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut mapping = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            mapping.push(entry);
        }
        Ok(Value::Mapping(mapping))
    }
}

/// The text of a file that is small enough and UTF-8. `noun` is what the file is, such as
/// "baseline".
pub fn read(path: &Path, noun: &str) -> Result<String, Mistake> {
    let mut bytes = Vec::new();
    // One byte past the limit tells "too large"; a pipe has no size to ask for.
    File::open(path)
        .and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| Mistake {
            may_pass: error.kind() != ErrorKind::IsADirectory,
            ..Mistake::of_file(&unreadable(&error, noun))
        })?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Mistake::of_file(&format!(
            "larger than 1 MiB, which no {noun} is: check that the path names the right file"
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let before = error.as_bytes().get(..offset).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Mistake::of_file(&format!(
            "not UTF-8 text, first at byte {offset} on line {line}: \
             save it as UTF-8, or check that the path names the right file"
        ))
    })
}

fn unreadable(error: &io::Error, noun: &str) -> String {
    let why = match error.kind() {
        ErrorKind::NotFound => "no such file, check the path".to_owned(),
        ErrorKind::IsADirectory => "this is a directory, name the file in it".to_owned(),
        ErrorKind::PermissionDenied => {
            "permission denied, let the exporter's user read it".to_owned()
        }
        _ => error.to_string(),
    };
    format!("reading the {noun}: {why}")
}

/// A line and a column of the file, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

impl Place {
    /// Where the file uses the value: for an alias that is the alias, not its anchor.
    pub fn of(node: &Node) -> Self {
        Self::from(node.referenced)
    }
}

impl From<serde_saphyr::Location> for Place {
    fn from(location: serde_saphyr::Location) -> Self {
        Self {
            line: location.line(),
            column: location.column(),
        }
    }
}

/// One mistake: where it stands, and a sentence that says what is wrong and how to put it right.
#[derive(Debug)]
pub struct Mistake {
    /// `None` where the mistake is the file itself.
    pub place: Option<Place>,
    /// What is wrong, and how to put it right.
    pub sentence: String,
    /// True where a file could not be read, which may be otherwise a moment later: a file system that
    /// is not mounted yet. False for what a file says.
    pub may_pass: bool,
}

impl Mistake {
    /// A mistake of the file as a whole.
    pub fn of_file(sentence: &str) -> Self {
        Self {
            place: None,
            sentence: sentence.to_owned(),
            may_pass: false,
        }
    }
}

/// Every mistake of one file, in the order of their places, one line each.
#[derive(Debug)]
pub struct Mistakes {
    /// The file's path.
    pub source: String,
    /// At least one.
    pub found: Vec<Mistake>,
}

impl Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.found.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.source)?;
            if let Some(Place { line, column }) = mistake.place {
                write!(f, ":{line}:{column}")?;
            }
            write!(f, ": {}", mistake.sentence)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

impl Mistakes {
    /// True if another try may do without anybody's help: nothing is wrong but that files could not
    /// be read.
    pub fn may_pass(&self) -> bool {
        self.found.iter().all(|mistake| mistake.may_pass)
    }
}

/// The text as a tree, or the one mistake that keeps it from being YAML. `noun` as for [`read`].
pub fn parse(text: &str, noun: &str) -> Result<Node, Mistake> {
    let mut budget = Budget::default();
    budget.max_depth = DEEPEST;
    budget.max_nodes = MOST_VALUES;
    budget.max_total_scalar_bytes = MOST_TEXT;
    budget.max_aliases = MOST_ALIASES;
    // One reason shared by twenty units is good use of an anchor, not an attack.
    budget.enforce_alias_anchor_ratio = false;
    let mut aliases = AliasLimits::default();
    aliases.max_total_replayed_events = MOST_VALUES;
    let options = serde_saphyr::options! {
        budget: Some(budget),
        alias_limits: aliases,
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| Mistake {
        place: error.location().map(Place::from),
        sentence: syntax_sentence(&error, noun),
        may_pass: false,
    })
}

fn syntax_sentence(error: &Error, noun: &str) -> String {
    match error {
        Error::AliasError { error, .. } => syntax_sentence(error, noun),
        Error::MultipleDocuments { .. } => format!(
            "a second YAML document begins here: a {noun} is one document, \
             delete the `---` line or keep the second in a file of its own"
        ),
        Error::UnknownAnchor { .. } => "this alias names an anchor that the file does not define: \
             write the value out, or define the anchor before it"
            .to_owned(),
        Error::Budget {
            breach: BudgetBreach::Depth { .. },
            ..
        } => TOO_DEEP.to_owned(),
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => format!(
            "more than {MOST_VALUES} values or {MOST_TEXT} bytes of text once aliases are written \
             out: this is no {noun}, or its aliases multiply each other"
        ),
        Error::UnsupportedTag { tag, .. } => {
            format!(
                "{} is no tag that a {noun} may use: write the value itself",
                quoted(tag)
            )
        }
        other => match UserMessageFormatter.format_message(other).as_ref() {
            // The scanner's own limit, met while it looks ahead of the budget.
            "recursion limit exceeded" => TOO_DEEP.to_owned(),
            message => format!(
                "not valid YAML: {message}; check indentation, brackets and quotes up to here, \
                 and put text that holds `: ` or ` #` in quotes"
            ),
        },
    }
}

/// The entries of one mapping: known keys only, each once, in the file's order.
pub struct Fields<'n> {
    entries: Vec<(&'n str, &'n Node)>,
    /// Keys that are mistyped in the file: to call them missing too would be one word too many.
    mistyped: Vec<&'static str>,
    place: Place,
}

impl<'n> Fields<'n> {
    /// The value of `key`; `None` where the file does not give it.
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        self.iter()
            .find(|(name, _)| *name == key)
            .map(|(_, node)| node)
    }

    /// Every entry, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&'n str, &'n Node)> {
        self.entries.iter().copied()
    }
}

/// The names read so far: in which list, and where.
pub type Seen = HashMap<String, (&'static str, Place)>;

/// Typed reading of the tree. A value that will not do is noted and read as `None`, so that the
/// next one still gets its turn.
#[derive(Default)]
pub struct Reader {
    pub mistakes: Vec<Mistake>,
}

impl Reader {
    /// Notes a mistake at `node`.
    pub fn refuse(&mut self, node: &Node, sentence: String) {
        self.refuse_at(Place::of(node), sentence);
    }

    fn refuse_at(&mut self, place: Place, sentence: String) {
        self.mistakes.push(Mistake {
            place: Some(place),
            sentence,
            may_pass: false,
        });
    }

    /// Notes that `node`, which `what` names, is not of the kind that it must be.
    pub fn wrong_type(&mut self, node: &Node, what: &str, expected: &str) {
        let found = node.value.kind();
        self.refuse(node, format!("{what} must be {expected}, found {found}"));
    }

    /// A mapping with some of `keys`. Nothing at all is an empty mapping.
    pub fn mapping<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        keys: &[&'static str],
    ) -> Option<Fields<'n>> {
        let mapping = match &node.value {
            Value::Null => [].as_slice(),
            Value::Mapping(mapping) => mapping.as_slice(),
            _ => {
                let keys = quoted_list(keys);
                self.wrong_type(node, what, &format!("a mapping of {keys}"));
                return None;
            }
        };
        let mut mistyped = Vec::new();
        let mut entries: Vec<(&str, &Node)> = Vec::with_capacity(keys.len());
        let mut places: Vec<(&str, Place)> = Vec::with_capacity(keys.len());
        for (key, value) in mapping {
            let Value::Text(name) = &key.value else {
                self.wrong_type(key, &format!("a key of {what}"), "a word");
                continue;
            };
            if !keys.contains(&name.as_str()) {
                let meant = closest(name, keys);
                mistyped.extend(meant);
                self.refuse(key, unknown_key(name, meant, what, keys));
            } else if let Some((_, first)) = places.iter().find(|(seen, _)| seen == name) {
                let line = first.line;
                self.refuse(
                    key,
                    format!("{what} gives `{name}` twice, first on line {line}: join the two"),
                );
            } else {
                places.push((name, Place::of(key)));
                entries.push((name, value));
            }
        }
        Some(Fields {
            entries,
            mistyped,
            place: Place::of(node),
        })
    }

    /// The keys and values of a mapping whose keys are the operator's own. Nothing at all is an
    /// empty one.
    pub fn entries<'n>(&mut self, node: &'n Node, what: &str) -> &'n [(Node, Node)] {
        match &node.value {
            Value::Null => &[],
            Value::Mapping(entries) => entries,
            _ => {
                self.wrong_type(node, what, "a mapping");
                &[]
            }
        }
    }

    /// The value of a key that must be there.
    pub fn required<'n>(
        &mut self,
        fields: &Fields<'n>,
        key: &str,
        what: &str,
        example: &str,
    ) -> Option<&'n Node> {
        let found = fields.get(key);
        if found.is_none() && !fields.mistyped.contains(&key) {
            self.refuse_at(
                fields.place,
                format!("{what} lacks `{key}`: add it, such as `{key}: {example}`"),
            );
        }
        found
    }

    /// A list. Nothing at all is an empty list.
    pub fn list<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match &node.value {
            Value::Null => &[],
            Value::List(list) => list,
            _ => {
                let found = node.value.kind();
                self.refuse(
                    node,
                    format!("{what} must be a list, found {found}: write `- ` before each entry"),
                );
                &[]
            }
        }
    }

    /// Remembers `name`, or notes a mistake where it was seen before.
    pub fn once(&mut self, seen: &mut Seen, node: &Node, name: &str, list: &'static str) -> bool {
        let Some((first_list, first)) = seen.get(name) else {
            seen.insert(name.to_owned(), (list, Place::of(node)));
            return true;
        };
        let (name, line) = (quoted(name), first.line);
        let sentence = if *first_list == list {
            format!("{name} stands twice under `{list}`, first on line {line}: delete one")
        } else {
            format!(
                "{name} stands under `{list}` here and under `{first_list}` on line {line}: \
                 a unit has one healthy state, delete one"
            )
        };
        self.refuse(node, sentence);
        false
    }

    /// Text of one line that says something.
    pub fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match &node.value {
            Value::Text(text) if text.trim().is_empty() => {
                self.refuse(
                    node,
                    format!("{what} is empty: fill it in or delete the line"),
                );
                None
            }
            Value::Text(text) if text.trim_end().chars().any(char::is_control) => {
                self.refuse(
                    node,
                    format!("{what} holds a line break or another control character: delete it"),
                );
                None
            }
            Value::Text(text) => Some(text.trim()),
            Value::Number(_) | Value::Bool(_) => {
                let found = node.value.kind();
                self.refuse(
                    node,
                    format!("{what} must be text, found {found}: put it in quotes"),
                );
                None
            }
            Value::Null | Value::List(_) | Value::Mapping(_) => {
                self.wrong_type(node, what, "text");
                None
            }
        }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        if let Value::Bool(value) = node.value {
            return Some(value);
        }
        self.wrong_type(node, what, "true or false");
        None
    }

    /// A duration with its unit, within `shortest` and a day; `why` says why not shorter.
    ///
    /// The upper bound keeps every later sum of instants away from overflow.
    pub fn duration(
        &mut self,
        node: &Node,
        what: &str,
        shortest: Duration,
        why: &str,
    ) -> Option<Duration> {
        const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
        let text = match &node.value {
            Value::Text(text) => text,
            Value::Number(number) => {
                self.refuse(
                    node,
                    format!("{what} has no unit: did you mean `{number}s`?"),
                );
                return None;
            }
            _ => {
                self.wrong_type(node, what, "a duration such as 90s or 5m");
                return None;
            }
        };
        match humantime::parse_duration(text) {
            Err(_) => {
                let text = quoted(text);
                self.refuse(
                    node,
                    format!("{what} is {text}, which is no duration: write one such as 90s or 5m"),
                );
                None
            }
            Ok(duration) if duration < shortest => {
                let shortest = humantime::format_duration(shortest);
                self.refuse(node, format!("{what} must be at least {shortest}: {why}"));
                None
            }
            Ok(duration) if duration > LONGEST => {
                self.refuse(
                    node,
                    format!("{what} must be at most a day: longer, and nobody would notice"),
                );
                None
            }
            Ok(duration) => Some(duration),
        }
    }

    /// A glob pattern.
    pub fn pattern(&mut self, node: &Node, what: &str) -> Option<glob::Pattern> {
        let text = self.text(node, what)?;
        match glob::Pattern::new(text) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                let (text, at, why) = (quoted(text), error.pos + 1, error.msg);
                self.refuse(
                    node,
                    format!("{what} {text} is no glob pattern, character {at}: {why}"),
                );
                None
            }
        }
    }
}

/// `text` in backquotes, safe to print: no control characters, cut when long.
pub fn quoted(text: impl Display) -> String {
    let text = text.to_string();
    let mut shown = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == LONGEST_QUOTE {
            shown.push('…');
            break;
        }
        shown.extend(character.escape_debug());
    }
    format!("`{shown}`")
}

/// `a`, `b` and `c`, each in backquotes.
pub fn quoted_list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// The word of `words` that is most like `word`, where one is alike enough to be meant.
pub fn closest<'w>(word: &str, words: &[&'w str]) -> Option<&'w str> {
    words
        .iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), *candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// Shows the key only where it looks like one: a mistyped mapping may have a password for a key.
fn unknown_key(name: &str, meant: Option<&str>, what: &str, keys: &[&str]) -> String {
    let is_word = name.len() <= LONGEST_QUOTE
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '<'));
    let shown = if is_word {
        format!(" `{name}`")
    } else {
        String::new()
    };
    match meant {
        Some(key) => format!("{what} has no key{shown}: did you mean `{key}`?"),
        None => format!("{what} has no key{shown}: it knows {}", quoted_list(keys)),
    }
}
