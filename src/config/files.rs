//! The files that a configuration names.

use std::path::{Path, PathBuf};

use super::Config;

impl Config {
    /// The files that are read when it is applied: certificates, keys, authorities, users, the token and the secret of doctors.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for tls in self.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
            files.extend(tls.certificates().into_iter().flat_map(|pair| [pair.cert_file, pair.key_file]));
            files.extend(tls.client_ca_file.clone());
        }
        let authorities = self.upstreams.iter().filter_map(|upstream| upstream.tls.as_ref()?.ca_file.clone());
        let users = self.policies.iter().filter_map(|policy| policy.auth.users_file.clone());
        let of_state = self.state.redis().map(|redis| [redis.password_file.clone(), redis.ca_file.clone()]);
        let of_state = of_state.into_iter().flatten().flatten();
        files.extend(
            authorities
                .chain(users)
                .chain(of_state)
                .chain(self.admin.token_file.clone())
                .chain(self.doctor.secret_file.clone()),
        );
        files
    }

    /// Makes relative file names relative to `base`.
    pub(super) fn resolve(&mut self, base: &Path) {
        for listener in &mut self.listeners {
            if let Some(tls) = &mut listener.tls {
                tls.resolve(base);
            }
        }
        for upstream in &mut self.upstreams {
            if let Some(tls) = &mut upstream.tls {
                tls.resolve(base);
            }
        }
        for policy in &mut self.policies {
            policy.resolve(base);
        }
        self.state.resolve(base);
        self.access_log.resolve(base);
        self.admin.resolve(base);
        self.doctor.resolve(base);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every key that names a file begins to be watched with the test that names it here.
    #[test]
    fn every_file_that_a_config_names_is_told_but_those_that_are_written_to() {
        let text = r#"
version: 1
listeners:
  - { name: a, protocol: https, address: "127.0.0.1:0", upstream: u, tls: { cert_file: a.crt, key_file: a.key, client_auth: require, client_ca_file: clients.pem } }
  - { name: b, protocol: https, address: "127.0.0.1:0", upstream: u, tls: { certificates: [{ cert_file: b.crt, key_file: b.key }, { cert_file: c.crt, key_file: c.key }] } }
upstreams: [{ name: u, scheme: https, tls: { ca_file: nodes.pem }, nodes: [{ name: n, host: h, ports: { https: 1 } }] }]
policies: [{ name: p, auth: { users_file: users }, allow: [] }]
state: { file: state }
access_log: { path: access.log }
admin: { token_file: token }
doctor: { secret_file: doctor }
"#;
        let config = Config::from_yaml(text, Path::new("/etc")).unwrap();
        let mut told: Vec<_> = config.files().iter().map(|file| file.to_str().unwrap().to_owned()).collect();
        told.sort();
        let names = [
            "a.crt",
            "a.key",
            "b.crt",
            "b.key",
            "c.crt",
            "c.key",
            "clients.pem",
            "doctor",
            "nodes.pem",
            "token",
            "users",
        ];
        assert_eq!(told, names.map(|name| format!("/etc/{name}")));
        let shared =
            text.replace("{ file: state }", "{ redis: 'rediss://cache', password_file: word, ca_file: redis.pem }");
        let told = Config::from_yaml(&shared, Path::new("/etc")).unwrap().files();
        assert!(["/etc/word", "/etc/redis.pem"].iter().all(|file| told.iter().any(|told| told == Path::new(file))));
        let keys = Config::schema().to_string().matches("\"format\":\"file\"").count();
        assert_eq!(keys, 13, "a key that names a file came or went: is it in `files`, unless it is written to?");
    }
}
