//! The receiver's side.

use std::io::{self, BufRead, Read as _, Write};
use std::path::{Path, PathBuf};

use sha2::Digest as _;

use super::folder::{Folder, Partial, safe_name, sum_of};
use super::word::{self, Answer, Sum, VERSION, Why, Word};
use super::{PIECE_BYTES, Progress, Trouble, hex};
use crate::exit::{Code, Fault};

/// A file that is there now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// Where.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// How many of them were there already.
    pub resumed_from: u64,
    /// SHA-256 of the whole.
    pub sha256: Sum,
    /// How many files the sender has after this one.
    pub left: u32,
}

/// A file that a peer offers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// The safe form of its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    left: u32,
}

/// The next file that the other side offers; none when it has no more.
///
/// # Errors
/// When it says something else, or cannot be understood; it has been told, then.
pub fn next_offer(from: &mut impl BufRead, to: &mut impl Write) -> Result<Option<Offer>, Trouble> {
    match word::read(from)? {
        None => Ok(None),
        Some(Word::Offer { version, .. }) if version != VERSION => Err(refuse(to, Why::Version)),
        Some(Word::Offer { name, bytes, left, .. }) => match safe_name(&name) {
            Some(name) => Ok(Some(Offer { name, bytes, left })),
            None => Err(refuse(to, Why::Name)),
        },
        Some(other) => Err(unexpected(&other)),
    }
}

/// Takes the file `offer` of `sender`, an id, into `folder`.
///
/// # Errors
/// [`Trouble`]; what has arrived stays. After [`Trouble::Refused`] and [`Trouble::Here`] the sender knows it, too.
pub fn receive(
    folder: &Folder,
    sender: &str,
    offer: &Offer,
    from: &mut impl BufRead,
    to: &mut impl Write,
    watch: &mut dyn FnMut(Progress),
) -> Result<Received, Trouble> {
    let received = |resumed_from, sha256| Received {
        path: folder.place(&offer.name),
        bytes: offer.bytes,
        resumed_from,
        sha256,
        left: offer.left,
    };
    if !folder.force && folder.is_taken(&offer.name) {
        let sum = compare(folder, offer, from, to, watch)?;
        return Ok(received(offer.bytes, sum));
    }
    let mut partial = folder.partial(&offer.name, sender, watch).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => refuse(to, Why::Busy),
        _ => stop(to, &folder.path, &error),
    })?;
    if !folder.force && folder.is_taken(&offer.name) {
        // Another stream of the same sender has finished it while this one waited.
        folder.give_up(partial);
        let sum = compare(folder, offer, from, to, watch)?;
        return Ok(received(offer.bytes, sum));
    }
    if folder.room().is_ok_and(|room| offer.bytes.saturating_sub(partial.bytes) > room) {
        return Err(stop(to, &partial.path, &io::ErrorKind::StorageFull.into()));
    }
    let resumed_from = agree(&mut partial, from, to)?;
    let missing = offer.bytes.saturating_sub(resumed_from);
    if let Err(trouble) = take(&mut partial, missing, from, watch) {
        return Err(match trouble {
            Failed::There(trouble) => trouble,
            Failed::Here(error, left) => {
                let trouble = stop(to, &partial.path, &error);
                // The answer arrives although the sender is in the middle of a file; he stops when he has read it.
                let _ = io::copy(&mut from.take(left), &mut io::sink());
                trouble
            }
        });
    }
    let sum = heard_sum(from)?;
    if hex(&partial.sum.clone().finalize()) != sum.as_str() {
        return Err(refuse(to, Why::Damaged));
    }
    match folder.finish(&partial, &offer.name) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(refuse(to, Why::Exists)),
        Err(error) => return Err(stop(to, &partial.path, &error)),
    }
    word::write(to, &Answer::Stored { name: offer.name.clone() })?;
    Ok(received(resumed_from, sum))
}

