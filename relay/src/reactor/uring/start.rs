//! Whether this kernel, in this container, gives us an io_uring that will do, and why not.
//!
//! Containers refuse it with various errors, old kernels lack parts of it. All of that is found out
//! before a worker starts, and told in words for one log line and a label in the metrics. Nothing
//! here is fatal.

use std::io;

use io_uring::{IoUring, Probe, opcode};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::Ring;
use super::pool::Pool;

/// Why there is no io_uring here, for example `io_uring_setup: EPERM`. It holds no number or name
/// that differs between starts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(String);

impl Unavailable {
    /// For this reason.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// What a ring is made with beside the options of its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UringOptions {
    /// The length of one receive buffer in bytes.
    pub receive_bytes: usize,
    /// Bytes of all receive buffers of one reactor: 4 MiB by default. Connections whose bytes find
    /// none free wait for the next turn.
    pub receive_bytes_total: usize,
    /// Slots of the file table, 65,536 by default and at most the limit on open files; connections
    /// beyond it are used by descriptor. 0 on kernels before 6.13, which let go of a socket only
    /// when every operation begun before it is done.
    pub table: u32,
    /// A send of one slice of at least so many bytes, to a host other than ours, is not copied;
    /// `None`, the default, copies all.
    pub zero_copy_bytes_min: Option<usize>,
    /// Lets connections of this host take part in that, for tests.
    pub zero_copy_to_loopback: bool,
    /// Goes on though the kernel copies all the same, as it does on a host's own network, for
    /// tests.
    pub zero_copy_though_copied: bool,
}

impl Default for UringOptions {
    fn default() -> Self {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let table = u32::try_from(files).unwrap_or(u32::MAX).min(TABLE_MAX);
        Self {
            receive_bytes: 64 * 1024,
            receive_bytes_total: 4 * 1024 * 1024,
            table: if clears_slots_at_once() { table } else { 0 },
            zero_copy_bytes_min: None,
            zero_copy_to_loopback: false,
            zero_copy_though_copied: false,
        }
    }
}

/// Finds out whether a ring can be had, and lets go of it.
///
/// # Errors
///
/// [`Unavailable`] says why not.
pub fn probe() -> Result<(), Unavailable> {
    ring(&UringOptions { receive_bytes_total: 0, table: 0, ..UringOptions::default() }).map(drop)
}

/// A ring for one worker, on whose thread this is called.
pub(super) fn ring(options: &UringOptions) -> Result<Ring, Unavailable> {
    let kernel = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(COMPLETIONS)
        .build(ENTRIES)
        .map_err(|error| refused("io_uring_setup", &error))?;
    let parameters = kernel.params();
    let features = [
        ("completions that are never lost", parameters.is_feature_nodrop()),
        ("waiting with a timeout", parameters.is_feature_ext_arg()),
        ("polling without threads", parameters.is_feature_fast_poll()),
        ("skipped completions", parameters.is_feature_skip_cqe_on_success()),
        ("stable submissions", parameters.is_feature_submit_stable()),
    ];
    if let Some((missing, _)) = features.iter().find(|(_, there)| !there) {
        return Err(Unavailable(format!("no {missing} in this kernel's io_uring")));
    }
    let mut known = Probe::new();
    kernel
        .submitter()
        .register_probe(&mut known)
        .map_err(|error| refused("io_uring_register", &error))?;
    if let Some((missing, _)) = OPERATIONS.iter().find(|(_, code)| !known.is_supported(*code)) {
        return Err(Unavailable(format!("no {missing} in this kernel's io_uring")));
    }
    let pool = Pool::new(options.receive_bytes, options.receive_bytes_total);
    Ring::new(kernel, pool, options.table).map_err(|error| refused("io_uring_register", &error))
}

/// A refusal by the kernel, or by what stands before it.
pub(super) fn refused(call: &str, error: &io::Error) -> Unavailable {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    let name = NAMES.iter().find(|(known, _)| Some(*known) == errno).map(|(_, name)| *name);
    Unavailable(match name {
        Some(name) => format!("{call}: {name}"),
        None => format!("{call}: {error}"),
    })
}

/// Whether a slot of the file table gives up its socket as soon as no operation uses it: since
/// Linux 6.13.
fn clears_slots_at_once() -> bool {
    version(&rustix::system::uname().release().to_string_lossy()) >= (6, 13)
}

/// The first two numbers of a kernel's release.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().ok());
    let mut next = || numbers.next().flatten().unwrap_or(0);
    (next(), next())
}

const NAMES: &[(Errno, &str)] = &[
    (Errno::PERM, "EPERM, not permitted here"),
    (Errno::ACCESS, "EACCES, not permitted here"),
    (Errno::NOSYS, "ENOSYS, not offered here"),
    (Errno::NOMEM, "ENOMEM, the limit of locked memory"),
    (Errno::INVAL, "EINVAL, the kernel is too old"),
];

/// What must be there. That a code is known does not say that each of its flags is; those come
/// with `DEFER_TASKRUN`, Linux 6.1, without which there is no ring in the first place.
const OPERATIONS: &[(&str, u8)] = &[
    ("ACCEPT", opcode::Accept::CODE),
    ("RECV", opcode::Recv::CODE),
    ("SEND", opcode::Send::CODE),
    ("SENDMSG", opcode::SendMsg::CODE),
    ("POLL_ADD", opcode::PollAdd::CODE),
    ("READ", opcode::Read::CODE),
    ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
];

/// Entries of the submission queue: more than a worker submits in a turn.
const ENTRIES: u32 = 1_024;

/// Entries of the completion queue. What does not fit waits in the kernel.
const COMPLETIONS: u32 = 4_096;

/// Half a megabyte of pointers.
const TABLE_MAX: u32 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_by_its_name() {
        fn check(errno: Errno, expected: &str) {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(refused("io_uring_setup", &error).to_string(), expected);
        }
        check(Errno::PERM, "io_uring_setup: EPERM, not permitted here");
        check(Errno::ACCESS, "io_uring_setup: EACCES, not permitted here");
        check(Errno::NOSYS, "io_uring_setup: ENOSYS, not offered here");
        check(Errno::NOMEM, "io_uring_setup: ENOMEM, the limit of locked memory");
        check(Errno::MFILE, "io_uring_setup: Too many open files (os error 24)");
    }

    #[test]
    fn releases_are_read_to_the_second_number() {
        fn check(release: &str, expected: (u32, u32)) {
            assert_eq!(version(release), expected, "{release:?}");
        }
        check("6.18.44-fc-v669", (6, 18));
        check("6.1.0-18-amd64", (6, 1));
        check("7.0-rc1", (7, 0));
        check("6", (6, 0));
        check("", (0, 0));
    }
}
