//! SPDY/3.1 as clients of Kubernetes speak it: the server's side of streams over one connection.
//!
//! Clients open streams, both sides send data and finish. Nobody uses flow control (neither do upstream's libraries):
//! the connection itself holds a fast peer back. Server push, priorities and settings are ignored.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::dictionary::dictionary;

const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FIN: u8 = 1;

/// The largest control frame that is read; headers here are a handful of short words.
const MAX_CONTROL: usize = 64 << 10;
/// The largest block of headers once decompressed.
const MAX_HEADERS: usize = 256 << 10;
/// Data is sent in pieces of at most this.
const MAX_PIECE: usize = 32 << 10;
const MAX_STREAMS: usize = 1024;

#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Protocol(&'static str),
}

/// A connection with a client.
#[derive(Debug)]
pub struct Session {
    accepted: mpsc::Receiver<Stream>,
    frames: mpsc::Sender<Frame>,
    tasks: tokio::task::JoinSet<()>,
}

/// A stream that the client opened.
#[derive(Debug)]
pub struct Stream {
    id: u32,
    headers: HashMap<String, String>,
    incoming: mpsc::Receiver<Bytes>,
    frames: mpsc::Sender<Frame>,
}

/// Our direction of a stream.
#[derive(Debug, Clone)]
pub struct Sender {
    id: u32,
    frames: mpsc::Sender<Frame>,
}

/// The connection is gone.
#[derive(Debug)]
pub struct Gone;

#[derive(Debug)]
enum Frame {
    Reply(u32),
    Data(u32, Bytes, bool),
    Ping(u32),
    Refuse(u32),
    GoAway,
}

impl Session {
    /// Serves a connection on which the protocol switch is done.
    pub fn serve(connection: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let (reader, writer) = tokio::io::split(connection);
        let (frames, outgoing) = mpsc::channel(16);
        let (accept, accepted) = mpsc::channel(16);
        let mut tasks = tokio::task::JoinSet::new();
        let to_writer = frames.clone();
        tasks.spawn(async move {
            if let Err(error) = receive(reader, accept, to_writer).await {
                tracing::debug!(%error, "a SPDY connection ended");
            }
        });
        tasks.spawn(async move {
            if let Err(error) = send(writer, outgoing).await {
                tracing::debug!(%error, "a SPDY connection broke");
            }
        });
        Self { accepted, frames, tasks }
    }

    /// The next stream that the client opens; `None` once it is gone.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.accepted.recv().await
    }

    /// Ends the connection after what was sent so far.
    pub async fn close(mut self) {
        const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
        let _ = self.frames.send(Frame::GoAway).await;
        self.accepted.close();
        // The client closes when it has read everything; one that does not is cut off.
        let _ = tokio::time::timeout(PATIENCE, async { while self.tasks.join_next().await.is_some() {} }).await;
    }
}

impl Stream {
    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// A header it was opened with, by its name in lower case; empty where it has none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }

    /// What comes in, whose end is the client's, and the way out.
    pub fn split(self) -> (mpsc::Receiver<Bytes>, Sender) {
        (self.incoming, Sender { id: self.id, frames: self.frames })
    }
}

impl Sender {
    /// Sends data.
    pub async fn send(&self, bytes: Bytes) -> Result<(), Gone> {
        self.frames.send(Frame::Data(self.id, bytes, false)).await.map_err(|_| Gone)
    }

    /// Ends our direction.
    pub async fn finish(&self) -> Result<(), Gone> {
        self.frames.send(Frame::Data(self.id, Bytes::new(), true)).await.map_err(|_| Gone)
    }
}

async fn receive(
    mut reader: impl AsyncRead + Unpin,
    accept: mpsc::Sender<Stream>,
    frames: mpsc::Sender<Frame>,
) -> Result<(), Broken> {
    let mut inflater = Inflater { inner: Decompress::new(true), dictionary: dictionary() };
    let mut streams: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
    let mut head = [0; 8];
    loop {
        if let Err(error) = reader.read_exact(&mut head).await {
            return if error.kind() == std::io::ErrorKind::UnexpectedEof { Ok(()) } else { Err(error.into()) };
        }
        let word = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let flags = head[4];
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        if word & 0x8000_0000 == 0 {
            data(&mut reader, &mut streams, word, length, flags & FIN != 0).await?;
            continue;
        }
        let (version, kind) = ((word >> 16) as u16 & 0x7fff, word as u16);
        if version != VERSION {
            return Err(Broken::Protocol("the client speaks another version of SPDY"));
        }
        if length > MAX_CONTROL {
            return Err(Broken::Protocol("a control frame is too long"));
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).await?;
        let number = |at: usize| -> Result<u32, Broken> {
            let bytes = body.get(at..at + 4).ok_or(Broken::Protocol("a control frame is too short"))?;
            Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) & 0x7fff_ffff)
        };
        match kind {
            SYN_STREAM => {
                let id = number(0)?;
                let block = body.get(10..).ok_or(Broken::Protocol("a control frame is too short"))?;
                // Also for a stream that is refused: compression carries state from block to block.
                let headers = inflater.headers(block)?;
                if streams.len() >= MAX_STREAMS || streams.contains_key(&id) {
                    let _ = frames.send(Frame::Refuse(id)).await;
                    continue;
                }
                let (to, incoming) = mpsc::channel(16);
                if flags & FIN == 0 {
                    streams.insert(id, to);
                }
                if frames.send(Frame::Reply(id)).await.is_err() {
                    return Ok(());
                }
                if accept.send(Stream { id, headers, incoming, frames: frames.clone() }).await.is_err() {
                    let _ = frames.send(Frame::Refuse(id)).await;
                }
            }
            RST_STREAM => {
                streams.remove(&number(0)?);
            }
            PING => {
                let id = body.first_chunk::<4>().ok_or(Broken::Protocol("a control frame is too short"))?;
                let _ = frames.send(Frame::Ping(u32::from_be_bytes(*id))).await;
            }
            GOAWAY => return Ok(()),
            _ => {}
        }
    }
}

