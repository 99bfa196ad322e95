//! The sender's side.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, TryRecvError};

use sha2::{Digest as _, Sha256};

use super::word::{self, Answer, Sum, VERSION, Why, Word};
use super::{PIECE_BYTES, Progress, Trouble, hex};
use crate::advice::quoted;
use crate::exit::{Code, Fault};

/// A file that is to be sent.
pub struct Source {
    shown: String,
    name: String,
    file: File,
    meta: Metadata,
}

/// How a file got there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Its name at the receiver's.
    pub stored_as: String,
    /// Its length.
    pub bytes: u64,
    /// How many of them were there already.
    pub resumed_from: u64,
    /// SHA-256 of the whole.
    pub sha256: Sum,
}

impl Source {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// [`Code::Usage`] for what is no regular file, or cannot be read.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let shown = path.display().to_string();
        let usage = |why: String| Fault::new(Code::Usage, format!("cannot send {shown}: {why}"));
        // Opening a FIFO would wait for its writer.
        let meta = std::fs::metadata(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                usage("there is no such file; check the spelling, and the folder you are in".to_owned())
            }
            _ => usage(format!("{error}; check its owner and mode")),
        })?;
        if meta.is_dir() {
            return Err(usage(format!("it is a folder; pack it first: {}", packing(path))));
        }
        if !meta.is_file() {
            return Err(usage("it is no regular file; put what it holds into one first".to_owned()));
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| usage("its name is no UTF-8; rename it".to_owned()))?.to_owned();
        let file = File::open(path).map_err(|error| usage(format!("{error}; check its owner and mode")))?;
        let meta = file.metadata().map_err(|error| usage(error.to_string()))?;
        // As those in /proc: how long it is, nobody knows before it is read.
        if meta.len() == 0 && (&file).read(&mut [0]).is_ok_and(|length| length > 0) {
            return Err(usage(
                "the system makes it while it is read; put what it holds into another file first: cp".to_owned(),
            ));
        }
        Ok(Self { shown, name, file, meta })
    }

    /// Its name, without folders.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.meta.len()
    }

    /// Hashes the next `bytes` bytes.
    fn hash(&self, sum: &mut Sha256, bytes: u64, watch: &mut dyn FnMut(Progress)) -> Result<(), Trouble> {
        self.pieces(bytes, |piece, at| {
            sum.update(piece);
            watch(Progress::Checking(at));
            Ok(())
        })
    }

    /// Hands `each` the next `bytes` bytes, piece by piece, and how many these were so far.
    fn pieces(&self, bytes: u64, mut each: impl FnMut(&[u8], u64) -> Result<(), Trouble>) -> Result<(), Trouble> {
        let (mut buffer, mut at) = (vec![0; PIECE_BYTES], 0);
        while at < bytes {
            let most = usize::try_from(bytes.saturating_sub(at)).unwrap_or(usize::MAX).min(PIECE_BYTES);
            let length = (&self.file).read(buffer.get_mut(..most).unwrap_or_default());
            let length = length.map_err(|error| self.unreadable(&error))?;
            if length == 0 {
                return Err(self.changed());
            }
            at = at.saturating_add(length as u64);
            each(buffer.get(..length).unwrap_or_default(), at)?;
        }
        Ok(())
    }

    fn rewind(&self) -> Result<(), Trouble> {
        (&self.file).seek(SeekFrom::Start(0)).map(drop).map_err(|error| self.unreadable(&error))
    }

    /// A file that somebody writes to while it is sent would arrive as a mixture that nobody ever had.
    fn check_unchanged(&self) -> Result<(), Trouble> {
        let now = self.file.metadata().map_err(|error| self.unreadable(&error))?;
        let same = now.len() == self.meta.len() && now.modified().ok() == self.meta.modified().ok();
        if same { Ok(()) } else { Err(self.changed()) }
    }

    fn changed(&self) -> Trouble {
        Trouble::Here(Fault::new(
            Code::Failed,
            format!("{} changed while it was sent; send it again when nobody writes to it", self.shown),
        ))
    }

    fn unreadable(&self, error: &io::Error) -> Trouble {
        Trouble::Here(Fault::new(Code::Failed, format!("{} cannot be read: {error}", self.shown)))
    }
}

/// The command that makes one file of a folder, beside it: within the folder it would be packed, too.
fn packing(folder: &Path) -> String {
    // Without a slash at the end; and `.` has no name until it is known where it is.
    let tidy: PathBuf = folder.components().collect();
    let tidy = if tidy.file_name().is_some() { tidy } else { folder.canonicalize().unwrap_or(tidy) };
    let (Some(name), Some(parent)) = (tidy.file_name(), tidy.parent()) else {
        return "tar czf FILE.tar.gz FOLDER".to_owned();
    };
    let mut archive = tidy.clone().into_os_string();
    archive.push(".tar.gz");
    // A name that begins with a dash would be an option.
    let packed = if name.as_encoded_bytes().starts_with(b"-") { Path::new(".").join(name) } else { name.into() };
    let archive = quoted(Path::new(&archive));
    if parent.as_os_str().is_empty() {
        format!("tar czf {archive} {}", quoted(&packed))
    } else {
        format!("tar czf {archive} -C {} {}", quoted(parent), quoted(&packed))
    }
}

