//! Logging in: passwords are checked on threads of their own, few at a time, and verdicts are remembered.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::{
    auth::{Credentials, Users, UsersError, Verdicts},
    policy::Policy,
};
use crate::{config::PolicyConfig, telemetry::Reason};

/// Passwords that are checked at the same time. Each check is hard work by design, and transfers come first.
const AT_ONCE: usize = 2;

/// A policy with the users it knows.
#[derive(Debug)]
pub struct Rules {
    pub(super) policy: Policy,
    /// None where nobody is asked who he is.
    pub(super) login: Option<Login>,
}

/// Why a policy's users are not known.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The file cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not as it must be.
    #[error("{path}: {source}", path = .path.display())]
    Users {
        /// The file.
        path: PathBuf,
        /// Which lines, and why.
        source: UsersError,
    },
    /// The system gives no random bytes.
    #[error("no random bytes: {0}")]
    Random(#[from] getrandom::Error),
}

impl Rules {
    /// Reads what a policy names.
    ///
    /// # Errors
    /// Its file of users will not do.
    pub fn build(config: &PolicyConfig) -> Result<Rules, RulesError> {
        let login = match &config.auth.users_file {
            None => None,
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).map_err(|source| RulesError::Read { path: path.clone(), source })?;
                let users = Users::load(&text).map_err(|source| RulesError::Users { path: path.clone(), source })?;
                Some(Login::new(users)?)
            }
        };
        Ok(Rules { policy: Policy::new(config.clone()), login })
    }
}

/// The users of a policy, and the verdicts of late.
#[derive(Debug)]
pub(super) struct Login {
    users: Arc<Users>,
    verdicts: Verdicts,
    turns: Semaphore,
}

impl Login {
    fn new(users: Users) -> Result<Login, getrandom::Error> {
        Ok(Login { users: Arc::new(users), verdicts: Verdicts::new()?, turns: Semaphore::new(AT_ONCE) })
    }

    /// Whether the credentials are a user's.
    ///
    /// # Errors
    /// The word of the refusal: they are not, or so many log in that it was not found out within `patience`.
    pub(super) async fn verify(&self, credentials: &Credentials, patience: Duration) -> Result<(), Reason> {
        let tag = self.verdicts.tag(&credentials.user, &credentials.password);
        let known = |good| if good { Ok(()) } else { Err(Reason::AuthFailed) };
        if let Some(good) = self.verdicts.get(&tag, Instant::now()) {
            return known(good);
        }
        let Ok(Ok(_turn)) = timeout(patience, self.turns.acquire()).await else {
            return Err(Reason::AuthBusy);
        };
        // Another request may have brought the same password while this one waited.
        if let Some(good) = self.verdicts.get(&tag, Instant::now()) {
            return known(good);
        }
        let (users, Credentials { user, password }) = (self.users.clone(), credentials.clone());
        let good = spawn_blocking(move || users.verify(&user, &password)).await.map_err(|_| Reason::Internal)?;
        self.verdicts.put(tag, good, Instant::now());
        known(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        let hash = bcrypt::hash("one", 4).unwrap();
        Login::new(Users::load(&format!("anna:{hash}")).unwrap()).unwrap()
    }

    fn who(user: &str, password: &str) -> Credentials {
        Credentials { user: user.to_owned(), password: password.to_owned() }
    }

    #[tokio::test]
    async fn a_user_passes_with_his_password_and_with_no_other() {
        let login = login();
        for _ in 0..2 {
            assert_eq!(login.verify(&who("anna", "one"), Duration::from_secs(9)).await, Ok(()));
            for wrong in [who("anna", "two"), who("bert", "one"), who("anna", "")] {
                assert_eq!(login.verify(&wrong, Duration::from_secs(9)).await, Err(Reason::AuthFailed));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_all_turns_taken_is_told_so_and_known_users_pass_all_the_same() {
        let login = login();
        assert_eq!(login.verify(&who("anna", "one"), Duration::from_secs(9)).await, Ok(()));
        let _taken = login.turns.acquire_many(AT_ONCE as u32).await.unwrap();
        assert_eq!(login.verify(&who("anna", "two"), Duration::from_secs(9)).await, Err(Reason::AuthBusy));
        assert_eq!(login.verify(&who("anna", "one"), Duration::from_secs(9)).await, Ok(()));
    }
}
