//! Arrays of any strides become frames in C order.

use shmhot::circbuf::*;

use crate::support::*;

/// The frames of an array, element by element.
fn gathered(array: &Strided<'_>, shape: &[u32], item: usize) -> Vec<u8> {
    let whole: Vec<usize> = [array.frames].into_iter().chain(shape.iter().map(|&length| length as usize)).collect();
    let mut bytes = Vec::new();
    for element in 0..whole.iter().product() {
        let (mut rest, mut at) = (element, array.origin as isize);
        for (&length, &stride) in whole.iter().zip(array.strides).rev() {
            at += (rest % length) as isize * stride;
            rest /= length;
        }
        bytes.extend_from_slice(&array.bytes[at as usize..at as usize + item]);
    }
    bytes
}

/// Strides as transposing, slicing, reversing and broadcasting make them, and others.
fn strides_of(shape: &[usize], item: usize, random: &mut Random) -> Vec<isize> {
    let mut order: Vec<usize> = (0..shape.len()).collect();
    if random.below(3) > 0 {
        (1..order.len()).rev().for_each(|i| order.swap(i, random.below(i as u64 + 1) as usize));
    }
    let mut strides = vec![0; shape.len()];
    let mut size = item as isize;
    for &axis in order.iter().rev() {
        strides[axis] = match random.below(8) {
            0 => -size,
            1 => 0,
            2 => random.below(50) as isize - 25,
            _ => size,
        };
        size *= shape[axis] as isize * if random.below(4) == 0 { 2 } else { 1 };
    }
    strides
}

#[test]
fn random_arrays() {
    let mut random = Random(21);
    let memory: Vec<u8> = (0..1 << 20).map(|_| random.next() as u8).collect();
    for _ in 0..soak(20_000, 1500) {
        let character = b"BHfdD"[random.below(5) as usize];
        let dtype = Dtype::new(character).unwrap();
        let frame_shape: Vec<u32> = (0..random.below(5)).map(|_| 1 + random.below(5) as u32).collect();
        let frames = 1 + random.below(12) as usize;
        let shape: Vec<_> = [frames].into_iter().chain(frame_shape.iter().map(|&length| length as usize)).collect();
        let strides = strides_of(&shape, dtype.size(), &mut random);
        let (before, behind) = Strided::reach(&strides, shape.into_iter(), dtype.size()).expect("a small array");
        // Just as much memory as it reaches.
        let array = Strided { bytes: &memory[..before + behind], origin: before, strides: &strides, frames };

        let name = Name::new("strided");
        let stream = name.create(Options::default());
        let format = Format { dtype, frame_shape, frames: 8, rate: 1.0, key: String::new() };
        stream.configure(&format, 0.0).unwrap();
        let mut reader = Reader::new(name.mirror());
        let skew = random.below(8) as usize; // so that the write is split
        stream.write(&Source::Contiguous(&vec![0; skew * format.frame_size()]), None).unwrap();
        while reader.read(99).unwrap().span.count > 0 {}
        stream.write(&Source::Strided(array), None).unwrap();
        let expected = gathered(&array, &format.frame_shape, dtype.size());
        let newest = expected.len().saturating_sub(8 * format.frame_size());
        assert_eq!(reader.read(99).unwrap().bytes, &expected[newest..], "{format:?} {strides:?}");
    }
}

#[test]
fn arrays_that_cannot_be() {
    let name = Name::new("strides");
    let stream = name.numbered(10);
    let bytes = [0; 1024];
    let write = |origin, strides: &[isize], frames| {
        stream.write(&Source::Strided(Strided { bytes: &bytes, origin, strides, frames }), None)
    };
    write(0, &[64, 8], 16).unwrap();
    write(1016, &[-64, -8], 16).unwrap();
    write(0, &[0, 0], 1000).unwrap();
    write(0, &[1, 1], 1).unwrap();
    for (origin, strides, frames) in [
        (0, &[64][..], 1),
        (0, &[64, 8, 1], 1),
        (0, &[], 1),
        (0, &[64, 8], 17),
        (1, &[64, 8], 16),
        (0, &[-64, 8], 2),
        (1015, &[-64, -8], 16),
        (1017, &[-64, -8], 16),
        (0, &[isize::MAX, 8], 2),
        (0, &[isize::MIN, 8], 2),
        (0, &[isize::MAX, isize::MAX], 2),
        (0, &[8, 8], usize::MAX),
        (usize::MAX, &[0, 0], 1),
        (1024, &[0, 0], 1),
    ] {
        expect(write(origin, strides, frames), libc::EINVAL);
    }
    write(0, &[isize::MAX, 8], 1).unwrap(); // the only frame is where it begins
    let written = stream.info().unwrap().written;
    write(0, &[isize::MAX, isize::MAX], 0).unwrap();
    assert_eq!(stream.info().unwrap().written, written);
}
