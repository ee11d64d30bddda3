//! The processor's own counter of time.

/// Which counter [`read`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counter {
    /// The time stamp counter.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code))]
    X86Tsc,
    /// `CNTVCT_EL0`.
    #[cfg_attr(not(target_arch = "aarch64"), expect(dead_code))]
    ArmVcnt,
}

#[cfg(target_arch = "x86_64")]
mod here {
    use core::arch::x86_64::{__cpuid, _mm_lfence, _rdtsc};

    pub(crate) const COUNTER: Option<super::Counter> = Some(super::Counter::X86Tsc);

    /// The counter, read after all loads before and before all loads after.
    #[inline]
    pub(crate) fn read() -> u64 {
        // SAFETY: every x86-64 processor has both. The first fence keeps the reading behind earlier loads, the second
        // before later ones.
        unsafe {
            _mm_lfence();
            let counter = _rdtsc();
            _mm_lfence();
            counter
        }
    }

    /// Whether it runs at one rate in all states of the processor.
    pub(crate) fn is_constant() -> bool {
        const POWER: u32 = 0x8000_0007;
        const INVARIANT_TSC: u32 = 1 << 8; // EDX; Intel SDM volume 3, "Invariant TSC"
        let cpuid = |leaf| {
            #[allow(unused_unsafe)] // safe in newer toolchains
            // SAFETY: every x86-64 processor has the instruction.
            unsafe {
                __cpuid(leaf)
            }
        };
        cpuid(0x8000_0000).eax >= POWER && cpuid(POWER).edx & INVARIANT_TSC != 0
    }
}

#[cfg(target_arch = "aarch64")]
mod here {
    pub(crate) const COUNTER: Option<super::Counter> = Some(super::Counter::ArmVcnt);

    /// The counter, read after all loads before and before all loads after.
    #[inline]
    pub(crate) fn read() -> u64 {
        let counter: u64;
        // SAFETY: Linux lets programs read this register. The barriers keep the reading in its place; the assembly may
        // touch memory as far as the compiler knows, which keeps it from moving loads across.
        unsafe { core::arch::asm!("isb", "mrs {}, cntvct_el0", "isb", out(reg) counter, options(nostack)) };
        counter
    }

    /// Whether it runs at one rate in all states of the processor: the architecture says so.
    pub(crate) fn is_constant() -> bool {
        true
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod here {
    pub(crate) const COUNTER: Option<super::Counter> = None;

    pub(crate) fn read() -> u64 {
        0
    }

    pub(crate) fn is_constant() -> bool {
        false
    }
}

pub(crate) use here::{COUNTER, is_constant, read};
