//! A value of a document with its place, so that every fault can say where it is.

use serde_json::Value;

use super::ManifestError;

/// The longest value that a fault repeats, in characters.
const VALUE_CHARS_MAX: usize = 60;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    source: &'a str,
    path: String,
    pub(super) value: &'a Value,
}

/// The faults found.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<ManifestError>);

impl Faults {
    pub(super) fn take(self) -> Vec<ManifestError> {
        self.0
    }

    pub(super) fn note(&mut self, field: &Field<'_>, reason: impl Into<String>, remedy: impl Into<String>) {
        self.push(field.source, field.path.clone(), shown(field.value), reason, remedy);
    }

    fn push(
        &mut self,
        source: &str,
        path: String,
        value: String,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let path = if path.is_empty() { "document".to_owned() } else { path };
        self.0.push(ManifestError {
            source_name: source.to_owned(),
            path,
            value,
            reason: reason.into(),
            remedy: remedy.into(),
        });
    }
}

impl<'a> Field<'a> {
    pub(super) const fn root(source: &'a str, value: &'a Value) -> Self {
        Self { source, path: String::new(), value }
    }

    /// A field of an object; `null` counts as absent, as for an API server.
    pub(super) fn field(&self, name: &str) -> Option<Self> {
        let value = self.value.get(name).filter(|value| !value.is_null())?;
        Some(Self { source: self.source, path: self.below(name), value })
    }

    pub(super) fn required(&self, name: &'static str, faults: &mut Faults) -> Option<Self> {
        let field = self.field(name);
        if field.is_none() {
            let (value, reason) = if self.value.is_object() {
                ("absent".to_owned(), "the field is required")
            } else {
                (shown(self.value), "there is no object to hold the field")
            };
            faults.push(self.source, self.below(name), value, reason, format!("add {name}"));
        }
        field
    }

    pub(super) fn text(&self, faults: &mut Faults) -> Option<&'a str> {
        self.expect(
            self.value.as_str(),
            "a string is wanted",
            "write a string, in quotes if it looks like a number",
            faults,
        )
    }

    pub(super) fn boolean(&self, faults: &mut Faults) -> Option<bool> {
        self.expect(self.value.as_bool(), "true or false is wanted", "write true or false without quotes", faults)
    }

    pub(super) fn integer(&self, least: u64, most: u64, faults: &mut Faults) -> Option<u64> {
        let number = self.value.as_u64().filter(|number| (least..=most).contains(number));
        self.expect(
            number,
            "the number is out of its range",
            &format!("write a whole number from {least} to {most}"),
            faults,
        )
    }

    pub(super) fn items(&self, faults: &mut Faults) -> Option<Vec<Self>> {
        let items = self.expect(self.value.as_array(), "a list is wanted", "write a list", faults)?;
        let item = |(index, value): (usize, &'a Value)| Self {
            source: self.source,
            path: format!("{}[{index}]", self.path),
            value,
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    pub(super) fn entries(&self, faults: &mut Faults) -> Option<Vec<(&'a str, Self)>> {
        let map = self.expect(self.value.as_object(), "a map is wanted", "write a map of names to values", faults)?;
        let entry = |(name, value): (&'a String, &'a Value)| {
            (name.as_str(), Self { source: self.source, path: self.below(name), value })
        };
        Some(map.iter().map(entry).collect())
    }

    fn expect<T>(&self, value: Option<T>, reason: &str, remedy: &str, faults: &mut Faults) -> Option<T> {
        if value.is_none() {
            faults.note(self, reason, remedy);
        }
        value
    }

    fn below(&self, name: &str) -> String {
        if name.contains(['.', '/']) {
            format!("{}[{name:?}]", self.path)
        } else if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= VALUE_CHARS_MAX {
        return text;
    }
    text.chars().take(VALUE_CHARS_MAX).chain(['…']).collect()
}
