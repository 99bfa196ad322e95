//! SOCKS version 5 as RFC 1928 has it, the server's part; if wanted with a password (RFC 1929).
//!
//! The maintained crates for this bring a second error and socket library along (fast-socks5 1.0), or are GPL (socks5-proto,
//! socks5-impl). What is needed here is three messages of at most 513 bytes each. Exactly what belongs to them is read, so that what a
//! program sends ahead of the reply stays in its socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use zeroize::Zeroizing;

use crate::token;

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const USERNAME_PASSWORD: u8 = 2;
const NO_ACCEPTABLE_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
/// RFC 1929: the version of its messages, and what says that the password is right or wrong.
const PASSWORD_VERSION: u8 = 1;
const RIGHT: u8 = 0;
const WRONG: u8 = 1;

/// REP of RFC 1928, section 6: how a request went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The connection is open.
    Succeeded = 0,
    /// Anything without a code of its own.
    GeneralFailure = 1,
    /// The one who offers the service, or this proxy, does not let this connection through.
    NotAllowed = 2,
    /// No such peer, or no way to it.
    HostUnreachable = 4,
    /// Nothing answers behind the service.
    ConnectionRefused = 5,
    /// The field's meaning of "TTL expired": no answer in time.
    TimedOut = 6,
    /// BIND, UDP ASSOCIATE, or no command of the RFC.
    CommandNotSupported = 7,
    /// An IP address, or no address type of the RFC.
    AddressTypeNotSupported = 8,
}

/// What a program wants to be connected to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The host, for the proxy to resolve.
    pub host: Host,
    /// Its port.
    pub port: u16,
}

/// DST.ADDR of RFC 1928.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Host {
    /// What somebody typed, at most 255 bytes.
    Name(String),
    /// The program has resolved a name itself, or was given an address.
    Address(IpAddr),
}

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub enum NoRequest {
    /// The first byte is another version's, or another protocol's.
    #[error("not SOCKS5 (its first byte is {0:#04x}); use a socks5h:// proxy setting")]
    NotSocks5(u8),
    /// It wants to authenticate, which is not offered.
    #[error("the program insists on a user name and password; this proxy has none")]
    NoMethod,
    /// It does not want to authenticate, which is required.
    #[error("the program has no password, and this proxy wants one (--socks-guard token)")]
    NoPassword,
    /// Its password is another one.
    #[error("a program has a wrong password")]
    WrongPassword,
    /// It was told why.
    #[error("refused: {0:?}")]
    Refused(Reply),
    /// The program is gone.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads the greeting and the request after it, between them `password` if there is one. What cannot be served is answered here.
///
/// # Errors
/// [`NoRequest`]; the connection is of no more use then.
pub async fn read_request<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    password: Option<&str>,
) -> Result<Request, NoRequest> {
    expect_version(stream).await?;
    let mut methods = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut methods).await?;
    let method = if password.is_some() { USERNAME_PASSWORD } else { NO_AUTHENTICATION };
    let offered = methods.contains(&method);
    stream.write_all(&[VERSION, if offered { method } else { NO_ACCEPTABLE_METHOD }]).await?;
    if !offered {
        return Err(if password.is_some() { NoRequest::NoPassword } else { NoRequest::NoMethod });
    }
    if let Some(password) = password {
        check_password(stream, password).await?;
    }

    expect_version(stream).await?;
    let command = stream.read_u8().await?;
    let _reserved = stream.read_u8().await?;
    let host = match stream.read_u8().await? {
        1 => Host::Address(Ipv4Addr::from(stream.read_u32().await?).into()),
        3 => {
            let mut name = vec![0; usize::from(stream.read_u8().await?)];
            stream.read_exact(&mut name).await?;
            // A name of other bytes than text is nobody's; it is refused as such.
            Host::Name(String::from_utf8_lossy(&name).into_owned())
        }
        4 => Host::Address(Ipv6Addr::from(stream.read_u128().await?).into()),
        _ => return Err(refuse(stream, Reply::AddressTypeNotSupported).await),
    };
    let port = stream.read_u16().await?;
    if command == CONNECT { Ok(Request { host, port }) } else { Err(refuse(stream, Reply::CommandNotSupported).await) }
}

/// Tells the program how it went. The bound address in the reply is the unspecified one: there is no IP address at the other end.
///
/// # Errors
/// When the program is gone.
pub async fn reply<S: AsyncWrite + Unpin>(stream: &mut S, reply: Reply) -> io::Result<()> {
    stream.write_all(&[VERSION, reply as u8, 0, 1, 0, 0, 0, 0, 0, 0]).await
}

/// Any user name will do: who has the password may use the proxy.
async fn check_password<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, password: &str) -> Result<(), NoRequest> {
    let version = stream.read_u8().await?;
    let mut name = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut name).await?;
    let mut given = Zeroizing::new(vec![0_u8; usize::from(stream.read_u8().await?)]);
    stream.read_exact(&mut given).await?;
    let right = version == PASSWORD_VERSION && token::same(password.as_bytes(), &given);
    stream.write_all(&[PASSWORD_VERSION, if right { RIGHT } else { WRONG }]).await?;
    if right { Ok(()) } else { Err(NoRequest::WrongPassword) }
}

async fn expect_version<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(), NoRequest> {
    match stream.read_u8().await? {
        VERSION => Ok(()),
        other => Err(NoRequest::NotSocks5(other)),
    }
}

async fn refuse<S: AsyncWrite + Unpin>(stream: &mut S, why: Reply) -> NoRequest {
    match reply(stream, why).await {
        Ok(()) => NoRequest::Refused(why),
        Err(error) => error.into(),
    }
}

