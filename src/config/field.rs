//! Reading a tree by path: each refusal names the key, the value, the place, the reason and the remedy.

use std::time::Duration;

use jiff::SignedDuration;

use super::tree::{Node, Place, Value};
use super::{Error, Refusal};

/// One key of the configuration, whether it is there or not.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    pub(super) path: String,
    pub(super) node: Option<&'a Node>,
}

/// A map of which every key is known.
#[derive(Debug)]
pub(super) struct Section<'a> {
    path: String,
    entries: Vec<(&'a str, &'a Node)>,
}

impl<'a> Section<'a> {
    /// The key of that name.
    pub(super) fn field(&self, name: &str) -> Field<'a> {
        let node = self.entries.iter().find(|(key, _)| *key == name).map(|(_, node)| *node);
        Field { path: join(&self.path, name), node }
    }
}

impl<'a> Field<'a> {
    pub(super) fn root(node: &'a Node) -> Self {
        Self { path: String::new(), node: Some(node) }
    }

    pub(super) fn place(&self) -> Option<Place> {
        self.node.map(|node| node.place)
    }

    /// The value is wrong.
    pub(super) fn refuse(&self, reason: impl Into<String>, remedy: impl Into<String>) -> Error {
        if is_secret(&self.path) {
            return self.refuse_secret(reason, remedy);
        }
        self.refuse_shown(self.node.map(|node| excerpt(&node.value.to_string())), reason, remedy)
    }

    /// The value is wrong and must not be shown.
    pub(super) fn refuse_secret(&self, reason: impl Into<String>, remedy: impl Into<String>) -> Error {
        self.refuse_shown(self.node.map(|_| "(hidden)".to_owned()), reason, remedy)
    }

    fn refuse_shown(&self, value: Option<String>, reason: impl Into<String>, remedy: impl Into<String>) -> Error {
        let key = if self.path.is_empty() { "the configuration".to_owned() } else { self.path.clone() };
        Error::Refused(Refusal { key, value, place: self.place(), reason: reason.into(), remedy: remedy.into() })
    }

