//! The messages, one JSON object a line.

use std::io::{self, BufRead, Read as _, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Trouble;

/// The only version there is. A receiver refuses others.
pub const VERSION: u32 = 1;
/// Longest message, in bytes, with the end of its line.
pub const MAX_WORD_BYTES: u64 = 4096;
/// Length of a SHA-256 in hexadecimal digits.
const SUM_DIGITS: usize = 64;

/// What the sender says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// This file is to be sent.
    Offer {
        /// Of this protocol.
        version: u32,
        /// The file's name, without folders.
        name: String,
        /// Its length.
        bytes: u64,
        /// How many files follow after this one.
        left: u32,
    },
    /// The bytes follow, from here to the end.
    Go {
        /// 0, or as many as the receiver said it has.
        from: u64,
    },
    /// The checksum of the whole file.
    Sum {
        /// SHA-256.
        sha256: Sum,
    },
}

/// What the receiver says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// To an offer: this is there of an earlier try.
    Have {
        /// How long it is; 0 when there is nothing.
        bytes: u64,
        /// SHA-256 of it.
        sha256: Sum,
    },
    /// To an offer: a file of this name and length is there; which is it?
    Exists {},
    /// The file is there, and right.
    Stored {
        /// Under which name.
        name: String,
    },
    /// The file is not taken.
    Refused {
        /// Why.
        why: Why,
    },
}

/// Why a file is not taken. A word, not a sentence: what a peer writes is not shown to people.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// Another file has this name.
    Exists,
    /// The name cannot be used.
    Name,
    /// There is no room on the receiver's disk.
    Full,
    /// The same file is being received from the same sender.
    Busy,
    /// The sender speaks another version.
    Version,
    /// The checksum is wrong.
    Damaged,
    /// Something else on the receiver's side, which its owner is told.
    Trouble,
}

/// A SHA-256 in lower case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sum(String);

impl Sum {
    /// As in the output of `sha256sum`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Sum {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == SUM_DIGITS && text.bytes().all(digit) { Ok(Self(text)) } else { Err("no SHA-256".to_owned()) }
    }
}

impl From<Sum> for String {
    fn from(sum: Sum) -> Self {
        sum.0
    }
}

/// The next message; none at the end.
///
/// # Errors
/// [`Trouble::Broken`] when it is too long, cut off, or no message.
pub fn read<T: DeserializeOwned>(from: &mut impl BufRead) -> Result<Option<T>, Trouble> {
    let mut line = Vec::new();
    from.take(MAX_WORD_BYTES).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => serde_json::from_slice(&line)
            .map(Some)
            .map_err(|_| Trouble::Broken("the other side says what is no message".to_owned())),
        Some(_) => Err(Trouble::Broken("a message of the other side is too long or was cut off".to_owned())),
    }
}

/// Says `word`.
///
/// # Errors
/// When the connection fails.
pub fn write(to: &mut impl Write, word: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes on the wire; changing them is a change of [`VERSION`].
    #[test]
    fn messages_have_a_stable_form() {
        let sum = || Sum::try_from("0123456789abcdef".repeat(4)).unwrap();
        let words = [
            (
                Word::Offer { version: 1, name: "a\nb".into(), bytes: 7, left: 2 },
                r#"{"offer":{"version":1,"name":"a\nb","bytes":7,"left":2}}"#,
            ),
            (Word::Go { from: 3 }, r#"{"go":{"from":3}}"#),
            (
                Word::Sum { sha256: sum() },
                r#"{"sum":{"sha256":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}}"#,
            ),
        ];
        for (word, line) in words {
            let mut written = Vec::new();
            write(&mut written, &word).unwrap();
            assert_eq!(written, format!("{line}\n").into_bytes());
            assert_eq!(read(&mut written.as_slice()).unwrap(), Some(word));
        }
        let answers = [
            (
                Answer::Have { bytes: 0, sha256: sum() },
                r#"{"have":{"bytes":0,"sha256":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}}"#,
            ),
            (Answer::Exists {}, r#"{"exists":{}}"#),
            (Answer::Stored { name: "a".into() }, r#"{"stored":{"name":"a"}}"#),
            (Answer::Refused { why: Why::Full }, r#"{"refused":{"why":"full"}}"#),
        ];
        for (answer, line) in answers {
            assert_eq!(serde_json::to_string(&answer).unwrap(), line);
            assert_eq!(read(&mut format!("{line}\nrest").as_bytes()).unwrap(), Some(answer));
        }
    }

    #[test]
    fn what_is_no_message_breaks_the_connection() {
        let long = format!("{{\"go\":{{\"from\":1}}{}}}\n", " ".repeat(5000));
        for bad in
            ["x\n", "{\"go\":{\"from\":1}}", "{\"go\":{\"from\":-1}}\n", "{\"sum\":{\"sha256\":\"00\"}}\n", &long]
        {
            assert!(matches!(read::<Word>(&mut bad.as_bytes()), Err(Trouble::Broken(_))), "{bad}");
        }
        assert!(read::<Word>(&mut "".as_bytes()).unwrap().is_none());
    }
}
