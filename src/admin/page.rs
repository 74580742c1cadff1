//! The status page: for a browser one file, which loads nothing from anywhere.

use http_body_util::Full;
use hyper::{
    Response,
    body::Bytes,
    header::{self, HeaderValue},
};

/// The page, with `{style}` and `{script}` where these stand, and `{nonce}` where the number does that lets them run and
/// nobody else's.
const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = concat!(
    include_str!("page/words.js"),
    "\n",
    include_str!("page/status.js"),
    "\n",
    include_str!("page/flows.js"),
    "\n",
    include_str!("page/sessions.js"),
    "\n",
    include_str!("page/commands.js"),
    "\n",
    include_str!("page/stream.js"),
);

/// An answer with the page.
pub(super) fn answer() -> Response<Full<Bytes>> {
    let nonce = uuid::Uuid::new_v4().simple().to_string();
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let page = PAGE.replace("{nonce}", &nonce).replace("{style}", STYLE).replace("{script}", SCRIPT);
    let mut answer = Response::new(Full::new(page.into()));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    answer.headers_mut().extend(HeaderValue::from_str(&policy).map(|policy| (header::CONTENT_SECURITY_POLICY, policy)));
    answer
}
