//! Numbers in fields: their bytes beside those of Ruby's own buffers, what does not fit, and who may add.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use shmhot::observer::*;
use shmhot::status::Failure;

use crate::support::*;

/// A file of zeros.
fn zeros(folder: &Folder, name: &str, len: usize) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, vec![0; len]).unwrap();
    path
}

fn open(schema: &Arc<Schema>, path: &Path, offset: u64, options: Options) -> Observer {
    Observer::open(schema.clone(), path, schema.size(), offset, options).unwrap()
}

/// Numbers that show every byte and every sign of a type, its limits among them.
fn samples(r#type: Type) -> Vec<Value> {
    let bits = 8 * r#type.size() as u32;
    let all = u64::MAX >> (64 - bits);
    let pattern = 0x8182_8384_8586_8788;
    match r#type.number() {
        Number::F32 | Number::F64 => {
            let largest = if bits == 32 { f64::from(f32::MAX) } else { f64::MAX };
            let smallest = if bits == 32 { f64::from(f32::from_bits(1)) } else { f64::from_bits(1) };
            [0.0, -0.0, 1.5, -2.5 * f64::from(1 << 30), largest, -smallest, f64::INFINITY, f64::NEG_INFINITY]
                .map(Value::Float)
                .into()
        }
        Number::U8 | Number::U16 | Number::U32 | Number::U64 => {
            [0, 1, all, all / 2 + 1, pattern & all].map(Value::Unsigned).into()
        }
        Number::S8 | Number::S16 | Number::S32 | Number::S64 => {
            let high = (all / 2).cast_signed();
            [0, 1, -1, high, -high - 1, pattern.cast_signed() >> (64 - bits)].map(Value::Signed).into()
        }
    }
}

/// One number somewhere in a file.
struct Case {
    r#type: Type,
    /// Where the segment begins, and the field in it.
    offset: u64,
    at: u64,
    value: Value,
}