    /// The value, where there is one: `key:` with nothing behind it counts as absent.
    fn value(&self) -> Option<&'a Value> {
        self.node.map(|node| &node.value).filter(|value| !matches!(value, Value::Null))
    }

    /// A map with no other keys than `known`. Keys that `foreign` accepts are handed to `others`. Absent: an empty one.
    pub(super) fn section(
        &self,
        known: &[&str],
        foreign: impl Fn(&str) -> bool,
        mut others: impl FnMut(Self),
    ) -> Result<Section<'a>, Error> {
        let mut entries = Vec::new();
        let map = match self.value() {
            None => &[][..],
            Some(Value::Map(map)) => map,
            Some(_) => return Err(self.refuse("it is no section", format!("put keys under it: {}", known.join(", ")))),
        };
        for (key, node) in map {
            let Value::Text(name) = &key.value else {
                let field = Self { path: self.path.clone(), node: Some(key) };
                return Err(field.refuse("it is used as a key", "use names as keys"));
            };
            let path = join(&self.path, name);
            if known.contains(&name.as_str()) {
                entries.push((name.as_str(), node));
            } else if foreign(name) {
                others(Self { path, node: Some(node) });
            } else {
                let place = Some(key.place);
                let hidden = is_secret(&path);
                let value = if hidden { "(hidden)".to_owned() } else { excerpt(&node.value.to_string()) };
                let value = Some(value);
                let reason = "no such key is known".to_owned();
                let remedy = format!("remove it or use one of {}", known.join(", "));
                return Err(Error::Refused(Refusal { key: path, value, place, reason, remedy }));
            }
        }
        Ok(Section { path: self.path.clone(), entries })
    }

    /// The items of a list. Absent: none.
    pub(super) fn list(&self, items_max: usize) -> Result<Vec<Self>, Error> {
        match self.value() {
            None => Ok(Vec::new()),
            Some(Value::List(items)) if items.len() <= items_max => {
                let item = |(index, node)| Self { path: format!("{}[{index}]", self.path), node: Some(node) };
                Ok(items.iter().enumerate().map(item).collect())
            }
            Some(Value::List(_)) => Err(self.refuse("it is too long", format!("list at most {items_max}"))),
            Some(_) => Err(self.refuse("it is no list", "write each item on a line of its own after a hyphen")),
        }
    }

    /// A text that is not empty.
    pub(super) fn text(&self) -> Result<Option<&'a str>, Error> {
        match self.value() {
            None => Ok(None),
            Some(Value::Text(text)) if text.len() > TEXT_BYTES_MAX => {
                Err(self.refuse("it is too long", format!("use at most {TEXT_BYTES_MAX} bytes")))
            }
            Some(Value::Text(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(_) => Err(self.refuse("it is no text", "put it in quotes")),
        }
    }

    /// A text that may never appear in a message.
    pub(super) fn secret(&self) -> Result<Option<&'a str>, Error> {
        self.text().map_err(|_| self.refuse_secret("it is no text of a sensible length", "put it in quotes"))
    }

    /// A text that has to be there.
    pub(super) fn required(&self, remedy: &str) -> Result<&'a str, Error> {
        match self.text()? {
            None => Err(self.refuse("it has to be set", remedy)),
            Some(text) if is_placeholder(text) => Err(self.refuse("a placeholder still stands there", remedy)),
            Some(text) => Ok(text),
        }
    }

    pub(super) fn boolean(&self) -> Result<Option<bool>, Error> {
        match self.value() {
            None => Ok(None),
            Some(Value::Boolean(value)) => Ok(Some(*value)),
            Some(_) => Err(self.refuse("it is neither true nor false", "write true or false without quotes")),
        }
    }

    /// A port from 1 to 65535.
    pub(super) fn port(&self) -> Result<u16, Error> {
        match self.value() {
            None => Err(self.refuse("it has to be set", PORT_REMEDY)),
            Some(Value::Integer(number)) => {
                let port = u16::try_from(*number).ok().filter(|port| *port != 0);
                port.ok_or_else(|| self.refuse("it is no port", PORT_REMEDY))
            }
            Some(_) => Err(self.refuse("it is no number", PORT_REMEDY)),
        }
    }

    /// One of the names given, or the first if absent.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<Option<T>, Error> {
        let Some(text) = self.text()? else { return Ok(None) };
        match choices.iter().find(|(name, _)| *name == text) {
            Some((_, choice)) => Ok(Some(*choice)),
            None => {
                let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
                Err(self.refuse("it is not among the choices", format!("use one of {}", names.join(", "))))
            }
        }
    }

    /// A duration such as `30s`, `5m` or `1h30m`, between two bounds, both included.
    pub(super) fn duration(&self, least: Duration, most: Duration) -> Result<Option<Duration>, Error> {
        let remedy = "write a number and a unit, such as 30s, 5m or 1h";
        let text = match self.value() {
            Some(Value::Integer(_) | Value::Float(_)) => return Err(self.refuse("the unit is missing", remedy)),
            _ => self.text()?,
        };
        let Some(text) = text else { return Ok(None) };
        let duration: SignedDuration = text.parse().map_err(|_| self.refuse("it is no duration", remedy))?;
        let duration = Duration::try_from(duration).map_err(|_| self.refuse("it is negative", remedy))?;
        if duration < least || duration > most {
            let remedy = format!("use {} to {}", shown(least), shown(most));
            return Err(self.refuse("it is out of bounds", remedy));
        }
        Ok(Some(duration))
    }
}

/// A duration as a person would write it in the configuration.
pub(super) fn shown(duration: Duration) -> String {
    SignedDuration::try_from(duration).map_or_else(|_| "for ever".to_owned(), |duration| format!("{duration:#}"))
}

/// Whether the text is one of the documentation's, meant to be replaced: `<...>`.
pub(super) fn is_placeholder(text: &str) -> bool {
    let text = text.trim();
    text.starts_with('<') && text.ends_with('>')
}

/// The longest text taken: names of the cloud and of Kubernetes have at most 253 characters, paths of Linux 4,096 bytes.
const TEXT_BYTES_MAX: usize = 4_096;

const PORT_REMEDY: &str = "use a number from 1 to 65535";

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Whether what stands at a path may be a secret, also when its key is misspelt.
fn is_secret(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    ["credential", "secret", "password", "token", "accesskey"].iter().any(|word| path.contains(word))
}

/// Characters of a value that a message shows.
const SHOWN_CHARS_MAX: usize = 120;

/// As much of a value as helps to find it.
fn excerpt(value: &str) -> String {
    match value.char_indices().nth(SHOWN_CHARS_MAX) {
        None => value.to_owned(),
        Some((end, _)) => format!("{}…", value.get(..end).unwrap_or_default()),
    }
}