/// Something has the name of the file. If it is the file itself, a sender came again who did not hear that it had arrived.
fn compare(
    folder: &Folder,
    offer: &Offer,
    from: &mut impl BufRead,
    to: &mut impl Write,
    watch: &mut dyn FnMut(Progress),
) -> Result<Sum, Trouble> {
    if folder.length(&offer.name) != Some(offer.bytes) {
        return Err(refuse(to, Why::Exists));
    }
    // The sender says his checksum first: nobody learns one here of a file that he does not have.
    word::write(to, &Answer::Exists {})?;
    let theirs = heard_sum(from)?;
    let place = folder.place(&offer.name);
    let ours = sum_of(&place, watch).map_err(|error| stop(to, &place, &error))?;
    if hex(&ours.finalize()) != theirs.as_str() {
        return Err(refuse(to, Why::Exists));
    }
    word::write(to, &Answer::Stored { name: offer.name.clone() })?;
    Ok(theirs)
}

/// From where the sender goes on: the end of what is there, or 0, and then nothing is there any more.
fn agree(partial: &mut Partial, from: &mut impl BufRead, to: &mut impl Write) -> Result<u64, Trouble> {
    let sha256 = Sum::try_from(hex(&partial.sum.clone().finalize())).map_err(Trouble::Broken)?;
    word::write(to, &Answer::Have { bytes: partial.bytes, sha256 })?;
    match word::read(from)? {
        Some(Word::Go { from: 0 }) => {
            partial.clear().map_err(|error| stop(to, &partial.path, &error))?;
            Ok(0)
        }
        Some(Word::Go { from }) if from == partial.bytes => Ok(from),
        Some(other) => Err(unexpected(&other)),
        None => Err(Trouble::Broken("the connection ended".to_owned())),
    }
}

enum Failed {
    There(Trouble),
    /// The disk says this, and so many bytes are still to come.
    Here(io::Error, u64),
}

fn take(
    partial: &mut Partial,
    bytes: u64,
    from: &mut impl BufRead,
    watch: &mut dyn FnMut(Progress),
) -> Result<(), Failed> {
    let (mut buffer, mut left) = (vec![0; PIECE_BYTES], bytes);
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let length =
            from.read(buffer.get_mut(..most).unwrap_or_default()).map_err(|error| Failed::There(error.into()))?;
        if length == 0 {
            return Err(Failed::There(Trouble::Broken("the connection ended".to_owned())));
        }
        left = left.saturating_sub(length as u64);
        let piece = buffer.get(..length).unwrap_or_default();
        partial.file.write_all(piece).map_err(|error| Failed::Here(error, left))?;
        partial.sum.update(piece);
        partial.bytes = partial.bytes.saturating_add(length as u64);
        watch(Progress::At(partial.bytes));
    }
    Ok(())
}

fn heard_sum(from: &mut impl BufRead) -> Result<Sum, Trouble> {
    match word::read(from)? {
        Some(Word::Sum { sha256 }) => Ok(sha256),
        Some(other) => Err(unexpected(&other)),
        None => Err(Trouble::Broken("the connection ended".to_owned())),
    }
}

/// Tells the sender why not.
fn refuse(to: &mut impl Write, why: Why) -> Trouble {
    // He may have gone.
    let _ = word::write(to, &Answer::Refused { why });
    Trouble::Refused(why)
}

/// The disk does not let us: the sender is told which kind, the person here the rest.
fn stop(to: &mut impl Write, path: &Path, error: &io::Error) -> Trouble {
    let full =
        matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge);
    let _ = refuse(to, if full { Why::Full } else { Why::Trouble });
    let path = path.display();
    let line = if full {
        format!(
            "no room for {path}: {error}; what has arrived is kept. Make room, then receive again, and it goes on there"
        )
    } else {
        format!("cannot write {path}: {error}; choose another folder: muses receive --dir DIR")
    };
    Trouble::Here(Fault::new(Code::Failed, line))
}

fn unexpected(word: &Word) -> Trouble {
    let what = match word {
        Word::Offer { .. } => "an offer",
        Word::Go { .. } => "go",
        Word::Sum { .. } => "a sum",
    };
    Trouble::Broken(format!("the other side says {what} now, which makes no sense"))
}

/// What the person in front of the receiver is told about a refusal.
pub fn refusal(why: Why) -> &'static str {
    match why {
        Why::Exists => "another file of this name is here; move it away, or use --force",
        Why::Name => "its name cannot be used here",
        Why::Full => "there is no room for it",
        Why::Busy => "the same file is being received already",
        Why::Version => "the sender's muses speaks another version",
        Why::Damaged => "its checksum is wrong; the sender can try again",
        Why::Trouble => "it cannot be stored",
    }
}
