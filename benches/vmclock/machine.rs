//! What the bench needs of the machine: its counter, its processors, and the C library.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use shmhot::vmclock::{Snapshot, Time};

/// The processor's counter, not before what comes before, and not after what comes after.
#[inline(always)]
pub(crate) fn counter() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: part of every x86-64 processor.
    unsafe {
        use std::arch::x86_64::{_mm_lfence, _rdtsc};
        _mm_lfence();
        let count = _rdtsc();
        _mm_lfence();
        count
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: Linux lets every program read it.
    unsafe {
        let count;
        std::arch::asm!("isb", "mrs {}, cntvct_el0", "isb", out(reg) count, options(nostack));
        count
    }
}

/// Nanoseconds of a count.
pub(crate) fn counter_period_ns() -> f64 {
    let (begin, count) = (Instant::now(), counter());
    while begin.elapsed() < Duration::from_millis(50) {}
    begin.elapsed().as_nanos() as f64 / (counter() - count) as f64
}

pub(crate) fn clock_gettime() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for the time.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// The processors that this process may run on.
pub(crate) fn processors() -> Vec<usize> {
    // SAFETY: room for the set, which zeroes make an empty one, and numbers that it has.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of_val(&set), &mut set);
        (0..libc::CPU_SETSIZE as usize).filter(|&processor| libc::CPU_ISSET(processor, &set)).collect()
    }
}

/// Keeps this thread on these processors.
pub(crate) fn stay_on(processors: &[usize]) -> io::Result<()> {
    // SAFETY: as above.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        processors.iter().for_each(|&processor| libc::CPU_SET(processor, &mut set));
        libc::sched_setaffinity(0, size_of_val(&set), &set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How long a cache line takes from one processor to the other, in nanoseconds: what two threads that pass a number to and
/// fro need for one way. Latencies beside a writer are a few of these.
pub(crate) fn passing_ns(here: usize, there: usize) -> io::Result<f64> {
    const ROUNDS: u32 = 100_000;
    let number = AtomicU32::new(0);
    let pass = |from: u32| {
        for number_here in (from..2 * ROUNDS).step_by(2) {
            while number.load(Ordering::Acquire) != number_here {
                std::hint::spin_loop();
            }
            number.store(number_here + 1, Ordering::Release);
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| stay_on(&[there]).map(|()| pass(1)));
        stay_on(&[here])?;
        let begin = Instant::now();
        pass(0);
        other.join().expect("the other thread")?;
        Ok(begin.elapsed().as_nanos() as f64 / f64::from(2 * ROUNDS))
    })
}

/// Ends this process with its parent.
pub(crate) fn end_with_parent() {
    // SAFETY: concerns this process alone.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Copies 96 bytes.
#[inline(always)]
pub(crate) fn copy(from: &[u64; 12], to: &mut [u64; 12]) {
    *std::hint::black_box(to) = *std::hint::black_box(from);
}

type Open = unsafe extern "C" fn(*const libc::c_char, *mut *mut libc::c_void) -> i32;
type Close = unsafe extern "C" fn(*mut libc::c_void) -> i32;
type Read<T> = unsafe extern "C" fn(*const libc::c_void, *mut T) -> i32;

/// A clock through the C ABI, as a program has it that links libshmhot.so.
pub(crate) struct CClock {
    clock: *mut libc::c_void,
    snapshot: Read<Snapshot>,
    now: Read<Time>,
    close: Close,
}

impl CClock {
    pub(crate) fn open(library: &Path, page: &Path) -> Result<Self, String> {
        let name = |path: &Path| CString::new(path.to_string_lossy().as_bytes()).expect("a path without NUL");
        // SAFETY: a C string; the library has no constructors.
        let library = unsafe { libc::dlopen(name(library).as_ptr(), libc::RTLD_NOW) };
        if library.is_null() {
            // SAFETY: dlerror has something to say after a failure.
            return Err(unsafe { CStr::from_ptr(libc::dlerror()) }.to_string_lossy().into_owned());
        }
        let symbol = |name: &CStr| {
            // SAFETY: the library stays open.
            let address = unsafe { libc::dlsym(library, name.as_ptr()) };
            if address.is_null() { Err(format!("no {name:?} in libshmhot.so")) } else { Ok(address) }
        };
        // SAFETY: the prototypes of shmhot/vmclock.h.
        let (open, snapshot, now, close) = unsafe {
            (
                std::mem::transmute::<*mut libc::c_void, Open>(symbol(c"vmclock_open")?),
                std::mem::transmute::<*mut libc::c_void, Read<Snapshot>>(symbol(c"vmclock_snapshot")?),
                std::mem::transmute::<*mut libc::c_void, Read<Time>>(symbol(c"vmclock_now")?),
                std::mem::transmute::<*mut libc::c_void, Close>(symbol(c"vmclock_close")?),
            )
        };
        let mut clock = std::ptr::null_mut();
        // SAFETY: a C string, and room for the handle.
        match unsafe { open(name(page).as_ptr(), &mut clock) } {
            0 => Ok(Self { clock, snapshot, now, close }),
            status => Err(format!("vmclock_open: {status}")),
        }
    }

    #[inline(always)]
    pub(crate) fn snapshot(&self, out: &mut Snapshot) -> i32 {
        // SAFETY: a live handle, and room for the page.
        unsafe { (self.snapshot)(self.clock, out) }
    }

    #[inline(always)]
    pub(crate) fn now(&self, out: &mut Time) -> i32 {
        // SAFETY: a live handle, and room for the time.
        unsafe { (self.now)(self.clock, out) }
    }
}

impl Drop for CClock {
    fn drop(&mut self) {
        // SAFETY: nobody has the handle any more.
        unsafe { (self.close)(self.clock) };
    }
}
