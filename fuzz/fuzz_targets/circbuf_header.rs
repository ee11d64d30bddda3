//! A stream whose header says anything at all: a mirror reads it or refuses it, and stays within the segments.
//!
//! The first byte chooses a layout, and whether the writer is one of ours. Then follow changes of a good header: where
//! (two bytes), how many bytes (one), and these.

#![no_main]

use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{fs, process};

use libfuzzer_sys::fuzz_target;
use shmhot::circbuf::{CircBuf, Dtype, Format, Layout, Mirror, MirrorOptions, Options, Source, short_name};

const FRAMES: u32 = 100;
/// The peer's header, without what ours add.
const HEADERS: [(Layout, usize); 3] = [(Layout::V0, 1318), (Layout::V1, 1334), (Layout::V2, 1334)];

fuzz_target!(|data: &[u8]| {
    let Some((choice, changes)) = data.split_first() else { return };
    let (layout, length) = HEADERS[usize::from(choice & 0x7f) % HEADERS.len()];
    let (header, ring) = &good()[usize::from(choice & 0x7f) % HEADERS.len()];
    let is_foreign = choice & 0x80 != 0;
    let mut header = header[..if is_foreign { length } else { header.len() }].to_vec();
    change(&mut header, changes);

    let name = format!("fuzz/{}", process::id());
    let generation = if layout == Layout::V0 { 270 } else { 278 };
    let generation = u32::from_le_bytes(header[generation..][..4].try_into().expect("four bytes"));
    let _files = [
        File::new(&name, &header),
        File::new(&format!("{name}/buffer{generation}"), ring),
        File::new(&format!("{name}/meta1"), b"\x80\x05}\x8c\x07versionK\x01s."),
    ];
    read(&name);
});

/// Header and ring of each layout, as a writer of ours leaves them.
fn good() -> &'static [(Vec<u8>, Vec<u8>); 3] {
    static GOOD: OnceLock<[(Vec<u8>, Vec<u8>); 3]> = OnceLock::new();
    GOOD.get_or_init(|| {
        HEADERS.map(|(layout, _)| {
            let name = format!("fuzz/{}/good", process::id());
            let options = Options { layout, ..Options::default() };
            let writer = CircBuf::create(&name, options).expect("a stream");
            let dtype = Dtype::new(b'f').expect("a dtype");
            let format = Format { dtype, frame_shape: vec![4], frames: FRAMES, rate: 100.0, key: "key".into() };
            writer.configure(&format, 0.0).expect("a ring");
            writer.write(&Source::Contiguous(&[0x55; 150 * 16]), None).expect("frames");
            let segments =
                [name.clone(), format!("{name}/buffer0")].map(|name| fs::read(path(&name)).expect("a segment"));
            writer.close().expect("an end");
            let [header, ring] = segments;
            (header, ring)
        })
    })
}

fn change(header: &mut [u8], mut changes: &[u8]) {
    while let [low, high, count, rest @ ..] = changes {
        let (bytes, rest) = rest.split_at(rest.len().min(usize::from(*count)));
        let at = usize::from(u16::from_le_bytes([*low, *high])) % header.len();
        header[at..].iter_mut().zip(bytes).for_each(|(byte, new)| *byte = *new);
        changes = rest;
    }
}

/// All that a reader can do. Every answer is a good one.
fn read(name: &str) {
    let mirror = Mirror::open(name, MirrorOptions::default()).expect("a name");
    let mut frames = [MaybeUninit::new(0); 64 * 16];
    let mut timestamps = [MaybeUninit::new(0.0); 64];
    let _ = mirror.format();
    for limit in [1, 64] {
        if let Ok(span) = mirror.read(&mut frames, Some(&mut timestamps), limit) {
            assert!(span.count <= limit);
        }
    }
    let _ = mirror.read_time(0.5, 1.0, &mut frames, Some(&mut timestamps), 64);
    let _ = mirror.seek(10);
    if let Ok(Some(view)) = mirror.view(64) {
        assert_eq!(view.counts[0] + view.counts[1], view.span.count);
        let _ = mirror.is_intact(&view.span);
    }
    let _ = mirror.poll(1);
    let _ = mirror.metadata();
    let _ = mirror.info();
}

/// A segment, for as long as this lives.
struct File(PathBuf);

impl File {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = path(name);
        fs::write(&path, bytes).expect("a segment");
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn path(name: &str) -> PathBuf {
    Path::new("/dev/shm").join(short_name(name))
}