async fn data(
    reader: &mut (impl AsyncRead + Unpin),
    streams: &mut HashMap<u32, mpsc::Sender<Bytes>>,
    id: u32,
    mut left: usize,
    last: bool,
) -> Result<(), Broken> {
    while left > 0 {
        let mut piece = BytesMut::zeroed(left.min(MAX_PIECE));
        reader.read_exact(&mut piece).await?;
        left -= piece.len();
        if let Some(to) = streams.get(&id)
            && to.send(piece.freeze()).await.is_err()
        {
            // Nobody reads it: what still comes is dropped.
            streams.remove(&id);
        }
    }
    if last {
        streams.remove(&id);
    }
    Ok(())
}

async fn send(mut writer: impl AsyncWrite + Unpin, mut frames: mpsc::Receiver<Frame>) -> Result<(), Broken> {
    let mut deflater = Compress::new(Compression::fast(), true);
    deflater.set_dictionary(&dictionary()).map_err(|_| Broken::Protocol("the dictionary was refused"))?;
    while let Some(frame) = frames.recv().await {
        match frame {
            Frame::Reply(id) => {
                // No headers: a count of zero.
                let mut block = Vec::with_capacity(64);
                let done = deflater.compress_vec(&0u32.to_be_bytes(), &mut block, FlushCompress::Sync);
                done.map_err(|_| Broken::Protocol("headers could not be compressed"))?;
                let mut body = id.to_be_bytes().to_vec();
                body.extend_from_slice(&block);
                control(&mut writer, SYN_REPLY, &body).await?;
            }
            Frame::Refuse(id) => {
                const REFUSED_STREAM: u32 = 3;
                let body = [id.to_be_bytes(), REFUSED_STREAM.to_be_bytes()].concat();
                control(&mut writer, RST_STREAM, &body).await?;
            }
            Frame::Ping(id) => control(&mut writer, PING, &id.to_be_bytes()).await?,
            Frame::GoAway => {
                control(&mut writer, GOAWAY, &[0; 8]).await?;
                writer.flush().await?;
                writer.shutdown().await?;
                return Ok(());
            }
            Frame::Data(id, bytes, last) => {
                let mut rest = bytes;
                loop {
                    let piece = rest.split_to(rest.len().min(MAX_PIECE));
                    let flags = if last && rest.is_empty() { FIN } else { 0 };
                    let length = (piece.len() as u32).to_be_bytes();
                    let mut head = id.to_be_bytes().to_vec();
                    head.extend_from_slice(&[flags, length[1], length[2], length[3]]);
                    writer.write_all(&head).await?;
                    writer.write_all(&piece).await?;
                    if rest.is_empty() {
                        break;
                    }
                }
            }
        }
        writer.flush().await?;
    }
    Ok(())
}

async fn control(writer: &mut (impl AsyncWrite + Unpin), kind: u16, body: &[u8]) -> Result<(), Broken> {
    let length = (body.len() as u32).to_be_bytes();
    let mut frame = (0x8000 | VERSION).to_be_bytes().to_vec();
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(&[0, length[1], length[2], length[3]]);
    frame.extend_from_slice(body);
    writer.write_all(&frame).await?;
    Ok(())
}

struct Inflater {
    inner: Decompress,
    dictionary: Vec<u8>,
}

