//! Making an io_uring as good as this kernel allows, and saying why when it allows none.

use std::fs;
use std::io;

use io_uring::{Builder, IoUring, Probe as OpcodeProbe, opcode};

use super::errno;
use crate::hotpath::error::{Error, Result};
use crate::hotpath::options::Options;
use crate::hotpath::probe::Features;

/// A set-up flag, which a kernel may refuse.
type Flag = (Features, fn(&mut Builder) -> &mut Builder);

/// The most dispensable first.
const FLAGS: [Flag; 4] = [
    (Features::DEFER_TASKRUN, |b| b.setup_defer_taskrun().setup_taskrun_flag()),
    (Features::SINGLE_ISSUER, |b| b.setup_single_issuer()),
    (Features::COOP_TASKRUN, |b| b.setup_coop_taskrun().setup_taskrun_flag()),
    (Features::SUBMIT_ALL, |b| b.setup_submit_all()),
];

/// What only pays when one thread does everything.
const SINGLE_THREAD: Features =
    Features(Features::DEFER_TASKRUN.0 | Features::SINGLE_ISSUER.0 | Features::COOP_TASKRUN.0);

fn builder(flags: Features, options: &Options) -> Builder {
    let mut builder = IoUring::builder();
    // Completions of all buffers and sends fit; more than that waits in the kernel's backlog.
    let completions = (options.queue_depth * 4).max(options.n_bufs + options.queue_depth * 2).min(65536);
    builder.setup_r_disabled().setup_cqsize(completions.next_power_of_two()).dontfork();
    for (feature, set) in FLAGS {
        if flags.has(feature) {
            set(&mut builder);
        }
    }
    builder
}

/// A disabled ring with the best flags that the kernel takes: those it refuses are dropped one by one.
pub(super) fn make_ring(options: &Options) -> Result<IoUring> {
    let mut flags = FLAGS.iter().fold(Features(0), |all, (feature, _)| all.with(*feature));
    if options.any_thread {
        flags = flags.without(SINGLE_THREAD);
    } else {
        flags = flags.without(Features::COOP_TASKRUN); // DEFER_TASKRUN does it better
    }
    loop {
        // The steps of one connection must fit into the queue at once.
        let entries = options.queue_depth.max(super::MAX_STEPS as u32);
        let error = match builder(flags, options).build(entries) {
            Ok(ring) => return Ok(ring),
            Err(error) => error,
        };
        let dispensable = FLAGS.iter().map(|(feature, _)| *feature).find(|feature| flags.has(*feature));
        match dispensable {
            Some(feature) if errno(&error) == libc::EINVAL => {
                flags = flags.without(feature);
                if feature == Features::DEFER_TASKRUN {
                    flags = flags.with(Features::COOP_TASKRUN);
                }
            }
            _ => return Err(explain(error)),
        }
    }
}

/// Why io_uring_setup failed, and what would help.
fn explain(error: io::Error) -> Error {
    let errno = errno(&error);
    let why = match errno {
        libc::ENOSYS => "this kernel has no io_uring, or a sandbox says so (ENOSYS)".to_owned(),
        libc::EPERM => match sysctl().as_str() {
            "1" => "the sysctl kernel.io_uring_disabled is 1: only members of kernel.io_uring_group may use io_uring"
                .to_owned(),
            "2" => "the sysctl kernel.io_uring_disabled is 2: nobody may use io_uring on this host".to_owned(),
            _ => "io_uring_setup is refused (EPERM): a sandbox such as a container's seccomp profile forbids io_uring"
                .to_owned(),
        },
        libc::ENOMEM => {
            "io_uring_setup has no memory (ENOMEM): raise RLIMIT_MEMLOCK (ulimit -l) or the memory limit, or ask \
                         for a smaller queue_depth"
                .to_owned()
        }
        libc::EMFILE | libc::ENFILE => format!("io_uring_setup: {error}: raise RLIMIT_NOFILE (ulimit -n)"),
        libc::EINVAL => {
            "io_uring_setup refuses every set of flags that would do (EINVAL): this needs Linux 5.19 or newer"
                .to_owned()
        }
        _ => format!("io_uring_setup: {error}"),
    };
    Error::Unsupported { errno, why }
}

/// The value of kernel.io_uring_disabled, empty where the kernel has none.
fn sysctl() -> String {
    fs::read_to_string("/proc/sys/kernel/io_uring_disabled").map(|s| s.trim().to_owned()).unwrap_or_default()
}

/// Makes the smallest ring that tells whether io_uring is allowed at all.
pub(in crate::hotpath) fn probe() -> Result<IoUring> {
    IoUring::builder().setup_r_disabled().build(1).map_err(explain)
}

/// What this kernel offers, asked of the kernel itself.
pub(in crate::hotpath) fn features(ring: &IoUring) -> Features {
    let mut found = Features(0);
    let mut see = |feature, there: bool| {
        if there {
            found = found.with(feature);
        }
    };
    let small = Options { queue_depth: 1, n_bufs: 1, buf_size: 1, ..Options::default() };
    for (feature, _) in FLAGS {
        let needs = if feature == Features::DEFER_TASKRUN { Features::SINGLE_ISSUER } else { Features(0) };
        see(feature, builder(feature.with(needs), &small).build(1).is_ok());
    }
    let mut opcodes = OpcodeProbe::new();
    if ring.submitter().register_probe(&mut opcodes).is_ok() {
        see(Features::ACCEPT, opcodes.is_supported(opcode::Accept::CODE));
        see(Features::RECV, opcodes.is_supported(opcode::Recv::CODE));
        see(Features::SEND, opcodes.is_supported(opcode::Send::CODE));
        see(Features::SENDMSG, opcodes.is_supported(opcode::SendMsg::CODE));
        see(Features::SEND_ZC, opcodes.is_supported(opcode::SendZc::CODE));
        see(Features::CONNECT, opcodes.is_supported(opcode::Connect::CODE));
        see(Features::CLOSE, opcodes.is_supported(opcode::Close::CODE));
        see(Features::ASYNC_CANCEL, opcodes.is_supported(opcode::AsyncCancel::CODE));
        see(Features::TIMEOUT, opcodes.is_supported(opcode::Timeout::CODE));
        see(Features::POLL, opcodes.is_supported(opcode::PollAdd::CODE));
        // SEND_ZC came with multishot receive in one release (6.0), and no call asks for the latter directly.
        see(Features::MULTISHOT_RECV, opcodes.is_supported(opcode::SendZc::CODE));
    }
    see(Features::EXT_ARG, ring.params().is_feature_ext_arg());
    see(Features::NODROP, ring.params().is_feature_nodrop());
    see(Features::SKIP_SUCCESS, ring.params().is_feature_skip_cqe_on_success());
    see(Features::RECVSEND_BUNDLE, ring.params().is_feature_recvsend_bundle());
    see(Features::MIN_TIMEOUT, ring.params().is_feature_min_timeout());
    // Multishot accept and buffer rings came together (5.19).
    let buffer_ring = super::Buffers::new(&small).and_then(|buffers| super::BufferRing::new(ring, &buffers)).is_ok();
    see(Features::BUFFER_RING, buffer_ring);
    see(Features::MULTISHOT_ACCEPT, buffer_ring);
    found
}
