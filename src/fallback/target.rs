//! The request target as a node is to see it. Pure.

use std::borrow::Cow;

use crate::config::{NodeTarget, Scheme};

/// Rewrites a target that the grammar let through. `received` keeps it byte for byte, `node_scheme`
/// puts the upstream's scheme in both of its places, `origin_form` leaves scheme and authority out.
pub fn for_node(target: &[u8], form: NodeTarget, scheme: Scheme) -> Cow<'_, [u8]> {
    match form {
        NodeTarget::Received => Cow::Borrowed(target),
        NodeTarget::OriginForm => Cow::Borrowed(path(target)),
        NodeTarget::NodeScheme => {
            let word: &[u8] = match scheme {
                Scheme::Http => b"http",
                Scheme::Https => b"https",
            };
            let path = path(target);
            let authority = target
                .get(..target.len() - path.len())
                .and_then(|front| front.splitn(2, |b| *b == b':').nth(1))
                .unwrap_or_default();
            let rest = path
                .strip_prefix(b"/aspera/")
                .and_then(|rest| rest.strip_prefix(b"https").or_else(|| rest.strip_prefix(b"http")));
            let Some(rest) = rest else { return Cow::Borrowed(target) };
            let mut out = Vec::with_capacity(target.len() + 2);
            if !authority.is_empty() {
                out.extend_from_slice(word);
                out.push(b':');
                out.extend_from_slice(authority);
            }
            out.extend_from_slice(b"/aspera/");
            out.extend_from_slice(word);
            out.extend_from_slice(rest);
            Cow::Owned(out)
        }
    }
}

fn path(target: &[u8]) -> &[u8] {
    let after = target.strip_prefix(b"https://").or_else(|| target.strip_prefix(b"http://"));
    let Some(after) = after else { return target };
    let slash = after.iter().position(|b| *b == b'/').unwrap_or(after.len());
    after.get(slash..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ABSOLUTE: &[u8] = b"https://h.x:8443/aspera/https/S/file/a%20b/R.ashttp";

    #[test]
    fn each_form_is_what_it_says() {
        let to = |form, scheme| String::from_utf8(for_node(ABSOLUTE, form, scheme).into_owned()).unwrap();
        assert_eq!(to(NodeTarget::Received, Scheme::Http).as_bytes(), ABSOLUTE);
        assert_eq!(to(NodeTarget::OriginForm, Scheme::Http), "/aspera/https/S/file/a%20b/R.ashttp");
        assert_eq!(to(NodeTarget::NodeScheme, Scheme::Http), "http://h.x:8443/aspera/http/S/file/a%20b/R.ashttp");
        assert_eq!(to(NodeTarget::NodeScheme, Scheme::Https).as_bytes(), ABSOLUTE);
    }

    #[test]
    fn origin_form_stays_origin_form() {
        let target = b"/aspera/https/S/mgmt_msg//R.ashttp";
        assert_eq!(&*for_node(target, NodeTarget::NodeScheme, Scheme::Http), b"/aspera/http/S/mgmt_msg//R.ashttp");
        assert_eq!(&*for_node(target, NodeTarget::OriginForm, Scheme::Http), target);
    }

    proptest! {
        #[test]
        fn no_target_makes_it_panic(target in proptest::collection::vec(any::<u8>(), 0..80), front in 0usize..3) {
            let all = [[b"".as_slice(), b"http://", b"https://h/aspera/http"][front], &target].concat();
            for form in [NodeTarget::Received, NodeTarget::NodeScheme, NodeTarget::OriginForm] {
                let _ = for_node(&all, form, Scheme::Https);
            }
        }
    }
}
