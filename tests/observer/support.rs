//! Schemas and stores, folders to put them in, and processes that use them.

use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use crate::common::*;
use shmhot::observer::*;

pub fn kind(name: &str) -> Type {
    Type::from_name(name).unwrap_or_else(|| panic!("no type {name}"))
}

/// A schema of fields "name type".
pub fn schema(layout: Layout, fields: &[&str]) -> Arc<Schema> {
    let mut schema = Schema::new(layout);
    for field in fields {
        let (name, r#type) = field.split_once(' ').expect("a name and a type");
        schema.add(Field::new(name, kind(r#type))).expect("a field");
    }
    Arc::new(schema)
}

/// Where the sidecar of a store is.
pub fn sidecar_of(path: &Path) -> PathBuf {
    path.with_extension("shm.sidecar")
}

pub const SEGMENT: usize = 512;

pub fn create(path: &Path, segments: u32) -> Store {
    Store::create(path, StoreOptions { segments, ..StoreOptions::default() }).expect("a new store")
}

pub const BOTH: [bool; 2] = [false, true];

pub fn reader(path: &Path, checked: bool) -> Result<Store> {
    Store::open(path, StoreOptions { read_only: true, checked, ..StoreOptions::default() })
}

/// A segment of a store, to be written to.
pub fn observer(schema: &Arc<Schema>, path: &Path, segment: u32) -> Observer {
    Observer::open(schema.clone(), path, SEGMENT, u64::from(segment) * SEGMENT as u64, Options::default())
        .expect("a segment")
}

/// All that a store tells of a segment.
pub fn values(store: &Store, segment: u32) -> Result<Vec<Value>> {
    let mut values = Vec::new();
    let count = store.read(segment, |index, value| {
        assert_eq!(index, values.len());
        values.push(value);
    })?;
    assert_eq!(count as usize, values.len());
    Ok(values)
}

/// The same for segments from `first` on, of `cap` fields at most.
pub fn values_of_many(store: &Store, first: u32, count: u32, cap: usize) -> Vec<Result<Vec<Value>>> {
    let mut values = vec![MaybeUninit::new(Value::Unsigned(0)); count as usize * cap];
    let mut told = Vec::new();
    let segments = store.read_many(first, count, cap, &mut values, |at, read| {
        assert_eq!(at, told.len());
        told.push(read);
    });
    assert_eq!(segments.expect("segments") as usize, told.len());
    // SAFETY: all were initialized above.
    let value = |at: usize| unsafe { values[at].assume_init() };
    let read = told.into_iter().enumerate();
    read.map(|(at, read)| {
        read.map(|fields| (0..cap.min(fields as usize)).map(|field| value(at * cap + field)).collect())
    })
    .collect()
}

/// The segments that are taken.
pub fn taken(store: &Store) -> Result<Vec<u32>> {
    let (mut segments, mut from) = (Vec::new(), 0);
    while let Some(segment) = store.next(from)? {
        segments.push(segment);
        from = segment + 1;
    }
    Ok(segments)
}

/// The store of a process that was started for it.
pub fn store_of_child() -> Option<PathBuf> {
    subject_of_child().map(PathBuf::from)
}
