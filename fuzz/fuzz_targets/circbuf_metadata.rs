//! Metadata of whoever can write to a segment, or calls us with a text: it is read or refused, and what was read is
//! written and read again as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shmhot::circbuf::Metadata;

fuzz_target!(|data: &[u8]| {
    if let Ok(metadata) = Metadata::from_pickle(data) {
        comes_back(&metadata);
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(metadata) = Metadata::from_json(text)
    {
        comes_back(&metadata);
    }
});

fn comes_back(metadata: &Metadata) {
    let text = metadata.to_json(); // compared as text, because nan equals nothing
    assert_eq!(Metadata::from_json(&text).map(|again| again.to_json()), Ok(text.clone()));
    assert_eq!(Metadata::from_pickle(&metadata.to_pickle()).map(|again| again.to_json()), Ok(text));
}
