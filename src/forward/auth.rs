//! Who is asking: the users of a file as `htpasswd -B` makes it, and what a client says of itself.
//!
//! Three kinds of password hash are taken: bcrypt (`$2y$`, `$2b$`, `$2a$`), Argon2id (`$argon2id$`) and SHA-crypt (`$5$`,
//! `$6$`), which are those of `htpasswd -B`, `-2` and `-5`. What else `htpasswd` writes (MD5 as `$apr1$`, `{SHA}`, `crypt`,
//! plain text) is refused when the file is read: a stolen file of those is soon a list of passwords. Neither passwords nor hashes are in any message or `Debug`.

mod hash;
mod verdicts;

use std::{collections::HashMap, fmt, hint::black_box};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use hash::{Cost, Hash};
pub use verdicts::{LIFE, PLACES, Tag, Verdicts};

/// The longest name of a user, in bytes.
const MAX_USER: usize = 255;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A user and a password, as a client gave them.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user; never empty.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Reads the value of a `Proxy-Authorization` field; nothing where it is not `Basic` (RFC 7617), not UTF-8, holds
/// controls or names no user.
#[must_use]
pub fn basic(value: &[u8]) -> Option<Credentials> {
    let (scheme, token) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let text = String::from_utf8(BASE64.decode(token.trim_ascii()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    let sound = is_user(user) && !password.chars().any(char::is_control);
    sound.then(|| Credentials { user: user.to_owned(), password: password.to_owned() })
}

fn is_user(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_USER && !text.chars().any(char::is_control)
}

/// The users of a file.
pub struct Users {
    hashes: HashMap<String, Hash>,
    /// A hash of each cost in the file, to spend it on users who have none of it.
    costs: Vec<(Cost, Hash)>,
}

/// What is wrong with a file of users; it repeats nothing of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", render(.problems))]
pub struct UsersError {
    /// Every line that will not do, counted from 1, and why; never empty.
    pub problems: Vec<(usize, LineError)>,
}

/// Why a line of a file of users will not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It has no colon.
    #[error("this is not user:hash")]
    NoColon,
    /// The name is empty, longer than 255 bytes, or holds controls.
    #[error("this cannot be the name of a user")]
    User,
    /// The user stands further up already.
    #[error("this user is there twice")]
    Twice,
    /// The hash is one that is easily broken, or none at all.
    #[error("the password is not hashed with bcrypt, Argon2id or SHA-crypt; write the line with htpasswd -B")]
    Kind,
    /// The hash begins well and is broken.
    #[error("the hash of the password is not whole")]
    Broken,
    /// Checking the password would take too long.
    #[error(
        "the hash costs too much: up to 15 for bcrypt; up to 256 MiB, 16 passes and 16 lanes for Argon2id; up to 1000000 rounds for SHA-crypt"
    )]
    Cost,
}

fn render(problems: &[(usize, LineError)]) -> String {
    let lines: Vec<_> = problems.iter().map(|(line, error)| format!("line {line}: {error}")).collect();
    lines.join("\n")
}

