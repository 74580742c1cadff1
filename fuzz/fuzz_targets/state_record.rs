//! Records of the state file: what is understood stands under its own key and can be written and read again.

#![no_main]

use fallgate::shared::file::record::{pin, pin_name, session, session_name, value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The key is in the value too, and who guesses one must guess the other.
    let names = [data.get(..16).unwrap_or(data), &[0; 16], &[7; 16]];
    for name in names {
        for text in [data, data.get(16..).unwrap_or_default()] {
            if let Some(state) = session(name, text) {
                assert_eq!(session_name(state.key), name);
                let written = value(&state);
                assert_eq!(session(name, &written), Some(state));
                assert_eq!(session(&name[1..], &written), None);
            }
        }
    }

    let Ok(said) = serde_json::from_slice::<fallgate::shared::PinState>(data) else {
        assert_eq!(pin(b"", data), None);
        return;
    };
    let name = pin_name(&said.upstream, said.hash);
    assert_eq!(pin(&name, data), Some(said.clone()));
    assert_eq!(pin(&name, &value(&said)), Some(said.clone()));
    assert_eq!(pin(&pin_name(&said.upstream, said.hash ^ 1), data), None);
});
