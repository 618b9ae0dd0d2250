//! Documents as a view store keeps them: facts, a personal part of one person, and the keys they are found by.
use marvin_domain::{Misfit, Position};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{borrow::Cow, fmt};
use uuid::Uuid;

/// A document of a read model. Its own JSON is its facts; the personal part is kept beside it, under its subject's key.
pub trait Document: Serialize + DeserializeOwned + Clone + PartialEq + std::fmt::Debug + Send + Sync + 'static {
    /// The person whose words the personal part holds; none where the document has no such part.
    fn subject(&self) -> Option<Uuid> {
        None
    }
    /// The personal part as JSON; none when there is none or it is erased.
    fn personal(&self) -> Option<Vec<u8>> {
        None
    }
    /// # Errors
    /// When the bytes are not the JSON of the personal part.
    fn fill_personal(&mut self, _personal: &[u8]) -> Result<(), serde_json::Error> {
        Ok(())
    }
}

/// A fact of a document by which lists may be filtered and sorted. A view store keeps it beside the sealed document, in clear.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Field {
    /// Lower case and `_`: it can stand in a table.
    pub name: Cow<'static, str>,
    pub kind: FieldKind,
    /// Most documents have [`Key::Null`] in it: no index that begins with it has them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_rare: bool,
}

/// What the keys of a field are, besides [`Key::Null`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldKind {
    /// [`Key::Id`].
    Id,
    /// [`Key::Text`].
    Text,
    /// [`Key::Integer`].
    Integer,
    /// [`Key::Integer`]: milliseconds since 1970.
    Time,
    /// [`Key::Integer`]: 0 or 1.
    Flag,
}

impl Field {
    pub const fn id(name: &'static str) -> Self {
        Self::new(name, FieldKind::Id)
    }

    pub const fn text(name: &'static str) -> Self {
        Self::new(name, FieldKind::Text)
    }

    pub const fn integer(name: &'static str) -> Self {
        Self::new(name, FieldKind::Integer)
    }

    pub const fn time(name: &'static str) -> Self {
        Self::new(name, FieldKind::Time)
    }

    pub const fn flag(name: &'static str) -> Self {
        Self::new(name, FieldKind::Flag)
    }

    /// The same field, where few documents have a key in it: an index that begins with it costs the others nothing.
    pub const fn rare(mut self) -> Self {
        self.is_rare = true;
        self
    }

    const fn new(name: &'static str, kind: FieldKind) -> Self {
        Self { name: Cow::Borrowed(name), kind, is_rare: false }
    }
}

impl FieldKind {
    /// Whether a document may have this key in a field of this kind.
    pub fn takes(self, key: &Key) -> bool {
        match key {
            Key::Id(_) => self == Self::Id,
            Key::Text(_) => self == Self::Text,
            Key::Integer(number) => match self {
                Self::Integer | Self::Time => true,
                Self::Flag => matches!(number, 0 | 1),
                Self::Id | Self::Text => false,
            },
            Key::Null => true,
        }
    }
}

/// The value of an index field: an id, a state, a number or a time, never personal text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    Id(Uuid),
    Text(String),
    Integer(i64),
    Null,
}

impl From<Uuid> for Key {
    fn from(id: Uuid) -> Self {
        Self::Id(id)
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Key {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<bool> for Key {
    fn from(flag: bool) -> Self {
        Self::Integer(i64::from(flag))
    }
}

impl From<chrono::DateTime<chrono::Utc>> for Key {
    fn from(time: chrono::DateTime<chrono::Utc>) -> Self {
        Self::Integer(time.timestamp_millis())
    }
}

impl<T: Into<Key>> From<Option<T>> for Key {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A document in clear bytes, on its way between a fold and a view store.
#[derive(Clone, PartialEq, Eq)]
pub struct RawDocument {
    pub id: Uuid,
    /// The last event that was folded in.
    pub position: Position,
    pub facts: Vec<u8>,
    pub personal: Option<Vec<u8>>,
    pub subject: Option<Uuid>,
    /// In the order of the projection's fields.
    pub keys: Vec<Key>,
}

impl RawDocument {
    /// The typed document; its personal part is erased when there is none.
    ///
    /// # Errors
    /// When the bytes are not a document of this type.
    pub fn open<D: Document>(&self) -> Result<D, Misfit> {
        let mut document: D = serde_json::from_slice(&self.facts)?;
        if let Some(personal) = &self.personal {
            document.fill_personal(personal)?;
        }
        Ok(document)
    }
}

/// Shows which document it is and none of its bytes: debug output ends up in logs.
impl fmt::Debug for RawDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawDocument").field("id", &self.id).field("position", &self.position).finish_non_exhaustive()
    }
}