impl Users {
    /// Reads the text of a file: lines of `user:hash`; empty ones and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// A line will not do; then all such lines are reported.
    pub fn load(text: &str) -> Result<Users, UsersError> {
        let mut users = Users { hashes: HashMap::new(), costs: Vec::new() };
        let mut problems = Vec::new();
        for (line, number) in text.lines().map(str::trim).zip(1..) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Err(error) = users.add(line) {
                problems.push((number, error));
            }
        }
        if problems.is_empty() { Ok(users) } else { Err(UsersError { problems }) }
    }

    fn add(&mut self, line: &str) -> Result<(), LineError> {
        let (user, hash) = line.split_once(':').ok_or(LineError::NoColon)?;
        if !is_user(user) {
            return Err(LineError::User);
        }
        let hash = Hash::parse(hash)?;
        if !self.costs.iter().any(|(cost, _)| *cost == hash.cost()) {
            self.costs.push((hash.cost(), hash.clone()));
        }
        match self.hashes.insert(user.to_owned(), hash) {
            Some(_) => Err(LineError::Twice),
            None => Ok(()),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Whether there is such a user with this password.
    ///
    /// It takes long, tens of milliseconds and more, by design: not for a thread that serves others, and not more often
    /// than needed ([`Verdicts`]). A user who is not there takes as long as one who is: one hash of each cost in the
    /// file is worked out in every case, so a file is best all of one cost.
    #[must_use]
    pub fn verify(&self, user: &str, password: &str) -> bool {
        let known = self.hashes.get(user);
        let mut good = false;
        for (cost, stand_in) in &self.costs {
            match known.filter(|hash| hash.cost() == *cost) {
                Some(hash) => good |= hash.verify(password),
                None => {
                    black_box(stand_in.verify(password));
                }
            }
        }
        good
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version, password_hash::phc::PasswordHash};
    use proptest::prelude::*;

    use super::*;

    fn bcrypt_line(user: &str, password: &str) -> String {
        format!("{user}:{}", bcrypt::hash(password, 4).unwrap())
    }

    fn argon2_line(user: &str, password: &str) -> String {
        let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(64, 1, 1, None).unwrap());
        let hash: PasswordHash = hasher.hash_password_with_salt(password.as_bytes(), b"0123456789abcdef").unwrap();
        format!("{user}:{hash}")
    }

    fn value(text: &str) -> Vec<u8> {
        format!("Basic {}", BASE64.encode(text)).into_bytes()
    }

    #[test]
    fn users_log_in_with_their_own_password_alone() {
        let text = format!("# ours\n\n{}\r\n{}\n", bcrypt_line("anna", "one"), argon2_line("bert", "two"));
        let users = Users::load(&text).unwrap();
        assert_eq!(users.len(), 2);
        assert!(users.verify("anna", "one") && users.verify("bert", "two"));
        for (user, password) in
            [("anna", "two"), ("bert", "one"), ("anna", ""), ("Anna", "one"), ("carl", "one"), ("", "")]
        {
            assert!(!users.verify(user, password), "{user}");
        }
        assert!(!Users::load("").unwrap().verify("anna", "one"));
    }

    #[test]
    fn the_hashes_of_htpasswd_and_argon2_are_understood() {
        // By crypt(3), which knows what htpasswd writes, and from the tests of the Argon2 reference.
        let bcrypt = "$2y$04$abcdefghijklmnopqrstuuinwY/tkBVrn3xrxQI/TgnMHhkvl85RW";
        let argon2 = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        // By htpasswd -2 and -5 of Apache 2.4.
        let sha256 = "$5$GDMsWk6JSsTEeSsT$JQBYurWNkhIhxvyRSsopJL168n5Yas.U9DyS089r5p/";
        let sha512 = "$6$rounds=6000$j/Ov57/vAPp3uzsK$dCcrdQ5Vc5N5XNWuhsnvHD8pJY647MHGgRGXKeWO4hQ.YwfeZcOAGTRtZV.d.9abTOdCa1udGvS76QYvE8mQx1";
        let users = format!("anna:{bcrypt}\nbert:{argon2}\ncarl:{sha256}\ndora:{sha512}");
        let users = Users::load(&users).unwrap();
        for user in ["carl", "dora"] {
            assert!(users.verify(user, "one") && !users.verify(user, "One"), "{user}");
        }
        assert!(users.verify("anna", "sesame") && !users.verify("anna", "Sesame"));
        assert!(users.verify("bert", "password") && !users.verify("bert", "Password"));
    }

    #[test]
    fn every_bad_line_is_named_and_nothing_of_it_is_repeated() {
        let (good, argon2) = (bcrypt_line("anna", "one"), argon2_line("bert", "two"));
        let lines = [
            (good.clone(), None),
            ("SECRET".to_owned(), Some(LineError::NoColon)),
            (bcrypt_line("", "SECRET"), Some(LineError::User)),
            (good.clone(), Some(LineError::Twice)),
            ("carl:SECRET".to_owned(), Some(LineError::Kind)),
            ("carl:$apr1$SECRET$SECRET".to_owned(), Some(LineError::Kind)),
            ("carl:{SHA}SECRET".to_owned(), Some(LineError::Kind)),
            ("carl:$2x$04$SECRET".to_owned(), Some(LineError::Kind)),
            ("carl:$argon2i$SECRET".to_owned(), Some(LineError::Kind)),
            ("carl:$2y$04$SECRET".to_owned(), Some(LineError::Broken)),
            ("carl:$5$SECRET".to_owned(), Some(LineError::Broken)),
            ("carl:$6$rounds=x$SECRET$SECRET".to_owned(), Some(LineError::Broken)),
            ("carl:$6$rounds=1000001$SECRET$SECRET".to_owned(), Some(LineError::Cost)),
            (good.replace("anna", "dora").replace("$04$", "$03$"), Some(LineError::Broken)),
            (good.replace("anna", "dora").replace("$04$", "$16$"), Some(LineError::Cost)),
            ("carl:$argon2id$SECRET".to_owned(), Some(LineError::Broken)),
            (argon2.replace("m=64", "m=262145"), Some(LineError::Cost)),
            (argon2.replace("t=1", "t=17"), Some(LineError::Cost)),
            (argon2, None),
        ];
        let text: Vec<_> = lines.iter().map(|(line, _)| line.as_str()).collect();
        let error = Users::load(&text.join("\n")).unwrap_err();
        let expected: Vec<_> = lines.iter().zip(1..).filter_map(|((_, why), line)| Some((line, (*why)?))).collect();
        assert_eq!(error.problems, expected);
        assert!(!format!("{error} {error:?}").contains("SECRET"));
        assert!(error.to_string().starts_with("line 2: this is not user:hash\nline 3: "));
    }

    #[test]
    fn a_user_who_is_not_there_costs_as_much_as_one_who_is() {
        let text = [bcrypt_line("anna", "one"), argon2_line("bert", "two"), bcrypt_line("carl", "one")].join("\n");
        let users = Users::load(&text).unwrap();
        assert_eq!(users.costs.len(), 2);
    }

    #[test]
    fn a_client_says_who_it_is_by_basic_and_nothing_else() {
        let said = |value: &[u8]| basic(value).map(|c| (c.user, c.password));
        let anna = Some(("anna".to_owned(), "a:b \u{fc}".to_owned()));
        assert_eq!(said(&value("anna:a:b \u{fc}")), anna);
        assert_eq!(said(b"bAsIc   YW5uYTo="), Some(("anna".to_owned(), String::new())));
        assert_eq!(said(b"Basic YW5uYTo"), Some(("anna".to_owned(), String::new())));
        for bad in
            [b"".as_slice(), b"Basic", b"Basic ", b"Basic !", b"Bearer YW5uYTo=", b"BasicYW5uYTo=", b"Basic YW5uYQ=="]
        {
            assert_eq!(said(bad), None, "{}", bad.escape_ascii());
        }
        for bad in [":word", "anna:a\0b", "an\nna:word", &format!("{}:word", "a".repeat(256))] {
            assert_eq!(said(&value(bad)), None, "{bad:?}");
        }
        assert_eq!(said(b"Basic /zph"), None, "not UTF-8");
        let shown = format!("{:?}", basic(&value("anna:SECRET")));
        assert!(shown.contains("anna") && !shown.contains("SECRET"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), near in "(a:)?\\$(2y|argon2id|5|6\\$rounds=)\\$[0-9$=,a-z]{0,60}") {
            let _ = Users::load(&text);
            let _ = Users::load(&near);
            let _ = basic(text.as_bytes());
            let _ = basic(&value(&text));
        }
    }
}
