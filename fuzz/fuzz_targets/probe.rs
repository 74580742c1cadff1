//! Probes of doctors: only what is signed is a question or an answer, each counts once, and whatever else comes is neither.

#![no_main]

use std::{path::Path, sync::OnceLock};

use fallgate::net::probe::{
    Heard, LEAST, MARK, Secret,
    way::{Ask, LONGEST, NAME, Told, without_question},
};
use libfuzzer_sys::fuzz_target;

const NOW: u64 = 1_800_000_000_000;
const NONCE: [u8; 16] = [7; 16];

fn secret() -> &'static Secret {
    static SECRET: OnceLock<Secret> = OnceLock::new();
    SECRET.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/probe.secret");
        Secret::read(&path).expect("the secret of the seeds")
    })
}

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let (secret, mut heard) = (secret(), Heard::default());
    match first % 4 {
        0 => {
            let datagram = [MARK.as_slice(), rest].concat();
            if let Ok(nonce) = heard.take(secret, &datagram, NOW) {
                assert!(datagram.len() >= LEAST);
                assert!(heard.take(secret, &datagram, NOW).is_err(), "it is answered twice: {nonce:?}");
            }
        }
        1 => {
            let name = [NAME.as_bytes(), rest].concat();
            if let Some(Ok((_, ask))) = heard.take_name(secret, &name, NOW) {
                assert!(ask.notices <= 20 && ask.silence <= LONGEST && ask.idle <= LONGEST);
                assert!(heard.take_name(secret, &name, NOW).is_some_and(|taken| taken.is_err()), "it is answered twice");
            }
            assert!(heard.take_name(secret, rest, NOW).is_none() || rest.starts_with(NAME.as_bytes()));
        }
        2 => {
            if let Some(told) = secret.read_told(rest, &NONCE) {
                assert_eq!(secret.tell(&NONCE, &told), rest, "an answer has one spelling");
            }
        }
        _ => {
            let told = Told { head: without_question(rest), first: 1, last: 2 };
            let answer = secret.tell(&NONCE, &told);
            assert_eq!(secret.read_told(&answer, &NONCE), Some(told));
            let name = secret.name(&NONCE, NOW, &Ask::default());
            let head = [rest, name.as_bytes(), b" HTTP/1.1\r\n\r\n"].concat();
            let question = name.strip_prefix(NAME).unwrap_or_default().as_bytes();
            let is_there = without_question(&head).windows(question.len()).any(|part| part == question);
            // An earlier beginning of such a name is taken for the question; the airlock lets one target through.
            assert!(!is_there || rest.windows(NAME.len()).any(|part| part == NAME.as_bytes()));
        }
    }
});