/// The reader alone, for the fuzz targets.
#[doc(hidden)]
pub mod fuzzing {
    use futures::FutureExt as _;

    /// Whether `bytes` begin with a request that is served.
    pub fn is_request(bytes: &[u8], password: Option<&str>) -> bool {
        let mut stream = tokio::io::join(bytes, tokio::io::sink());
        // Neither half ever waits.
        super::read_request(&mut stream, password).now_or_never().is_some_and(|read| read.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the server makes of `sent`, and what it answered.
    async fn serve(sent: &[u8]) -> (Result<Request, NoRequest>, Vec<u8>) {
        serve_with(None, sent).await
    }

    async fn serve_with(password: Option<&str>, sent: &[u8]) -> (Result<Request, NoRequest>, Vec<u8>) {
        let (mut program, mut proxy) = tokio::io::duplex(1024);
        program.write_all(sent).await.unwrap();
        program.shutdown().await.unwrap();
        let request = read_request(&mut proxy, password).await;
        let mut rest = Vec::new();
        if request.is_ok() {
            proxy.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"ahead", "what was sent ahead is the connection's");
        }
        drop(proxy);
        let mut answered = Vec::new();
        program.read_to_end(&mut answered).await.unwrap();
        (request, answered)
    }

    #[tokio::test]
    async fn a_request_to_connect_is_read_to_its_last_byte() {
        let (request, answered) = serve(b"\x05\x02\x02\x00\x05\x01\x00\x03\x0balice.muses\x1f\x90ahead").await;
        assert_eq!(request.unwrap(), Request { host: Host::Name("alice.muses".into()), port: 8080 });
        assert_eq!(answered, [5, 0]);
        let (request, _) = serve(b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50ahead").await;
        assert_eq!(request.unwrap().host, Host::Address([127, 0, 0, 1].into()));
        let v6 = [b"\x05\x01\x00\x05\x01\x00\x04".as_slice(), &[0; 15], b"\x01\x00\x50ahead"].concat();
        assert_eq!(serve(&v6).await.0.unwrap().host, Host::Address(Ipv6Addr::LOCALHOST.into()));
    }

    #[tokio::test]
    async fn what_is_not_served_has_its_code() {
        for (sent, answer) in [
            (b"\x05\x01\x00\x05\x02\x00\x03\x01a\x00\x50".as_slice(), [5, 7, 0, 1, 0, 0, 0, 0, 0, 0]),
            (b"\x05\x01\x00\x05\x03\x00\x01\0\0\0\0\0\0", [5, 7, 0, 1, 0, 0, 0, 0, 0, 0]),
            (b"\x05\x01\x00\x05\xf0\x00\x03\x01a\x00\x50", [5, 7, 0, 1, 0, 0, 0, 0, 0, 0]),
            (b"\x05\x01\x00\x05\x01\x00\x05\x01a\x00\x50", [5, 8, 0, 1, 0, 0, 0, 0, 0, 0]),
        ] {
            let (request, answered) = serve(sent).await;
            assert!(matches!(request, Err(NoRequest::Refused(_))), "{sent:?}");
            assert_eq!(answered, [[5, 0].as_slice(), &answer].concat(), "{sent:?}");
        }
        let (request, answered) = serve(b"\x05\x01\x02\x01\x01u\x01p").await;
        assert!(matches!(request, Err(NoRequest::NoMethod)));
        assert_eq!(answered, [5, 0xff]);
        for (sent, first) in [(b"GET / HTTP/1.1\r\n".as_slice(), b'G'), (b"\x04\x01\x00\x50\0\0\0\x01u\0", 4)] {
            assert!(matches!(serve(sent).await.0, Err(NoRequest::NotSocks5(byte)) if byte == first));
        }
    }

    #[tokio::test]
    async fn where_a_password_is_wanted_only_the_right_one_will_do() {
        let with = |password: &str| {
            let length = [u8::try_from(password.len()).unwrap()];
            let request = b"\x05\x01\x00\x03\x0balice.muses\x1f\x90ahead";
            [b"\x05\x02\x00\x02\x01\x02me", length.as_slice(), password.as_bytes(), request].concat()
        };
        let (request, answered) = serve_with(Some("secret"), &with("secret")).await;
        assert_eq!(request.unwrap(), Request { host: Host::Name("alice.muses".into()), port: 8080 });
        assert_eq!(answered, [5, 2, 1, 0]);
        for wrong in ["", "secre", "secret ", "Secret"] {
            let (request, answered) = serve_with(Some("secret"), &with(wrong)).await;
            assert!(matches!(request, Err(NoRequest::WrongPassword)), "{wrong:?}");
            assert_eq!(answered, [5, 2, 1, 1], "{wrong:?}");
        }
        let (request, answered) = serve_with(Some("secret"), b"\x05\x01\x00\x05\x01\x00\x03\x01a\x00\x50").await;
        assert!(matches!(request, Err(NoRequest::NoPassword)), "none");
        assert_eq!(answered, [5, 0xff]);
        let whole = with("secret");
        for length in 0..whole.len() - "ahead".len() {
            let (request, _) = serve_with(Some("secret"), &whole[..length]).await;
            assert!(matches!(request, Err(NoRequest::Io(_))), "{length} bytes");
        }
    }

    #[tokio::test]
    async fn half_a_request_is_an_end_and_nothing_else() {
        let whole = b"\x05\x01\x00\x05\x01\x00\x03\x0balice.muses\x1f\x90";
        for length in 0..whole.len() {
            assert!(matches!(serve(&whole[..length]).await.0, Err(NoRequest::Io(_))), "{length} bytes");
        }
    }
}