impl Inflater {
    fn headers(&mut self, mut block: &[u8]) -> Result<HashMap<String, String>, Broken> {
        let mut plain: Vec<u8> = Vec::with_capacity(1024);
        while !block.is_empty() {
            if plain.len() >= MAX_HEADERS {
                return Err(Broken::Protocol("headers are too long"));
            }
            plain.reserve(1024);
            let before = self.inner.total_in();
            match self.inner.decompress_vec(block, &mut plain, FlushDecompress::Sync) {
                Ok(Status::BufError) if self.inner.total_in() == before && plain.capacity() > plain.len() => {
                    return Err(Broken::Protocol("headers are cut off"));
                }
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    let set = self.inner.set_dictionary(&self.dictionary);
                    set.map_err(|_| Broken::Protocol("the client uses another dictionary"))?;
                }
                Err(_) => return Err(Broken::Protocol("headers are not compressed as they should be")),
            }
            let consumed = usize::try_from(self.inner.total_in() - before).unwrap_or(block.len());
            block = block.get(consumed..).unwrap_or_default();
        }
        parse(&plain).ok_or(Broken::Protocol("headers are malformed"))
    }
}

fn parse(mut plain: &[u8]) -> Option<HashMap<String, String>> {
    fn number(plain: &mut &[u8]) -> Option<usize> {
        let (head, rest) = plain.split_first_chunk::<4>()?;
        *plain = rest;
        usize::try_from(u32::from_be_bytes(*head)).ok()
    }
    fn text(plain: &mut &[u8]) -> Option<String> {
        let length = number(plain)?;
        let (head, rest) = plain.split_at_checked(length)?;
        *plain = rest;
        Some(String::from_utf8_lossy(head).into_owned())
    }
    let count = number(&mut plain)?;
    let mut headers = HashMap::new();
    for _ in 0..count {
        let name = text(&mut plain)?.to_ascii_lowercase();
        // Several values are joined by NUL; one is all that is asked for here.
        let value = text(&mut plain)?;
        headers.insert(name, value.split('\0').next().unwrap_or_default().to_owned());
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame that opens a stream, as clients write it.
    fn open(deflater: &mut Compress, id: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&(text.len() as u32).to_be_bytes());
            plain.extend_from_slice(text.as_bytes());
        }
        let mut block = Vec::with_capacity(plain.len() + 256);
        deflater.compress_vec(&plain, &mut block, FlushCompress::Sync).unwrap();
        let mut body = id.to_be_bytes().to_vec();
        body.extend_from_slice(&[0; 6]);
        body.extend_from_slice(&block);
        let mut frame = vec![0x80, 3, 0, 1, 0];
        frame.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
        frame.extend_from_slice(&body);
        frame
    }

    fn data(id: u32, bytes: &[u8], last: bool) -> Vec<u8> {
        let mut frame = id.to_be_bytes().to_vec();
        frame.push(u8::from(last));
        frame.extend_from_slice(&(bytes.len() as u32).to_be_bytes()[1..]);
        frame.extend_from_slice(bytes);
        frame
    }

    #[tokio::test]
    async fn streams_carry_both_ways_and_end() {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let mut session = Session::serve(server);
        let mut deflater = Compress::new(Compression::fast(), true);
        deflater.set_dictionary(&dictionary()).unwrap();
        for id in [1, 3] {
            let kind = if id == 1 { "error" } else { "stdin" };
            client.write_all(&open(&mut deflater, id, &[("streamtype", kind), ("port", "80")])).await.unwrap();
        }
        client.write_all(&data(3, b"hello", false)).await.unwrap();
        client.write_all(&data(3, b" world", true)).await.unwrap();
        let error = session.accept().await.unwrap();
        let input = session.accept().await.unwrap();
        assert_eq!(
            (error.header("streamtype"), input.header("streamtype"), input.header("port")),
            ("error", "stdin", "80")
        );
        let (mut incoming, out) = input.split();
        let mut all = Vec::new();
        while let Some(bytes) = incoming.recv().await {
            all.extend_from_slice(&bytes);
        }
        assert_eq!(all, b"hello world");
        out.send(Bytes::from_static(b"answer")).await.unwrap();
        out.finish().await.unwrap();
        let mut seen = vec![0; 4096];
        let mut length = 0;
        while !seen[..length].ends_with(&data(3, b"", true)) {
            length += client.read(&mut seen[length..]).await.unwrap();
        }
        let answer = data(3, b"answer", false);
        assert!(seen[..length].windows(answer.len()).any(|window| window == answer));
        drop(client);
        assert!(session.accept().await.is_none());
    }

    #[tokio::test]
    async fn nonsense_ends_the_session_quietly() {
        let frames: [&[u8]; 5] = [
            // Another version, a frame cut short, headers that are not compressed, a ping without its number.
            &[0x80, 9, 0, 1, 0, 0, 0, 0],
            &[0x80, 3, 0, 1, 0, 0, 0, 2, 1, 2],
            &[0x80, 3, 0, 1, 0, 0, 0, 14, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
            &[0x80, 3, 0, 6, 0, 0, 0, 0],
            &[0x80, 3, 0, 8, 0, 0xff, 0xff, 0xff],
        ];
        for frame in frames {
            let (mut client, server) = tokio::io::duplex(1024);
            let mut session = Session::serve(server);
            client.write_all(frame).await.unwrap();
            assert!(session.accept().await.is_none(), "{frame:?}");
        }
    }
}
