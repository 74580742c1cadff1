//! The load: fallback requests as the client writes them, on blocking sockets, one connection at a time.

use std::{
    io::{self, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use fallgate::node::client::insecure_tls;
use rustls::{CipherSuite, ClientConfig, ClientConnection, pki_types::ServerName};
use uuid::Uuid;

/// A token of the right shape.
pub(crate) const TOKEN: &str = "ATM3_ACsGh7NRzGA2-ANT6j6mT3O4UYw48JKSstgxg2y8PunjPYAAEc-5aMrqwWI9XCbMaE2Kxk_3MTA";
/// Body bytes given to TLS at a time.
pub(crate) const PIECE: usize = 64 * 1024;
/// The most that the load waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A version of TLS.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tls {
    V12,
    V13,
}

impl Tls {
    /// AES-256-GCM with P-256, no resumption, no verification: like the real client but for the version.
    pub(crate) fn config(self) -> Arc<ClientConfig> {
        let config = insecure_tls().expect("the settings of the real client");
        match self {
            Tls::V12 => config,
            Tls::V13 => {
                let mut provider = rustls::crypto::aws_lc_rs::default_provider();
                provider.cipher_suites.retain(|s| s.suite() == CipherSuite::TLS13_AES_256_GCM_SHA384);
                provider.kx_groups.retain(|g| g.name() == rustls::NamedGroup::secp256r1);
                let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
                    .with_protocol_versions(&[&rustls::version::TLS13])
                    .expect("TLS 1.3")
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(trust::Anybody))
                    .with_no_client_auth();
                config.enable_sni = false;
                config.resumption = rustls::client::Resumption::disabled();
                Arc::new(config)
            }
        }
    }
}

/// One TLS connection with a proxy.
pub(crate) struct Link {
    tcp: BufReader<TcpStream>,
    tls: ClientConnection,
    buffer: Vec<u8>,
}

impl Link {
    /// Connects and shakes hands.
    pub(crate) fn open(address: SocketAddr, config: &Arc<ClientConfig>) -> Link {
        let tcp = TcpStream::connect(address).expect("a proxy that listens");
        tcp.set_nodelay(true).expect("a socket");
        tcp.set_read_timeout(Some(PATIENCE)).expect("a socket");
        tcp.set_write_timeout(Some(PATIENCE)).expect("a socket");
        let name = ServerName::from(address.ip());
        let mut tls = ClientConnection::new(config.clone(), name).expect("a TLS client");
        tls.set_buffer_limit(Some(4 * PIECE));
        let mut link = Link { tcp: BufReader::with_capacity(4 * PIECE, tcp), tls, buffer: vec![0; PIECE] };
        while link.tls.is_handshaking() {
            link.flush();
            if link.tls.is_handshaking() {
                link.more().expect("a handshake");
            }
        }
        link.flush();
        link
    }

    fn flush(&mut self) {
        while self.tls.wants_write() {
            self.tls.write_tls(self.tcp.get_mut()).expect("a proxy that reads");
        }
    }

    fn more(&mut self) -> io::Result<usize> {
        let n = self.tls.read_tls(&mut self.tcp)?;
        self.tls.process_new_packets().map_err(io::Error::other)?;
        Ok(n)
    }

    /// Sends all of `bytes`.
    pub(crate) fn send(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let n = self.tls.writer().write(bytes).expect("room");
            bytes = bytes.get(n..).unwrap_or_default();
            self.flush();
        }
    }

    /// Plain bytes into the buffer; 0 at the end of the stream.
    fn read(&mut self) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(&mut self.buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if self.more()? == 0 {
                        return Ok(0);
                    }
                }
                other => return other,
            }
        }
    }

    /// Reads a final answer with its whole body; returns the body's length.
    pub(crate) fn answer(&mut self, expected: u16) -> u64 {
        let mut head = Vec::new();
        let (end, mut body) = loop {
            let n = self.read().unwrap_or_else(|e| panic!("no answer: {e}"));
            assert!(n > 0, "closed without an answer: {:?}", String::from_utf8_lossy(&head));
            head.extend_from_slice(self.buffer.get(..n).unwrap_or_default());
            if let Some(end) = head.windows(4).position(|w| w == b"\r\n\r\n") {
                break (end, head.len() - end - 4);
            }
        };
        let text = String::from_utf8_lossy(head.get(..end).unwrap_or_default()).to_ascii_lowercase();
        assert_eq!(text.split(' ').nth(1), Some(expected.to_string().as_str()), "unexpected answer: {text}");
        let length = text.lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        let length = length.expect("an answer with a length");
        while body < length {
            let n = self.read().expect("a body");
            assert!(n > 0, "the body ends early");
            body += n;
        }
        length as u64
    }

    /// Closes as the client does: close_notify, then waits for the other side.
    pub(crate) fn close(mut self) {
        self.tls.send_close_notify();
        self.flush();
        while self.read().is_ok_and(|n| n > 0) {}
        let _ = self.tcp.get_ref().shutdown(Shutdown::Both);
    }
}

