//! Rendezvous hashing: the same key finds the same node, and a node that comes or goes moves only
//! its own share of the keys. Pure.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// A key's weighted score for a node; the node with the highest score holds the key.
///
/// Replicas must agree on it, so the hash has a fixed key of its own: it spreads, it does not hide.
pub(super) fn score(key: &[u8], node: &str, weight: u32) -> f64 {
    // -w / ln(u) is the weighted form of rendezvous hashing.
    -f64::from(weight) / unit(0x67_61_74_65, key, node).ln()
}

/// How early a key goes back to a node that takes its share slowly: from 0, among the first, to 1. It has nothing to do
/// with the score.
pub(super) fn early(key: &[u8], node: &str) -> f64 {
    unit(0x73_6c_6f_77, key, node)
}

/// A number in (0, 1) that a key and a node have for each purpose.
fn unit(purpose: u64, key: &[u8], node: &str) -> f64 {
    let mut hasher = SipHasher13::new_with_keys(0x66_61_6c_6c, purpose);
    hasher.write(key);
    hasher.write_u8(0xff);
    hasher.write(node.as_bytes());
    // 53 bits make a float.
    ((hasher.finish() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn winner<'a>(key: &[u8], nodes: &[(&'a str, u32)]) -> &'a str {
        nodes.iter().max_by(|a, b| score(key, a.0, a.1).total_cmp(&score(key, b.0, b.1))).unwrap().0
    }

    #[test]
    fn a_node_that_leaves_moves_only_its_own_keys() {
        let all = [("a", 1), ("b", 1), ("c", 1)];
        for key in 0..1000u32 {
            let before = winner(&key.to_be_bytes(), &all);
            let after = winner(&key.to_be_bytes(), &all[..2]);
            assert!(before == "c" || before == after);
        }
    }

    #[test]
    fn a_node_of_weight_three_gets_three_times_the_keys() {
        let nodes = [("light", 1), ("heavy", 3)];
        let heavy = (0..20_000u32).filter(|k| winner(&k.to_be_bytes(), &nodes) == "heavy").count();
        assert!((14_500..15_500).contains(&heavy), "{heavy}");
    }
}
