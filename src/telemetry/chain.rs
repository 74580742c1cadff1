//! An error with its causes, in one line.

use std::error::Error;

/// What an error says, and what its causes say, but for those whose words are in it already.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_cause_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("the node: {0}")]
        struct Shown(#[source] Hidden);
        #[derive(Debug, thiserror::Error)]
        #[error("it left")]
        struct Hidden(#[source] std::io::Error);
        let error = Shown(Hidden(std::io::Error::other("broken pipe")));
        assert_eq!(super::chain(&error), "the node: it left: broken pipe");
    }
}
