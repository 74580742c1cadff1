//! What replicas read from their Redis: what is understood can be written and read again.

#![no_main]

use fallgate::shared::{
    Key,
    redis::record::{read_control, read_message, read_part, read_pin, read_session},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((_, news)) = read_message(data) {
        for one in news {
            let written = serde_json::to_vec(&one).unwrap();
            assert_eq!(serde_json::from_slice::<fallgate::shared::redis::News>(&written).unwrap(), one);
        }
    }
    for key in [Key([0; 16]), Key([7; 16])] {
        if let Some((state, _)) = read_session(key, data) {
            assert_eq!(state.key, key);
        }
    }
    let _ = (read_part(data), read_pin(data), read_control(data));
});
