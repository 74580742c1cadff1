//! What goes with the policies of forward proxies.

use super::super::error::Problem;
use super::super::shape::item_path;
use super::super::{Config, PolicyConfig};

pub(super) fn policies(config: &Config, problems: &mut Vec<Problem>) {
    super::unique("policies", "name", config.policies.iter().map(|policy| Some(&policy.name)), problems);
    let names: Vec<_> = config.policies.iter().map(|policy| Some(policy.name.clone())).collect();
    for (index, policy) in config.policies.iter().enumerate() {
        self::policy(policy, &item_path("policies", &names, index), problems);
    }
}

fn policy(policy: &PolicyConfig, path: &str, problems: &mut Vec<Problem>) {
    for (list, rules) in [("allow", &policy.allow), ("deny", &policy.deny)] {
        let named = rules.iter().enumerate().filter(|(_, rule)| !rule.users.is_empty());
        for (index, _) in named.filter(|_| policy.auth.users_file.is_none()) {
            problems.push(
                Problem::new(format!("{path}.{list}[{index}].users"), "without users_file nobody is known by name")
                    .hint("give auth: { users_file: ... }, or leave users out".to_owned()),
            );
        }
    }
    if policy.parent.is_none() && !policy.no_parent.is_empty() {
        problems.push(
            Problem::new(format!("{path}.no_parent"), "there is no parent to leave out")
                .hint("give parent, or leave no_parent out".to_owned()),
        );
    }
}
