//! Names that people type.

use core::fmt;
use core::str::FromStr;

/// Longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 32;

/// A name that a node can claim: 1 to 32 characters of `a` to `z`, `0` to `9` and `-`, not starting or ending with `-`.
///
/// Without capitals and other alphabets, so that no two names look alike.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a [`Name`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a name (1 to 32 characters of a-z, 0-9 and inner -)")]
pub struct ParseNameError;

impl FromStr for Name {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let fits = !text.is_empty()
            && text.len() <= MAX_NAME_BYTES
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        if fits { Ok(Self(text.to_owned())) } else { Err(ParseNameError) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_short_lower_case_is_a_name() {
        for good in ["a", "alice", "a-b-3", "0", &"x".repeat(32)] {
            assert_eq!(good.parse::<Name>().map(|name| name.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "Alice", "a_b", "a b", "é", "-a", "a-", "a.b", &"x".repeat(33)] {
            assert_eq!(bad.parse::<Name>(), Err(ParseNameError), "{bad}");
        }
    }
}
