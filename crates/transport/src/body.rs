//! Request bodies of any origin under one type, and reading of whole bodies under a limit.

use crate::{BoxError, Error, Result};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// A request body.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|e| match e {}).boxed_unsync()
}

/// These bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|e| match e {}).boxed_unsync()
}

/// Any body, such as one that is passed on from another connection.
pub fn wrap<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// A body fed from elsewhere: chunks sent are streamed, an error aborts the exchange, dropping the sender ends it.
pub fn channel(depth: usize) -> (mpsc::Sender<std::result::Result<Bytes, BoxError>>, Body) {
    let (sender, receiver) = mpsc::channel(depth.max(1));
    (sender, Fed(receiver).boxed_unsync())
}

struct Fed(mpsc::Receiver<std::result::Result<Bytes, BoxError>>);

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|c| c.map(Frame::data)))
    }
}

/// Reads a whole body, but not more than `limit` bytes.
pub async fn read_all<B>(body: B, limit: usize) -> Result<Bytes>
where
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    match Limited::new(body, limit).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(e) if e.is::<http_body_util::LengthLimitError>() => Err(Error::TooLarge(limit)),
        Err(e) => Err(Error::Http(crate::http::reasons(&*e))),
    }
}