/// Each type at each offset of 0 to 9 in segments that begin at every offset modulo 8, and now and then across the
/// boundaries of cache lines and pages; no two overlap.
fn cases() -> (Vec<Case>, usize) {
    let (mut cases, mut offset) = (Vec::new(), 0);
    for r#type in (1..=18).map(|code| Type::from_code(code).unwrap()) {
        for at in 0..10 {
            for value in samples(r#type) {
                for _ in 0..8 {
                    cases.push(Case { r#type, offset, at, value });
                    offset += 19; // odd, and more than 9 + 8
                }
            }
        }
    }
    (cases, offset as usize)
}

fn schema_of(case: &Case) -> Arc<Schema> {
    let mut schema = Schema::new(Layout::Packed);
    for byte in 0..case.at {
        schema.add(Field::new(format!("byte{byte}"), kind("U8"))).unwrap();
    }
    schema.add(Field::new("number", case.r#type)).unwrap();
    Arc::new(schema)
}

/// As Ruby is told it, and tells it: an integer, or the bits of a double.
fn in_words(value: Value) -> String {
    match value {
        Value::Unsigned(value) => value.to_string(),
        Value::Signed(value) => value.to_string(),
        Value::Float(value) => format!("{:016x}", value.to_bits()),
    }
}

/// Runs a script of Ruby's; `None` when there is none that has IO::Buffer.
fn ruby(script: &str, path: &Path, input: String) -> Option<String> {
    let probe = Command::new("ruby").args(["-W0", "-e", "exit defined?(IO::Buffer) ? 0 : 1"]).status();
    if !probe.is_ok_and(|status| status.success()) {
        return None;
    }
    let mut child = Command::new("ruby")
        .args(["-W0", "-e", script])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let run = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(run.status.success(), "ruby has ended with {}", run.status);
    Some(String::from_utf8(run.stdout).unwrap())
}

const SET_VALUES: &str = r#"
  File.open(ARGV[0], "r+") do |file|
    buffer = IO::Buffer.map(file)
    $stdin.each_line do |line|
      type, offset, value = line.split
      value = type.downcase.start_with?("f") ? [value].pack("H*").unpack1("G") : Integer(value)
      buffer.set_value(type.to_sym, Integer(offset), value)
    end
  end
"#;

const GET_VALUES: &str = r#"
  File.open(ARGV[0], "r") do |file|
    buffer = IO::Buffer.map(file, nil, 0, IO::Buffer::READONLY)
    $stdin.each_line do |line|
      type, offset = line.split
      value = buffer.get_value(type.to_sym, Integer(offset))
      puts value.is_a?(Float) ? [value].pack("G").unpack1("H*") : value
    end
  end
"#;

#[test]
fn the_bytes_are_those_of_ruby() {
    let folder = Folder::new("identity");
    let (cases, len) = cases();
    let (ours, theirs) = (zeros(&folder, "ours", len), zeros(&folder, "theirs", len));

    let table: String = cases
        .iter()
        .map(|case| format!("{} {} {}\n", case.r#type, case.offset + case.at, in_words(case.value)))
        .collect();
    if ruby(SET_VALUES, &theirs, table.clone()).is_none() {
        println!("SKIP byte identity with IO::Buffer: there is no ruby that has it");
        return;
    }
    for case in &cases {
        let field = case.at as u32;
        let observer = open(&schema_of(case), &theirs, case.offset, Options { read_only: true, ..Options::default() });
        let got = observer.get(field).unwrap();
        assert_eq!(in_words(got), in_words(case.value), "{} at {} + {}", case.r#type, case.offset, case.at);
        let observer = open(&schema_of(case), &ours, case.offset, Options { refuse: true, ..Options::default() });
        observer.set(field, case.value).unwrap();
        assert_eq!(in_words(observer.get(field).unwrap()), in_words(case.value));
    }
    assert!(fs::read(&ours).unwrap() == fs::read(&theirs).unwrap(), "the files differ");
    let told = ruby(GET_VALUES, &ours, table).unwrap();
    assert_eq!(told.lines().count(), cases.len());
    for (case, told) in cases.iter().zip(told.lines()) {
        assert_eq!(told, in_words(case.value), "{} at {} + {}", case.r#type, case.offset, case.at);
    }
}

#[test]
fn plain_stores_are_the_same_bytes() {
    let folder = Folder::new("plain");
    let (cases, len) = cases();
    let (plain, full) = (zeros(&folder, "plain", len), zeros(&folder, "full", len));
    for case in &cases {
        let field = case.at as u32;
        let [plain, full] = [&plain, &full].map(|path| open(&schema_of(case), path, case.offset, Options::default()));
        full.set(field, case.value).unwrap();
        let stored = match case.value {
            Value::Unsigned(value) => plain.set_plain(field, value),
            Value::Signed(value) => u64::try_from(value).is_ok_and(|value| plain.set_plain(field, value)),
            Value::Float(value) => plain.set_plain_float(field, value),
        };
        if !stored {
            plain.set(field, case.value).unwrap();
        }
    }
    assert!(fs::read(&plain).unwrap() == fs::read(&full).unwrap(), "the files differ");
}

#[test]
fn the_originals_offsets() {
    let fields = ["a u32", "b u64", "c f64", "d U16", "e u64"];
    let packed = schema(Layout::Packed, &fields);
    assert_eq!(packed.fields().map(|(_, offset)| offset).collect::<Vec<_>>(), [0, 4, 12, 20, 22]);
    let aligned = schema(Layout::Aligned, &fields);
    assert_eq!(aligned.fields().map(|(_, offset)| offset).collect::<Vec<_>>(), [0, 8, 16, 24, 32]);
}

/// A value for a field of a type, and what is in there afterwards.
const TOO_MUCH: &[(&str, Value, Value)] = {
    use Value::{Float, Signed, Unsigned};
    &[
        ("U8", Unsigned(256), Unsigned(255)),
        ("U8", Signed(-1), Unsigned(0)),
        ("S8", Signed(-129), Signed(-128)),
        ("S8", Unsigned(128), Signed(127)),
        ("u16", Unsigned(65_536), Unsigned(65_535)),
        ("U16", Signed(i64::MIN), Unsigned(0)),
        ("s16", Signed(-32_769), Signed(-32_768)),
        ("S16", Float(1e9), Signed(32_767)),
        ("u32", Unsigned(1 << 32), Unsigned(u32::MAX as u64)),
        ("u32", Float(-0.9e9), Unsigned(0)),
        ("U32", Float(f64::INFINITY), Unsigned(u32::MAX as u64)),
        ("s32", Signed(i64::MAX), Signed(i32::MAX as i64)),
        ("S32", Float(f64::NEG_INFINITY), Signed(i32::MIN as i64)),
        ("u64", Signed(-1), Unsigned(0)),
        ("U64", Float(1e20), Unsigned(u64::MAX)),
        ("s64", Unsigned(u64::MAX), Signed(i64::MAX)),
        ("S64", Float(-1e20), Signed(i64::MIN)),
        ("f32", Float(1e39), Float(f32::MAX as f64)),
        ("F32", Float(-1e39), Float(f32::MIN as f64)),
    ]
};

#[test]
fn what_does_not_fit_is_clamped_or_refused() {
    let folder = Folder::new("clamp");
    let path = zeros(&folder, "segment", 64);
    for &(name, value, nearest) in TOO_MUCH {
        let schema = schema(Layout::Packed, &["byte U8", &format!("number {name}")]);
        let clamping = open(&schema, &path, 3, Options::default());
        let refusing = open(&schema, &path, 3, Options { refuse: true, ..Options::default() });
        clamping.set(1, value).unwrap();
        assert_eq!(clamping.get(1).unwrap(), nearest, "{name}");
        clamping.add(1, value).unwrap();
        assert_eq!(clamping.get(1).unwrap(), nearest, "{name}: the sum");
        clamping.set(1, nearest).unwrap();
        let before = fs::read(&path).unwrap();
        expect(refusing.set(1, value), libc::ERANGE);
        expect(refusing.add(1, value), libc::ERANGE);
        assert_eq!(fs::read(&path).unwrap(), before, "{name}: something was stored");
        refusing.set(1, nearest).unwrap();
        assert_eq!(before[..4], [0; 4], "{name}: the neighbour was written to");
    }
}

#[test]
fn fractions_are_cut_off_and_no_number_is_refused() {
    let folder = Folder::new("nan");
    let path = zeros(&folder, "segment", 64);
    for code in 1..=18 {
        let r#type = Type::from_code(code).unwrap();
        let schema = schema(Layout::Packed, &[&format!("number {type}")]);
        for refuse in BOTH {
            let observer = open(&schema, &path, 1, Options { refuse, ..Options::default() });
            observer.set(0, Value::Float(2.75)).unwrap();
            if matches!(r#type.number(), Number::F32 | Number::F64) {
                assert_eq!(observer.get(0).unwrap(), Value::Float(2.75));
                observer.set(0, Value::Float(f64::NAN)).unwrap();
                assert!(observer.get(0).unwrap().to_f64().is_nan());
            } else {
                expect(observer.set(0, Value::Float(f64::NAN)), libc::EDOM);
                expect(observer.add(0, Value::Float(f64::NAN)), libc::EDOM);
                assert_eq!(observer.get(0).unwrap().to_f64(), 2.0, "{type}");
                observer.add(0, Value::Float(1.5)).unwrap();
                assert_eq!(observer.get(0).unwrap().to_f64(), 3.0, "{type}");
            }
        }
    }
}

#[test]
fn gauges_stop_at_zero() {
    let folder = Folder::new("zero");
    let path = zeros(&folder, "segment", 64);
    for name in ["U8", "u16", "U16", "u32", "U32", "u64", "U64"] {
        let observer = open(&schema(Layout::Packed, &[&format!("active {name}")]), &path, 5, Options::default());
        observer.set(0, Value::Unsigned(1)).unwrap();
        for left in [0, 0] {
            observer.add(0, Value::Signed(-1)).unwrap();
            assert_eq!(observer.get(0).unwrap(), Value::Unsigned(left), "{name}");
        }
    }
}

#[test]
fn what_is_not_there() {
    let folder = Folder::new("nothing");
    let path = zeros(&folder, "segment", 1000);
    let schema = schema(Layout::Packed, &["a u64", "b u64"]);
    let observer = open(&schema, &path, 8, Options::default());
    expect(observer.set(2, Value::Unsigned(1)), libc::ENOENT);
    expect(observer.add(u32::MAX, Value::Unsigned(1)), libc::ENOENT);
    expect(observer.get(2), libc::ENOENT);
    expect(observer.slot(2), libc::ENOENT);
    expect(observer.index("c"), libc::ENOENT);
    assert!(!observer.set_plain(2, 1) && !observer.set_plain_float(2, 1.0));
    assert_eq!(observer.index("b").unwrap(), 1);
    assert_eq!(fs::read(&path).unwrap(), [0; 1000]);

    let open = |size, offset| Observer::open(schema.clone(), &path, size, offset, Options::default());
    for (size, offset) in
        [(15, 0), (0, 0), (16, 985), (1001, 0), (16, 1000), (16, 1 << 40), (16, u64::MAX), (usize::MAX, 1)]
    {
        expect(open(size, offset), libc::EINVAL);
    }
    for offset in [0, 1, 984] {
        open(16, offset).unwrap().set(1, Value::Unsigned(1)).unwrap();
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), 1000, "opening has changed the length");
    expect(Observer::open(schema.clone(), &folder.join("none"), 16, 0, Options::default()), libc::ENOENT);
    expect(Observer::open(schema.clone(), &folder.join(""), 16, 0, Options::default()), libc::EISDIR);
    let link = folder.join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    expect(Observer::open(schema.clone(), &link, 16, 0, Options::default()), libc::ELOOP);
    assert!(Observer::open(schema, &link, 16, 0, Options { read_only: true, ..Options::default() }).is_ok());
}

#[test]
fn aligned_means_aligned_in_memory() {
    let folder = Folder::new("aligned");
    let path = zeros(&folder, "segment", 4096);
    for (fields, alignment) in [(&["a U8"][..], 1), (&["a U8", "b s16"], 2), (&["a F32", "b U8"], 4), (&["a u64"], 8)] {
        let schema = schema(Layout::Aligned, fields);
        for offset in 0..32 {
            let opened = Observer::open(schema.clone(), &path, 64, offset, Options::default());
            match offset % alignment {
                0 => opened.unwrap().set(0, Value::Unsigned(1)).unwrap(),
                _ => expect(opened, libc::EINVAL),
            }
        }
        // So that one segment has them aligned and the next one not.
        let options = StoreOptions { segment_size: 101, ..StoreOptions::default() };
        let store = Store::create(&folder.join("metrics.shm"), options).unwrap();
        match alignment {
            1 => assert_eq!(store.allocate(Some(&schema), "", 0).unwrap(), 0),
            _ => expect(store.allocate(Some(&schema), "", 0), libc::EINVAL),
        }
    }
}

#[test]
fn a_slot_is_where_the_number_is() {
    let folder = Folder::new("slot");
    let path = zeros(&folder, "segment", 5000);
    let schema = schema(Layout::Packed, &["a U8", "b U32"]);
    let observer = open(&schema, &path, 4091, Options::default());
    let (address, r#type) = observer.slot(1).unwrap();
    assert_eq!(r#type, kind("U32"));
    // SAFETY: four bytes that live as long as the observer.
    unsafe { address.cast::<[u8; 4]>().write([1, 2, 3, 4]) };
    assert_eq!(observer.get(1).unwrap(), Value::Unsigned(0x0102_0304));
    assert_eq!(fs::read(&path).unwrap()[4091..4097], [0, 1, 2, 3, 4, 0]);
}

#[test]
fn for_reading_only() {
    let folder = Folder::new("read");
    let path = zeros(&folder, "segment", 64);
    let schema = schema(Layout::Packed, &["a u64"]);
    let writer = open(&schema, &path, 8, Options::default());
    let reader = open(&schema, &path, 8, Options { read_only: true, ..Options::default() });
    writer.set(0, Value::Unsigned(5)).unwrap();
    expect(reader.set(0, Value::Unsigned(6)), libc::EACCES);
    expect(reader.add(0, Value::Unsigned(6)), libc::EACCES);
    assert!(!reader.set_plain(0, 6) && !reader.set_plain_float(0, 6.0));
    assert_eq!(reader.get(0).unwrap(), Value::Unsigned(5));
}

const THREADS: u64 = 16;
const ADDS: u64 = 5_000;

#[test]
fn no_increment_of_a_thread_is_lost() {
    let folder = Folder::new("threads");
    let path = zeros(&folder, "segment", 4096);
    for (layout, offsets) in [(Layout::Packed, [0, 512, 3, 61]), (Layout::Aligned, [0, 512, 8, 72])] {
        for offset in offsets {
            let schema = schema(layout, &["byte U8", "a u64", "b U32", "c f64", "d S64"]);
            fs::write(&path, [0; 4096]).unwrap();
            let observer = open(&schema, &path, offset, Options::default());
            std::thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        for _ in 0..ADDS {
                            observer.add(1, Value::Unsigned(3)).unwrap();
                            observer.add(2, Value::Unsigned(1)).unwrap();
                            observer.add(3, Value::Float(0.5)).unwrap();
                            observer.add(4, Value::Signed(-1)).unwrap();
                        }
                    });
                }
            });
            let all = THREADS * ADDS;
            let got: Vec<_> = (0..5).map(|field| observer.get(field).unwrap()).collect();
            let expected = [
                Value::Unsigned(0),
                Value::Unsigned(3 * all),
                Value::Unsigned(all),
                Value::Float(0.5 * all as f64),
                Value::Signed(-all.cast_signed()),
            ];
            assert_eq!(got, expected, "{layout:?} at {offset}");
        }
    }
}

fn shared() -> Arc<Schema> {
    schema(Layout::Aligned, &["byte U8", "a u64", "b U32", "c F64", "d s16"])
}

const OF_A_PROCESS: u64 = 8_000;

#[test]
fn no_increment_of_a_process_is_lost() {
    let folder = Folder::new("processes");
    let path = zeros(&folder, "segment", 4096);
    let mut processes: Vec<_> = (0..4).map(|_| Process::start("fields::adding_child", &path)).collect();
    processes.iter_mut().for_each(|process| drop(process.ready()));
    let observer = open(&shared(), &path, 128, Options::default());
    observer.set(0, Value::Unsigned(1)).unwrap(); // and off they go
    processes.into_iter().for_each(Process::finish);
    let all = 4 * OF_A_PROCESS;
    assert_eq!(observer.get(1).unwrap(), Value::Unsigned(all));
    assert_eq!(observer.get(2).unwrap(), Value::Unsigned(7 * all));
    assert_eq!(observer.get(3).unwrap(), Value::Float(all as f64 / 4.0));
    assert_eq!(observer.get(4).unwrap(), Value::Signed(-32_000));
}

#[test]
#[ignore = "a part of no_increment_of_a_process_is_lost"]
fn adding_child() {
    let Some(path) = store_of_child() else { return };
    let observer = open(&shared(), &path, 128, Options::default());
    say_ready("");
    while observer.get(0).unwrap() == Value::Unsigned(0) {
        std::hint::spin_loop();
    }
    for _ in 0..OF_A_PROCESS {
        observer.add(1, Value::Unsigned(1)).unwrap();
        observer.add(2, Value::Unsigned(7)).unwrap();
        observer.add(3, Value::Float(0.25)).unwrap();
        observer.add(4, Value::Signed(-1)).unwrap();
    }
}

#[test]
fn after_a_fork() {
    in_child("fields::after_a_fork_child");
}

#[test]
#[ignore = "a part of after_a_fork"]
fn after_a_fork_child() {
    let folder = Folder::new("fork");
    let path = zeros(&folder, "segment", 4096);
    let schema = schema(Layout::Packed, &["a u64", "b f32"]);
    let observer = open(&schema, &path, 64, Options::default());
    observer.set(0, Value::Unsigned(5)).unwrap();
    // SAFETY: the child only uses the observer, opens one of its own, and leaves.
    match unsafe { libc::fork() } {
        0 => {
            let refused = is_refused(observer.set(0, Value::Unsigned(6)))
                && is_refused(observer.add(0, Value::Unsigned(6)))
                && is_refused(observer.set(1, Value::Float(1.0)))
                && !observer.set_plain(0, 6)
                && !observer.set_plain_float(0, 6.0);
            let reads = observer.get(0).is_ok_and(|value| value == Value::Unsigned(5));
            let own = open(&schema, &path, 128, Options::default()).set(0, Value::Unsigned(7)).is_ok();
            // SAFETY: ends the child without what belongs to the parent.
            unsafe { libc::_exit(i32::from(!refused) | i32::from(!reads) << 1 | i32::from(!own) << 2) }
        }
        child => {
            done(child);
            let mut status = 0;
            // SAFETY: our own child, and room for its status.
            done(unsafe { libc::waitpid(child, &mut status, 0) });
            assert_eq!(status, 0, "1: it wrote into its parent's segment, 2: it cannot read, 4: nor have its own");
            observer.add(0, Value::Unsigned(1)).unwrap();
            assert_eq!(observer.get(0).unwrap(), Value::Unsigned(6));
            assert_eq!(open(&schema, &path, 128, Options::default()).get(0).unwrap(), Value::Unsigned(7));
        }
    }
}

#[test]
fn statuses_have_sentences() {
    let folder = Folder::new("sentence");
    let path = zeros(&folder, "segment", 64);
    let schema = schema(Layout::Packed, &["requests_active U8"]);
    let observer = open(&schema, &path, 0, Options { refuse: true, ..Options::default() });
    let error = observer.set(0, Value::Signed(-1)).unwrap_err();
    assert_eq!(error.status(), -libc::ERANGE);
    let sentence = error.to_string();
    assert!(sentence.contains("requests_active") && sentence.contains("U8"), "{sentence}");
}
