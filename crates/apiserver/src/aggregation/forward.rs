//! One request on its way to another API server, and the answer on its way back.

use std::time::Duration;

use apimachinery::Status;
use engine::{Cx, User};
use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE};

use super::Remote;
use crate::pipeline::Request;
use crate::respond::Response;

/// How long the head of an answer may take.
const ANSWER: Duration = Duration::from_secs(60);

/// Says who asks; whatever the client said in these headers itself is dropped.
pub(super) fn identify(headers: &mut HeaderMap, user: &User) -> Result<(), Status> {
    let own: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-remote-") || name.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    for name in own {
        headers.remove(name);
    }
    headers.remove(AUTHORIZATION);
    let mut add = |name: &str, value: &str| -> Result<(), Status> {
        let bad = |_| Status::internal("the user cannot be named in a header");
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad(()))?;
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| bad(()))?);
        Ok(())
    };
    add("x-remote-user", &user.name)?;
    if !user.uid.is_empty() {
        add("x-remote-uid", &user.uid)?;
    }
    for group in &user.groups {
        add("x-remote-group", group)?;
    }
    for (key, values) in &user.extra {
        for value in values {
            add(&format!("x-remote-extra-{}", escaped(key)), value)?;
        }
    }
    Ok(())
}

/// Percent-encodes what a header name cannot hold; the other side decodes it.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

pub(super) async fn forward(
    client: &transport::Client,
    cx: &Cx,
    request: Request,
    remote: &Remote,
) -> Result<Response, Status> {
    let Request { mut parts, body, .. } = request;
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    let uri: http::Uri = format!("https://{}:{}{path}", remote.host(), remote.port)
        .parse()
        .map_err(|_| Status::bad_request("the path is not valid"))?;
    parts.headers.remove(HOST);
    identify(&mut parts.headers, &cx.user)?;
    if parts.headers.contains_key(UPGRADE) {
        return crate::connect::upgrade(client, parts, uri).await;
    }
    transport::http::remove_hop_by_hop(&mut parts.headers);
    let mut builder = http::Request::builder().method(parts.method).uri(uri);
    if let Some(headers) = builder.headers_mut() {
        *headers = parts.headers;
    }
    let request = builder.body(transport::body::wrap(body)).map_err(Status::internal)?;
    let gone = |error: transport::Error| Status::service_unavailable(format!("error trying to reach service: {error}"));
    Ok(crate::connect::stream_back(client.send_within(ANSWER, request).await.map_err(gone)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_names_himself() {
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", HeaderValue::from_static("root"));
        headers.insert("x-remote-extra-a", HeaderValue::from_static("b"));
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        let user = User {
            name: "ann".into(),
            groups: vec!["g".into(), "h".into()],
            extra: vec![("example.com/key".into(), vec!["v".into()])],
            ..User::default()
        };
        identify(&mut headers, &user).unwrap();
        assert_eq!(headers.get_all("x-remote-user").iter().collect::<Vec<_>>(), ["ann"]);
        assert_eq!(headers.get_all("x-remote-group").iter().count(), 2);
        assert_eq!(headers.get("x-remote-extra-example.com%2Fkey").unwrap(), "v");
        assert!(!headers.contains_key("x-remote-extra-a") && !headers.contains_key(AUTHORIZATION));
    }
}