/// One session's requests.
pub(crate) struct Session {
    id: String,
    host: String,
    scheme: &'static str,
}

impl Session {
    /// A session with an id of its own at a proxy; nothing is sent yet.
    pub(crate) fn new(address: SocketAddr) -> Session {
        Session { id: Uuid::new_v4().to_string(), host: address.to_string(), scheme: "https" }
    }

    /// The same without TLS.
    pub(crate) fn plain(address: SocketAddr) -> Session {
        Session { scheme: "http", ..Session::new(address) }
    }

    fn head(&self, method: &str, operation: &str, fields: &str) -> String {
        let (id, host, scheme) = (&self.id, &self.host, self.scheme);
        format!(
            "{method} {scheme}://{host}/aspera/{scheme}/{id}/{operation}/{}.ashttp HTTP/1.1\r\n\
             User-Agent: Aspera FASP HTTP Client\r\nHost: {host}\r\n{fields}\r\n",
            Uuid::new_v4()
        )
    }

    /// Starts the session on a connection; `source` makes it a download of that file.
    pub(crate) fn start(&self, link: &mut Link, source: Option<&str>) {
        let (head, body) = self.start_request(source);
        link.send(head.as_bytes());
        link.send(body.as_bytes());
        link.answer(200);
    }

    /// What starts the session: head and body.
    pub(crate) fn start_request(&self, source: Option<&str>) -> (String, String) {
        let operation = if source.is_some() { "get" } else { "put" };
        let body = format!(
            "<session>\n\n  <id>{}</id>\n  <operation>{operation}</operation>\n\n  <token>{TOKEN}</token>\n\n  \
             <source>{}</source>\n  <destination>/</destination>\n\n  <user>xfer</user>\n</session>\n",
            self.id,
            source.unwrap_or("/tmp/file")
        );
        let fields = format!(
            "Content-Length: {}\r\nKeep-Alive: 300\r\nConnection: keep-alive\r\nx-session-protocol-version: 1\r\n",
            body.len()
        );
        (self.head("POST", "session_start/OOB", &fields), body)
    }

    /// The head of an upload of `length` bytes.
    pub(crate) fn put_head(&self, length: usize) -> String {
        let fields = format!(
            "Accept: application/octet-stream\r\nKeep-Alive: 300\r\nContent-Length: {length}\r\n\
             Connection: keep-alive\r\nx-file-access-permissions: 33188\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\n\
             x-next-wire-file: another\r\nx-next-wire-file-time: 1500000000\r\nx-next-wire-file-size: {length}\r\n\
             x-File-accessible: 1\r\n"
        );
        self.head("PUT", "file/some%20file", &fields)
    }

    /// Uploads `length` bytes; head and body are written separately.
    pub(crate) fn put(&self, link: &mut Link, length: usize) {
        const ZEROS: &[u8; PIECE] = &[0; PIECE];
        link.send(self.put_head(length).as_bytes());
        let mut left = length;
        while left > 0 {
            let n = left.min(PIECE);
            link.send(ZEROS.get(..n).unwrap_or_default());
            left -= n;
        }
        link.answer(201);
    }

    /// Downloads the file that the start named.
    pub(crate) fn get(&self, link: &mut Link, name: &str) -> u64 {
        link.send(self.get_head(name).as_bytes());
        link.answer(200)
    }

    /// The head of that download.
    pub(crate) fn get_head(&self, name: &str) -> String {
        self.head("GET", &format!("file/{name}"), "x-get-file-index: 0\r\nx-client-supports: ;start-override;\r\n")
    }

    /// Ends the session.
    pub(crate) fn end(&self, link: &mut Link) {
        let (head, body) = self.end_request();
        link.send(head.as_bytes());
        link.send(body.as_bytes());
        link.answer(200);
    }

    /// What ends the session: head and body.
    pub(crate) fn end_request(&self) -> (String, &'static str) {
        let body = "<session>\n\n  <reason>DONE</reason>\n  <code>0</code>\n</session>\n";
        (self.head("POST", "session_end/OOB", &format!("Content-Length: {}\r\n", body.len())), body)
    }
}

mod trust {
    //! A verifier that lets everybody in; the load is no place to spend time on certificates.

    use rustls::{
        DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        pki_types::{CertificateDer, ServerName, UnixTime},
    };

    #[derive(Debug)]
    pub(super) struct Anybody;

    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
        }
    }
}
