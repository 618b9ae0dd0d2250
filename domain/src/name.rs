//! Names that people give to things.
use serde::{Deserialize, Serialize};

/// Longest name, in characters: fits a line of the console and of a log.
pub const NAME_CHARS_MAX: usize = 200;

/// 1 to 200 characters without control characters, not only blanks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("must not be empty")]
    Empty,
    #[error("must have at most {NAME_CHARS_MAX} characters")]
    TooLong,
    #[error("must not hold control characters")]
    Control,
}

impl Name {
    /// # Errors
    /// When the text is blank, too long, or holds a control character.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.trim().is_empty() {
            Err(NameError::Empty)
        } else if text.chars().count() > NAME_CHARS_MAX {
            Err(NameError::TooLong)
        } else if text.chars().any(char::is_control) {
            Err(NameError::Control)
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_1_to_200_characters_without_control_characters() {
        assert_eq!(Name::parse(""), Err(NameError::Empty));
        assert_eq!(Name::parse("  "), Err(NameError::Empty));
        assert_eq!(Name::parse("a\0b"), Err(NameError::Control));
        assert_eq!(Name::parse(&"ä".repeat(201)), Err(NameError::TooLong));
        assert!(Name::parse(&"ä".repeat(200)).is_ok());
    }
}