/// Sends one file; `left` more follow. `answers` are those of the receiver: a channel, because a refusal may come while bytes are written.
///
/// # Errors
/// [`Trouble`]; after [`Trouble::Refused`] and [`Trouble::Here`] another try makes no sense, unless it is [`Why::Busy`].
pub fn send(
    source: &Source,
    left: u32,
    answers: &Receiver<Answer>,
    to: &mut impl Write,
    watch: &mut dyn FnMut(Progress),
) -> Result<Sent, Trouble> {
    let bytes = source.bytes();
    source.rewind()?;
    word::write(to, &Word::Offer { version: VERSION, name: source.name.clone(), bytes, left })?;
    let mut sum = Sha256::new();
    let resumed_from = match heard(answers)? {
        Answer::Exists {} => {
            source.hash(&mut sum, bytes, watch)?;
            bytes
        }
        Answer::Have { bytes: there, sha256 } => {
            if there <= bytes {
                source.hash(&mut sum, there, watch)?;
            }
            let goes_on = there <= bytes && hex(&sum.clone().finalize()) == sha256.as_str();
            if !goes_on {
                sum = Sha256::new();
                source.rewind()?;
            }
            let from = if goes_on { there } else { 0 };
            word::write(to, &Word::Go { from })?;
            source.pieces(bytes.saturating_sub(from), |piece, at| {
                sum.update(piece);
                if let Ok(answer) = answers.try_recv() {
                    return Err(unexpected(answer));
                }
                to.write_all(piece)?;
                watch(Progress::At(from.saturating_add(at)));
                Ok(())
            })?;
            from
        }
        other => return Err(unexpected(other)),
    };
    source.check_unchanged()?;
    let sha256 = Sum::try_from(hex(&sum.finalize())).map_err(Trouble::Broken)?;
    word::write(to, &Word::Sum { sha256: sha256.clone() })?;
    match heard(answers)? {
        Answer::Stored { name } => Ok(Sent { stored_as: name, bytes, resumed_from, sha256 }),
        other => Err(unexpected(other)),
    }
}

/// What a broken connection hides: the receiver may have refused just before it.
pub fn last_word(answers: &Receiver<Answer>, trouble: Trouble) -> Trouble {
    loop {
        match answers.try_recv() {
            Ok(Answer::Refused { why }) => return Trouble::Refused(why),
            Ok(_) => {}
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => return trouble,
        }
    }
}

fn heard(answers: &Receiver<Answer>) -> Result<Answer, Trouble> {
    answers.recv().map_err(|_| Trouble::Broken("the connection ended".to_owned()))
}

fn unexpected(answer: Answer) -> Trouble {
    match answer {
        Answer::Refused { why } => Trouble::Refused(why),
        // Without its words: they are the peer's.
        _ => Trouble::Broken("the other side gives another answer than it should".to_owned()),
    }
}

/// What the sender is told, after the name of the file.
pub fn refusal(why: Why) -> Fault {
    let (code, line) = match why {
        Why::Exists => {
            (Code::Refused, "the receiver has another file of this name; rename yours, or there: muses receive --force")
        }
        Why::Name => (Code::Refused, "the receiver cannot use this name; rename the file"),
        Why::Full => (
            Code::Failed,
            "the receiver's disk is full; what has arrived is kept, and the same command goes on there when there is room",
        ),
        Why::Busy => {
            (Code::Refused, "the receiver is at it with this file already; wait for the other `muses send` to end")
        }
        Why::Version => {
            (Code::Refused, "the receiver's muses speaks another version; install the same one on both sides")
        }
        Why::Damaged => {
            (Code::Failed, "what arrived has another checksum; is a disk broken? The same command tries it again")
        }
        Why::Trouble => (Code::Failed, "the receiver cannot store it; `muses receive` says why there"),
    };
    Fault::new(code, line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_packed_beside_itself_whatever_its_name_is() {
        let here = Path::new(".").canonicalize().unwrap();
        let (name, above) = (here.file_name().unwrap().display(), here.parent().unwrap().display());
        let of_here = format!("tar czf {above}/{name}.tar.gz -C {above} {name}");
        for (folder, command) in [
            ("my dir/", "tar czf 'my dir.tar.gz' 'my dir'"),
            ("-x", "tar czf -x.tar.gz ./-x"),
            ("/srv/a b", "tar czf '/srv/a b.tar.gz' -C /srv 'a b'"),
            (".", &of_here),
            ("/", "tar czf FILE.tar.gz FOLDER"),
        ] {
            assert_eq!(packing(Path::new(folder)), command);
        }
    }
}
